"""Config sections of the data: where it comes from, how it is split, how it is fed. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from paceline.config.section import Section
from paceline.errors import ConfigError

if TYPE_CHECKING:
    from paceline.data.dataset import Dataset

Rule = Literal["auto", "stratified", "group", "random", "time", "value"]
Missing = Literal["refuse", "mask"]
Reference = Literal["ceiling", "forest", "noise"]


class PartValues(Section):
    """Which values of a column make a part (rule `value`). What is named in neither list is the training part."""

    val: tuple[str | int | float, ...] = ()
    test: tuple[str | int | float, ...] = ()

    @model_validator(mode="after")
    def _disjoint(self) -> PartValues:
        both = {_plain(v) for v in self.val} & {_plain(v) for v in self.test}
        if both:
            raise ValueError(f"val and test both name {', '.join(sorted(both))}")
        return self


def _plain(value: str | int | float) -> str:
    """Return one text for 25, 25.0 and "25"."""
    try:
        return f"{float(value):.17g}"
    except ValueError:
        return str(value)


class SplitConfig(Section):
    """How samples are divided into a training, a validation and a test part.

    The test part comes first: the official one where the data has one, otherwise `test_fraction` of all samples
    by the rule. `val_fraction` is a fraction of what is then left; folds divide the same rest. A fraction counts
    groups for rule `group` and samples for every other rule.

    Rules: `auto` (stratified where there are classes, else random), `stratified` (class proportions kept), `group` (no
    group in two parts), `random`, `time` (the last samples in time validate and test), `value` (by the values of
    `column`: `group`, or the name of a column). With `value` and no `values.val`, `val_fraction` of the rest validates,
    or folds divide it: whole groups where the data has groups, else as for `auto`.
    """

    rule: Rule = "auto"
    seed: int = Field(default=42, ge=0, lt=2**32)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.0, ge=0, lt=1)
    open_test: bool = True  # False leaves the test part unopened: it is set aside and never evaluated
    column: str = "group"
    values: PartValues = PartValues()

    @model_validator(mode="after")
    def _values_belong_to_rule_value(self) -> SplitConfig:
        if self.rule == "value" and not (self.values.val or self.values.test):
            raise ValueError("rule `value` needs values.val or values.test: the values whose samples validate or test")
        if self.rule != "value" and (self.values.val or self.values.test):
            raise ValueError("values are used by rule `value` only")
        if self.rule == "value" and self.test_fraction > 0:
            raise ValueError("rule `value` takes its test part from values.test, not from test_fraction")
        return self


class LoaderConfig(Section):
    """How data reaches the device.

    num_workers: data in memory is fed without workers, so a larger number is reduced to 0. pin_memory: copy to a CUDA
    device through pinned memory; `auto` does not, as data in memory moves there once and whole.

    bucket_by_length: true makes batches of samples of similar length, each cut at its longest; the order still depends
    on (seed, fold, epoch) alone. `auto` keeps the order and only cuts (in evaluation too), where the mean length is
    below .8 of the longest and a trial shows that the model's results do not depend on padding. false: whole batches.
    """

    num_workers: int = Field(default=0, ge=0)
    pin_memory: Literal["auto"] | bool = "auto"
    bucket_by_length: Literal["auto"] | bool = "auto"


class TimeFeatures(Section):
    """Channels that say where in its sequence a step is; added to every sample, never scaled.

    `position`: 0 at the first step, 1 at the last valid one, so it needs the whole sequence. `elapsed`: steps since the
    first over the steps of the longest training sample. `periods`: two channels each, sine and cosine of that many
    steps a turn.
    """

    position: bool = False
    elapsed: bool = False
    periods: tuple[Annotated[float, Field(ge=2)], ...] = ()  # a shorter one is no longer a wave on whole steps

    @field_validator("periods")
    @classmethod
    def _distinct(cls, periods: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(periods)) < len(periods):
            raise ValueError("a period is given twice")
        return periods

    def names(self) -> tuple[str, ...]:
        """Names of the channels, in their order."""
        waves = [f"{wave} {period:g}" for period in self.periods for wave in ("sin", "cos")]
        return (*["position"] * self.position, *["elapsed"] * self.elapsed, *waves)


class DataConfig(Section, ABC):
    """The base of every data source: its own keys, and how its samples are split, prepared and fed.

    `scale`: `standard` subtracts the mean and divides by the standard deviation of each channel over the valid
    steps of the training part; `robust` compresses heavy tails before, by asinh of the distance to the median in units
    of the interquartile range. `duplicates`: what to do when two parts hold the same sample.

    `missing`: `refuse` makes a missing value (NaN) an error that names it. `mask` fills it with the last value before
    it of the same sample and channel, before the first with the training mean, and adds a channel of 0 and 1 for each
    channel with missing values; `load` then passes `missing="mask"` to `paceline.dataset`.

    `references`: what is measured on the same parts and shown beside the models. `forest`: a random forest on summaries
    of each channel. `ceiling`: the true class probabilities, where the data has them (`posterior`). `noise`: numeric
    targets without their noise, where the data has them (`clean`).
    """

    name: str
    split: SplitConfig = SplitConfig()
    loader: LoaderConfig = LoaderConfig()
    scale: Literal["standard", "robust", "none"] = "standard"
    duplicates: Literal["error", "warn"] = "error"
    missing: Missing = "refuse"
    time_features: TimeFeatures = TimeFeatures()
    references: tuple[Reference, ...] = ()

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data. Raises `DataError` where it cannot be used."""


class GivenData(DataConfig):
    """Data that came as Python objects. A choice of every recipe: `paceline.train(..., data=...)` makes it.

    classes: the names of the classes, where they came beside the data.
    """

    name: Literal["given"] = "given"
    classes: tuple[str, ...] = ()

    def load(self) -> Dataset:
        raise ConfigError("the data came as Python objects: it is not on disk", where="data=given",
                          hint="in Python: paceline.train(..., data=...), or resume(run, data=...)")  # fmt: skip
