"""TensorBoard with the guide's tags: event files in the run folder, or a writer that was given."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paceline.config.tree import Tree, read_yaml
from paceline.errors import ConfigError
from paceline.recipes.pain.compat.config import value
from paceline.recipes.pain.recipe import recipe
from paceline.track.confusion import ConfusionPictures
from paceline.track.names import Names

if TYPE_CHECKING:
    from paceline.types import Record

LOG = logging.getLogger("paceline")


def sections(config: Mapping[str, Any]) -> Tree:
    """Return the section `tracking`: TensorBoard if `tensorboard` is true and the package is there."""
    if not value(config, "tensorboard"):
        return {}
    if importlib.util.find_spec("tensorboard") is None:
        LOG.warning("the package tensorboard is not installed, so there are no event files: pip install tensorboard")
        return {}
    return {"tensorboard": {"tags": tags(config)}}


def tags(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the guide's tags by canonical name; without a smoothed macro F1 there is none for it."""
    assert recipe.conf is not None
    found: dict[str, str] = read_yaml(recipe.conf / "tracking" / "tensorboard_pain.yaml")["tensorboard"]["tags"]
    if value(config, "metric_for_best") != "macro_f1" or value(config, "smoothing") == "none":
        found.pop("val_f1_macro_smoothed")
    return found


class WriterTracker:
    """Logs to a user's `SummaryWriter`, under the guide's tags, over epochs. The writer stays open."""

    def __init__(self, writer: Any, config: Mapping[str, Any], classes: Sequence[str]) -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise ConfigError("the writer has no method add_scalar", where="fit_model(writer=...)",
                              got=type(writer).__name__, hint="torch.utils.tensorboard.SummaryWriter")  # fmt: skip
        self._writer, self._classes = writer, tuple(classes)
        self._names = Names(tags=tags(config), classes=self._classes)
        self._pictures: ConfusionPictures | None = None
        self._draws = callable(getattr(writer, "add_image", None))

    def scalars(self, rows: Sequence[Record]) -> None:
        """Log scalars, then the confusion matrix, of each record of the training."""
        for record in rows:
            points = self._names.points(record) if record.split in ("train", "val") else []
            for tag, found in points:
                if not isinstance(found, list):
                    self._writer.add_scalar(tag, found, record.epoch)
            for tag, found in points:
                if isinstance(found, list) and self._draws:
                    self._draw(tag, found, record.epoch)

    def figure(self, name: str, path: str, step: int) -> None:
        """Nothing to do: paceline has no figures besides the confusion matrix."""

    def artefact(self, name: str, path: str) -> None:
        """TensorBoard shows no files."""

    def close(self, status: str) -> None:
        """Write out what is buffered."""
        if callable(getattr(self._writer, "flush", None)):
            self._writer.flush()

    def _draw(self, tag: str, counts: list[list[int]], epoch: int) -> None:
        try:
            if self._pictures is None:
                self._pictures = ConfusionPictures(self._classes)
            self._writer.add_image(tag, self._pictures.pixels(counts), epoch, dataformats="HWC")
        except Exception as error:  # without matplotlib, with too many classes: the scalars go on
            self._draws = False
            LOG.warning("the writer gets no confusion matrices: %s: %s", type(error).__name__, error)
