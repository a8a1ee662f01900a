"""The local record, and TensorBoard, on a disk that is full: the same weights, and nothing lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from paceline.api.runs import resume
from paceline.run.folder import Run
from paceline.track.journal import Journal
from paceline.track.tensorboard import TensorBoard
from paceline.types import Record

from .forking import Ended, run_forked
from .kills import WHOLE
from .outcome import Row, skipped
from .runs import Tiny, differences
from .space import mount_more, mount_small, unmount, unmountable

PAGE = 4096
TRACKED = ("+tracking.tensorboard.figure_every_epochs=null",)
# what is small, the class that opens it, its folder in the run, and what a save that fails does
FAULTS: dict[str, tuple[type, str, tuple[str, ...]]] = {
    "TensorBoard": (TensorBoard, "tensorboard", ()),
    "log, training stops": (Journal, "logs", ()),
    "log, training goes on": (Journal, "logs", ("training.save.on_error=continue",)),
}


def full_trackers(sizes: int, *, folder: Path, faults: Sequence[str] = tuple(FAULTS)) -> Row:
    """Train with one of the folders on file systems of so many sizes; resume where there is room; compare."""
    reason = unmountable(folder / "mount")
    if reason:
        return skipped("trackers on a full disk", reason)
    row = Row(name="trackers on a full disk", aim="refused by the disk", planned=len(faults) * sizes)
    tiny = Tiny(folder=folder, engine="cohort", num_epochs=12, more=TRACKED)
    tiny.write_data()
    tiny.start(WHOLE)
    for name in faults:
        for pages in range(1, sizes + 1):
            _one(row, tiny, name, pages * PAGE)
    broken = Row(name="", aim="")
    _one(broken, tiny, "TensorBoard", PAGE, _forgetful)
    row.broken["a tracker that swallows its errors"] = broken.lost
    return row.judge(all_fired=row.fired == row.planned, disk_refused_some=row.landed >= len(faults))


def _one(row: Row, tiny: Tiny, fault: str, size: int, broken: Callable[[], Any] = nullcontext) -> None:
    owner, where, more = FAULTS[fault]
    own = Tiny(folder=tiny.folder, engine=tiny.engine, num_epochs=tiny.num_epochs, more=(*tiny.more, *more))
    name = f"full-{where}-{len(more)}-{size}"
    run, at = tiny.run(name), f"{fault} on {size} bytes"
    with broken():
        ended = run_forked(lambda: _train(own, name, owner, where, size))
        again = run_forked(lambda: resume(run.path)) if run.is_run() else ended
    told = ended.value if isinstance(ended.value, dict) else {}
    row.fired += told != {}
    row.landed += bool(told.get("full"))
    row.outcomes[f"{fault}: {told.get('error') or 'finished'}"] += 1
    _check(row, tiny, run, told, again, at)
    tiny.remove(name)


def _check(row: Row, tiny: Tiny, run: Run, told: dict[str, Any], again: Ended, at: str) -> None:
    if told.get("error") and not told["named"]:
        row.lose(f"{at}: {told['error']} instead of an error with a name: {' '.join(told['text'].split())}")
    if again.code != 0:
        row.lose(f"{at}: does not resume: {again.error} {' '.join(again.text.split())}")
        return
    whole = tiny.run(WHOLE)
    for difference in differences(run, whole):
        if not difference.endswith("config.training.save.on_error"):  # what this fault sets otherwise
            row.lose(f"{at}: {difference}")
    ours, theirs = points(run), points(whole)
    if ours != theirs:
        lost, doubled = (theirs - ours).total(), (ours - theirs).total()
        row.lose(f"{at}: TensorBoard lost {lost} points and has {doubled} too many")


def _train(tiny: Tiny, name: str, owner: type, where: str, size: int) -> dict[str, Any]:
    """Train in a namespace where one folder of the run is small; move what it holds to the real disk at the end."""
    mount_small(tiny.folder / "mount", PAGE)
    folder, real, mounted = tiny.run(name).path / where, owner.__init__, list[Path]()

    def opened(self: object, *args: Any, **options: Any) -> None:
        if not mounted:
            folder.mkdir(parents=True, exist_ok=True)
            mount_more(folder, size)
            mounted.append(folder)
        real(self, *args, **options)

    owner.__init__ = opened  # type: ignore[misc]
    told: dict[str, Any] = {"error": "", "named": True, "text": ""}
    try:
        tiny.start(name)
    except Exception as error:
        told = {"error": type(error).__name__, "named": hasattr(error, "exit_code"), "text": str(error)[:2000]}
    if not mounted:
        return {}
    content = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    unmount(folder)
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    full = sum(-(-len(data) // PAGE) * PAGE for data in content.values()) >= size
    return {**told, "full": full}


def points(run: Run) -> Counter[tuple[str, str, int, float]]:
    """Count the points that TensorBoard would show: member, tag, step, value."""
    from tensorboard.util.tensor_util import make_ndarray

    from paceline.track import event_file

    found: Counter[tuple[str, str, int, float]] = Counter()
    for folder in sorted((run.path / "tensorboard").glob("*")):
        for path in event_file.files(folder) if folder.is_dir() else ():
            for event, _ in event_file.read(path):
                for value in event.summary.value:
                    number = make_ndarray(value.tensor).item() if value.HasField("tensor") else value.simple_value
                    found[folder.name, value.tag, event.step, number] += 1
    return found


@contextmanager
def _forgetful() -> Iterator[None]:
    """The known-broken variant: a tracker that says it took what the disk refused, and does not look at its end."""
    before = TensorBoard.close, TensorBoard.scalars

    def scalars(self: TensorBoard, rows: Sequence[Record]) -> None:
        with suppress(OSError):
            before[1](self, rows)

    TensorBoard.close = lambda self, status: None  # type: ignore[method-assign]
    TensorBoard.scalars = scalars  # type: ignore[method-assign]
    try:
        yield
    finally:
        TensorBoard.close, TensorBoard.scalars = before  # type: ignore[method-assign]
