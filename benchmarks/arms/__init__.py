"""What the benchmarks run.

`<library>_arm.py`: one training library each, `run(work, clock, folder) -> Outcome` for the same workload, timed by
`worker.py`. The others serve the benchmarks of cohorts: `cohort_arms.py`, `members_worker.py` and `vmap_arm.py` train
the MLP, `*_recipe.py` is what paceline trains, `commands.py` and `plan_ahead.py` its commands, `steps.py` single steps.
"""

from __future__ import annotations
