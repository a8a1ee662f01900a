"""One module per training library, each with `run(work, clock, folder) -> Outcome` for the same workload."""
