"""The arms of the cohort benchmark: each trains members of one MLP and returns a Row. The standard library alone."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arms.commands import ONE_THREAD, read, side_by_side, train, train_command, train_shorter

EPOCHS, STEPS, MEMBERS = 480, 250, 32  # 250 steps an epoch: 120,000 per member
USE = ["--use", "arms/mlp_recipe.py"]
COMPILED = ["training.engine=cohort", "training.compile=true", "numerics.threads=1"]
COHORTS = {"cohort1": 1, "cohort8": 8, "cohort32": 32, "cohort128": 128}
ARMS = ("hand", "vmap", "cohort32", "lightning", "eager", "cohort1", "cohort8", "cohort128", "hand1", "compiled1")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement of one arm."""

    arm: str
    members: int
    seconds: float  # for all members and 480 epochs, everything included
    epoch_seconds: float  # of all members, after the first epoch
    start_seconds: float  # what does not grow with the epochs: start-up, compilation, report
    val_loss: float  # after the last epoch, mean over members
    cpu_share: float | None = None  # processor time per wall time of a loop, one thread
    plan: str = ""

    @property
    def steady_us(self) -> float:
        """Microseconds of the whole machine per member and step (of one core for hand1 and compiled1)."""
        return self.epoch_seconds / STEPS / self.members * 1e6


@dataclass(frozen=True)
class Size:
    epochs: int  # that are trained; times are those of EPOCHS
    processes: int


def hand(size: Size, folder: Path, arm: str = "hand") -> Row:
    """Loops one member after another, two members in each process, scaled to 32."""
    found = workers(arm, 2, size.processes, size.epochs, folder)
    each = max(f["epoch_seconds"] for f in found)  # of one member
    share = -(-MEMBERS // size.processes)
    start = max(f["ready"] - f["spawned"] for f in found)
    return Row(
        arm=arm,
        members=MEMBERS,
        seconds=start + share * each * EPOCHS,
        epoch_seconds=share * each,
        start_seconds=start,
        val_loss=mean_loss(found),
        cpu_share=min(f["cpu_share"] for f in found),
    )


def lightning(size: Size, folder: Path) -> Row:
    return hand(size, folder, "lightning")


def hand1(size: Size, folder: Path) -> Row:
    """The loop alone on the machine."""
    (found,) = workers("hand", 1, 1, size.epochs, folder)
    start, each = found["ready"] - found["spawned"], found["epoch_seconds"]
    return Row(
        arm="hand1",
        members=1,
        seconds=start + each * EPOCHS,
        epoch_seconds=each,
        start_seconds=start,
        val_loss=mean_loss([found]),
        cpu_share=found["cpu_share"],
    )


def vmap(size: Size, folder: Path) -> Row:
    """The 32 members split over as many processes as cores, compiled in each."""
    found = workers("vmap", -(-MEMBERS // size.processes), size.processes, size.epochs, folder)
    each = max(f["epoch_seconds"] for f in found)
    seconds = max(f["done"] - f["spawned"] for f in found)
    return Row(
        arm="vmap",
        members=MEMBERS,
        seconds=seconds + (EPOCHS - size.epochs) * each,
        epoch_seconds=each,
        start_seconds=seconds - size.epochs * each,
        val_loss=mean_loss(found),
    )


def workers(arm: str, members: int, processes: int, epochs: int, folder: Path) -> list[dict[str, Any]]:
    """Run `arms.members_worker` in some processes at once; return what each wrote, and when it was started."""
    outs = [folder / f"{i}.json" for i in range(processes)]
    commands = [
        [sys.executable, "-m", "arms.members_worker", arm, "--out", str(out), "--epochs", str(epochs),
         "--members", str(members), "--first", str(i * members)]
        for i, out in enumerate(outs)
    ]  # fmt: skip
    spawned = side_by_side(commands, folder, ONE_THREAD)
    return [json.loads(out.read_text(encoding="utf-8")) | {"spawned": spawned} for out in outs]


def mean_loss(found: Sequence[Mapping[str, Any]]) -> float:
    return statistics.fmean(loss for f in found for loss in f["val_losses"])


def ours(arm: str, members: int, extra: Sequence[str], size: Size, folder: Path) -> Row:
    """One `paceline train`. For fewer epochs it has the plan of all 480, made beforehand and not counted."""
    wanted = ["task=mlp", f"members.seeds={members}", *extra]
    whole = size.epochs == EPOCHS
    done = train([*USE, *wanted], folder) if whole else train_shorter(USE, wanted, size.epochs, folder)
    if done.epochs != size.epochs:
        raise RuntimeError(f"{arm} trained for {done.epochs} epochs, not {size.epochs}")
    return Row(
        arm=arm,
        members=members,
        seconds=done.scaled(EPOCHS),
        epoch_seconds=done.epoch_seconds,
        start_seconds=done.seconds - size.epochs * done.epoch_seconds,
        val_loss=done.val_loss,
        plan=done.plan,
    )


def eager(size: Size, folder: Path) -> Row:
    """The eager engine: as many commands at once as cores, two members in each, scaled to 32."""
    seeds = [[42 + 2 * i, 43 + 2 * i] for i in range(size.processes)]
    commands = [
        train_command(
            [*USE, f"members.seeds={pair}", "training.engine=eager", "numerics.threads=1",
             f"training.num_epochs={size.epochs}"], folder, f"run{i}",
        )
        for i, pair in enumerate(seeds)
    ]  # fmt: skip
    spawned = side_by_side(commands, folder, {})
    seconds = time.time() - spawned
    done = [read(folder / f"run{i}", seconds, 0.0) for i in range(size.processes)]
    each = max(d.epoch_seconds for d in done) / 2  # of one member
    share = -(-MEMBERS // size.processes)
    start = seconds - 2 * size.epochs * each
    return Row(
        arm="eager",
        members=MEMBERS,
        seconds=start + share * each * EPOCHS,
        epoch_seconds=share * each,
        start_seconds=start,
        val_loss=statistics.fmean(d.val_loss for d in done),
        plan=done[0].plan,
    )


def measure(arm: str, size: Size) -> Row:
    """Run one arm, its compiler's cache empty. Raises RuntimeError with the end of its output."""
    peers: dict[str, Callable[[Size, Path], Row]] = {
        "hand": hand, "lightning": lightning, "vmap": vmap, "eager": eager, "hand1": hand1
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix=f"bench-{arm}-") as name:
        if arm in peers:
            return peers[arm](size, Path(name))
        return ours(arm, COHORTS.get(arm, 1), COMPILED if arm == "compiled1" else [], size, Path(name))
