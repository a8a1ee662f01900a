"""Config sections of the data: where it comes from, how it is split, how it is fed. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from paceline.config.section import Section

if TYPE_CHECKING:
    from paceline.data.dataset import Dataset

Rule = Literal["auto", "stratified", "group", "random", "time", "value"]


class PartValues(Section):
    """Which values of a column make a part (rule `value`). What is named in neither list is the training part."""

    val: tuple[str | int | float, ...] = ()
    test: tuple[str | int | float, ...] = ()

    @model_validator(mode="after")
    def _disjoint(self) -> PartValues:
        both = {str(v) for v in self.val} & {str(v) for v in self.test}
        if both:
            raise ValueError(f"val and test both name {', '.join(sorted(both))}")
        return self


class SplitConfig(Section):
    """How samples are divided into a training, a validation and a test part.

    The test part comes first: the official one where the data has one, otherwise `test_fraction` of all samples
    by the rule. `val_fraction` is a fraction of what is then left; folds divide the same rest. A fraction counts
    groups for rule `group` and samples for every other rule.

    Rules: `auto` (stratified where there are classes, else random), `stratified` (class proportions kept), `group` (no
    group in two parts), `random`, `time` (the last samples in time validate and test), `value` (by the values of
    `column`: `group`, or the name of a column).
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
        if self.rule == "value" and not self.values.val:
            raise ValueError("rule `value` needs values.val: the values whose samples validate")
        if self.rule != "value" and (self.values.val or self.values.test):
            raise ValueError("values are used by rule `value` only")
        if self.rule == "value" and self.test_fraction > 0:
            raise ValueError("rule `value` takes its test part from values.test, not from test_fraction")
        return self


class LoaderConfig(Section):
    """How data reaches the device.

    num_workers: data in memory is fed without workers, so a larger number is reduced to 0. pin_memory: copy to a CUDA
    device through pinned memory; `auto` does not, as data in memory moves there once and whole.
    """

    num_workers: int = Field(default=0, ge=0)
    pin_memory: Literal["auto"] | bool = "auto"


class DataConfig(Section, ABC):
    """The base of every data source: its own keys, and how its samples are split, fed and scaled.

    `scale`: `standard` subtracts the mean and divides by the standard deviation of each channel over the valid
    steps of the training part. `duplicates`: what to do when two parts hold the same sample.
    """

    name: str
    split: SplitConfig = SplitConfig()
    loader: LoaderConfig = LoaderConfig()
    scale: Literal["standard", "none"] = "standard"
    duplicates: Literal["error", "warn"] = "error"

    @abstractmethod
    def load(self) -> Dataset:
        """Read the data. Raises `DataError` where it cannot be used."""
