"""Train several members in a process of its own: `python -m arms.members_worker ARM --members 2 --out FILE`.

`hand` and `lightning` train one member after another, `vmap` all at once. Written are the times at which the process
was ready and done, on the clock of time.time(), so that whoever started it can count its start-up.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from pathlib import Path
from types import ModuleType

import torch

from arms.workload import BATCH_SIZE, N_TRAIN, SEED, Clock, Workload, warm_up

DROPOUT = 0.1  # after the first ReLU, as in mlp_recipe.py
STEPS = N_TRAIN // BATCH_SIZE  # of an epoch


def one_after_another(arm: str, seeds: list[int], epochs: int) -> dict[str, object]:
    """Train each seed by itself, after one epoch that counts as start-up: a library's first fit loads what it needs."""
    module = importlib.import_module(f"arms.{arm}_arm")
    warm_up()
    fit(module, seeds[0], 1)
    ready, cpu = time.time(), time.process_time()
    losses = [fit(module, seed, epochs) for seed in seeds]
    done = time.time()
    busy = (time.process_time() - cpu) / (done - ready)
    seconds = (done - ready) / len(seeds) / epochs
    return {"ready": ready, "done": done, "epoch_seconds": seconds, "val_losses": losses, "cpu_share": busy}


def fit(module: ModuleType, seed: int, epochs: int) -> float:
    """Train one member with an arm of the step benchmark; return its validation loss."""
    with tempfile.TemporaryDirectory(prefix="bench-member-") as folder:
        outcome = module.run(Workload(epochs=epochs, seed=seed, dropout=DROPOUT), Clock(), Path(folder))
    assert outcome.steps == epochs * STEPS, f"{module.__name__} made {outcome.steps} steps"
    return outcome.val_loss


def together(seeds: list[int], epochs: int) -> dict[str, object]:
    """Train all seeds in one compiled graph."""
    from arms.vmap_arm import train

    ready = time.time()
    return {"ready": ready, "cpu_share": None, **train(Workload(epochs=epochs, dropout=DROPOUT), seeds)._asdict()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=("hand", "lightning", "vmap"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--members", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first member")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [SEED + args.first + k for k in range(args.members)]
    found = together(seeds, args.epochs) if args.arm == "vmap" else one_after_another(args.arm, seeds, args.epochs)
    args.out.write_text(json.dumps(found | {"threads": torch.get_num_threads()}), encoding="utf-8")


if __name__ == "__main__":
    main()
