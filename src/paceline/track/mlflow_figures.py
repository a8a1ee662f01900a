"""The pictures that MLflow gets with a run's summary."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paceline.track.confusion import MOST_CLASSES, ConfusionPictures


@contextmanager
def logged_figures(confusion: Mapping[str, Any]) -> Iterator[list[Path]]:
    """Yield a PNG file per part with confusion counts (`{val: {classes, counts}}`), summed over the members."""
    with tempfile.TemporaryDirectory(prefix="paceline-figures-") as folder:
        paths = []
        for part, own in confusion.items():
            if len(own["classes"]) <= MOST_CLASSES:
                paths.append(Path(folder) / f"{part}_confusion.png")
                paths[-1].write_bytes(ConfusionPictures(own["classes"]).png(own["counts"]))
        yield paths
