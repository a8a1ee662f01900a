"""Gradient training: read `loop.py` first, then `engine_eager.py`; `selection.py` decides which epoch is kept."""
