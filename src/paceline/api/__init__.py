"""The library face: `runs` (train, resume), `trainer` (a model of one's own), `using` (evaluate, predict)."""
