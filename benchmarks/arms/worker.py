"""Run one arm once, in a process of its own, and write a Measurement: `python -m arms.worker ARM --out FILE`."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import tempfile
import time
from pathlib import Path

import torch

from arms.workload import Clock, Measurement, Workload, warm_up


def measure(arm: str, *, epochs: int, threads: int) -> Measurement:
    """Train the workload once with one library; its import and set-up stay outside the clock."""
    torch.set_num_threads(threads)
    module = importlib.import_module(f"arms.{arm}_arm")
    warm_up()
    clock, work = Clock(), Workload(epochs=epochs)
    with tempfile.TemporaryDirectory(prefix=f"bench-step-{arm}-") as name:
        started = time.perf_counter()
        outcome = module.run(work, clock, Path(name))
        whole_seconds = time.perf_counter() - started
        save_seconds = module.save_seconds(Path(name)) if hasattr(module, "save_seconds") else clock.save_seconds
    return Measurement(
        arm=arm,
        steps=outcome.steps,
        us_per_step=clock.wall_seconds / outcome.steps * 1e6,
        cpu_us_per_step=clock.cpu_seconds / outcome.steps * 1e6,
        around_ms=(whole_seconds - clock.wall_seconds) * 1e3,
        save_ms=None if save_seconds is None else save_seconds * 1e3,
        val_loss=outcome.val_loss,
        threads=torch.get_num_threads(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    measurement = measure(args.arm, epochs=args.epochs, threads=args.threads)
    args.out.write_text(json.dumps(dataclasses.asdict(measurement)), encoding="utf-8")


if __name__ == "__main__":
    main()
