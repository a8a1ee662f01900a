"""The base section of a tracker."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from paceline.config import Section
from paceline.errors import ConfigError

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


TRACKERS: dict[str, type[TrackerConfig]] = {}  # the built-in ones; a recipe or a --use file brings more
