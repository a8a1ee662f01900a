"""The base section of a tracker."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from paceline.config import Section

if TYPE_CHECKING:
    from paceline.types import Tracker


class TrackerConfig(Section):
    """A tracker's section, `tracking.<name>`. It builds the tracker when `enabled`."""

    enabled: bool = False

    @abstractmethod
    def build(self, run_folder: Path) -> Tracker:
        """Return the tracker of one run; may raise PacelineError when it cannot be used."""


TRACKERS: dict[str, type[TrackerConfig]] = {}  # the built-in ones; a recipe or a --use file brings more
