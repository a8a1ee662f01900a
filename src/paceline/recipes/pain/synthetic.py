"""`data=pain_synthetic`: sequences of the challenge's shape, made by a process whose Bayes rule is known.

    python -m paceline.recipes.pain.synthetic FOLDER    # such data as CSV files, for data=challenge

Shapes: N samples, T steps, F channels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paceline.data.config import DataConfig, Reference
from paceline.data.dataset import Dataset, dataset
from paceline.errors import DataError, PacelineError

if TYPE_CHECKING:
    from pandas import DataFrame

    from paceline.recipes.pain.teacher import Drawn

COUNTS = (511, 94, 56)  # samples of each class
CLASSES = ("no_pain", "low_pain", "high_pain")
SURVEY = tuple(f"pain_survey_{i}" for i in range(1, 5))
WORDS = ("n_legs", "n_hands", "n_eyes")
JOINTS = tuple(f"joint_{i:02d}" for i in range(31))
NUMBERS = np.array(["zero", "one", "two"])
TEST_COUNTS = (255, 47, 28)  # of the test file, half as many samples


class PainSynthetic(DataConfig):
    """661 samples of 160 steps and 38 channels in three classes (511, 94, 56), drawn from `seed` in under a second.

    Four survey answers and three numbers of legs, hands and eyes (0 to 2), 31 joints. Events, slow modulation and rates
    of change tell the class; means and extremes tell a part of it. The process knows the probability of each class
    (`paceline.recipes.pain.teacher`), so the results show the ceiling, and a random forest, beside the models.
    """

    name: Literal["pain_synthetic"] = "pain_synthetic"
    seed: int = Field(default=0, ge=0, lt=2**32)
    references: tuple[Reference, ...] = ("ceiling", "forest")

    def load(self) -> Dataset:
        """Draw the samples and, where it is asked for, the probability of each class given each."""
        from paceline.recipes.pain.teacher import draw, posterior

        drawn = draw(COUNTS, [self.seed])
        asked = "ceiling" in self.references
        return dataset(
            x=_channels(drawn),
            y=drawn.y,
            classes=CLASSES,
            channels=[*SURVEY, *WORDS, *JOINTS],
            posterior=posterior(drawn, np.array(COUNTS) / sum(COUNTS)) if asked else None,
            source=f"pain_synthetic, seed {self.seed}",
        )


def write_challenge(folder: Path | str, seed: int = 0) -> Path:
    """Write the data of `seed` in the challenge's layout into a new or empty folder and return it.

    train.csv (40 columns: sample_index, time, 38 channels) and train_labels.csv hold the samples of
    `data=pain_synthetic`; test.csv 330 other samples, sample_submission.csv the form of an answer for them, and
    test_labels.csv the truth. Legs, hands and eyes are words. Raises DataError where the folder cannot be filled.
    """
    from paceline.recipes.pain.teacher import draw

    folder = Path(folder)
    train, test = draw(COUNTS, [seed]), draw(TEST_COUNTS, [seed, 1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DataError("the folder is not empty", where=str(folder), hint="a new folder")
        for name, drawn in (("train", train), ("test", test)):
            _long(drawn).to_csv(folder / f"{name}.csv", index=False)
            _labels(drawn, np.array(CLASSES)[drawn.y]).to_csv(folder / f"{name}_labels.csv", index=False)
        _labels(test, np.full(len(test.y), CLASSES[0])).to_csv(folder / "sample_submission.csv", index=False)
    except OSError as error:
        raise DataError("the files cannot be written", where=str(folder), got=str(error)) from None
    return folder


def _channels(drawn: Drawn) -> NDArray[np.float64]:
    """Join the channels, (N, T, 38)."""
    words = np.repeat(drawn.words[:, None], drawn.survey.shape[1], axis=1)
    return np.concatenate([drawn.survey, words, drawn.joints], axis=2)


def _long(drawn: Drawn) -> DataFrame:
    """One row per sample and step."""
    import pandas as pd

    n, steps, _ = drawn.joints.shape
    columns: dict[str, Any] = {"sample_index": np.repeat(_ids(n), steps), "time": np.tile(np.arange(steps), n)}
    columns |= {name: drawn.survey[:, :, i].ravel() for i, name in enumerate(SURVEY)}
    columns |= {name: np.repeat(NUMBERS[drawn.words[:, i]], steps) for i, name in enumerate(WORDS)}
    columns |= {name: drawn.joints[:, :, i].ravel() for i, name in enumerate(JOINTS)}
    return pd.DataFrame(columns)


def _labels(drawn: Drawn, labels: NDArray[np.str_]) -> DataFrame:
    import pandas as pd

    return pd.DataFrame({"sample_index": _ids(len(drawn.y)), "label": labels})


def _ids(n: int) -> NDArray[np.str_]:
    return np.char.zfill(np.arange(n).astype(str), 3)


def main(argv: Sequence[str]) -> int:
    """The command: exit code 2 and a line on stderr where the folder cannot be filled."""
    prog = "python -m paceline.recipes.pain.synthetic"
    parser = argparse.ArgumentParser(prog=prog, description=write_challenge.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="as data.seed (default 0)")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error("--seed: a number from 0")
    try:
        folder = write_challenge(args.folder, args.seed)
    except PacelineError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"written: {', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
