"""The base section of a tracker."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt, field_serializer, field_validator

from paceline.config import Section
from paceline.errors import ConfigError, without_credentials

if TYPE_CHECKING:
    from paceline.types import Tracker


class TrackerConfig(Section):
    """A tracker's section, `tracking.<name>`. It builds the tracker unless `enabled` is false."""

    enabled: bool = True  # a section is there because somebody named it

    @abstractmethod
    def build(self, run_folder: Path) -> Tracker:
        """Return the tracker of one run; may raise PacelineError when it cannot be used."""


METHODS = ("scalars(rows)", "figure(name, path, step)", "artefact(name, path)", "close(status)")


def check_tracker(tracker: object, where: str) -> None:
    """Raise ConfigError unless an object has the four methods of a tracker."""
    if isinstance(tracker, type):
        raise ConfigError("the tracker is a class, not an object", where=where, got=tracker.__name__,
                          hint=f"{tracker.__name__}(...)")  # fmt: skip
    missing = [method for method in METHODS if not callable(getattr(tracker, method.partition("(")[0], None))]
    if missing:
        raise ConfigError(f"the tracker has no method {', '.join(missing)}", where=where, got=type(tracker).__name__,
                          hint="a method of that name; one that does nothing will do")  # fmt: skip


class TensorBoardConfig(TrackerConfig):
    """TensorBoard: event files in `<run>/tensorboard/<member>/`. Needs the package tensorboard.

    tags: a group's own tags by canonical name (`val_f1_macro: F1/macro`); per-class values become `<tag>/<class>`; null
    leaves a value out. axis: what points are plotted over. figure_every_epochs: how often the confusion matrix of the
    validation part is drawn; null: never.
    """

    tags: dict[str, str | None] = {}
    axis: Literal["epoch", "step"] = "epoch"
    figure_every_epochs: PositiveInt | None = 1

    @field_validator("tags")
    @classmethod
    def _distinct(cls, tags: dict[str, str | None]) -> dict[str, str | None]:
        given = [tag for tag in tags.values() if tag is not None]
        twice = next((tag for tag in given if given.count(tag) > 1), None)
        if twice is not None:
            raise ValueError(f"two values have the tag {twice!r}")
        if not all(tag.strip() for tag in given):
            raise ValueError("a tag is empty: null leaves a value out")
        return tags

    def build(self, run_folder: Path) -> Tracker:
        from paceline.track.tensorboard import TensorBoard

        return TensorBoard(run_folder, self)


class MlflowConfig(TrackerConfig):
    """MLflow: a parent run with a child per member. Needs the package mlflow.

    uri: a folder (`./mlruns`, `file:./mlruns`), which is served by SQLite in it, a database, or a server; null: what
    MLFLOW_TRACKING_URI says, else the folder `mlruns` beside the run folders. Its credentials are kept out of every
    file. experiment: its name; null: the task's. axis: what points are plotted over. checkpoints: send each member's
    `best.pt`. tags: tags of your own for the parent run. every_seconds: how often values are sent. timeout_seconds: how
    long a server may take to answer.
    """

    uri: str | None = None
    experiment: str | None = None
    axis: Literal["epoch", "step"] = "epoch"
    checkpoints: bool = False
    tags: dict[str, str] = {}
    every_seconds: NonNegativeFloat = 5.0
    timeout_seconds: PositiveInt = 5

    @field_validator("uri", "experiment")
    @classmethod
    def _says_something(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("it is empty: null is the default")
        return text

    @field_serializer("uri")
    def _without_credentials(self, uri: str | None) -> str | None:
        return None if uri is None else without_credentials(uri)

    def build(self, run_folder: Path) -> Tracker:
        from paceline.track.mlflow import Mlflow

        return Mlflow(run_folder, self)


class WandbConfig(TrackerConfig):
    """Weights & Biases: a run per member, together in a group. Needs the package wandb.

    mode: `offline` keeps them in `wandb/` beside the run folders, for `wandb sync`; null: what WANDB_MODE says, else
    offline. project: null: the task's name. axis: what points are plotted over.
    """

    mode: Literal["offline", "online"] | None = None
    project: str | None = None
    entity: str | None = None
    axis: Literal["epoch", "step"] = "epoch"

    def build(self, run_folder: Path) -> Tracker:
        from paceline.track.wandb import Wandb

        return Wandb(run_folder, self)


# The built-in ones; a recipe or a --use file brings more.
TRACKERS: dict[str, type[TrackerConfig]] = {
    "tensorboard": TensorBoardConfig,
    "mlflow": MlflowConfig,
    "wandb": WandbConfig,
}
CONF = Path(__file__).parent / "conf"  # options of several trackers: tracking=dual
