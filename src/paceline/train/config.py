"""The `training`, `members` and `numerics` sections. They import no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from paceline.config import Section
from paceline.optim.config import ClipConfig, ScheduleConfig

FIRST_SEED = 42


class AmpConfig(Section):
    """Mixed precision. `auto` is on with CUDA and off elsewhere; float16 scales its gradients."""

    enabled: bool | Literal["auto"] = "auto"
    dtype: Literal["bfloat16", "float16"] = "bfloat16"


class SelectionConfig(Section):
    """Which epoch is kept. Improvement is judged on the smoothed series; the raw best is recorded beside it.

    `ema`: first value raw, then alpha x value + (1 - alpha) x ema. `median_ema`: the same over the causal median of the
    last three values, which an isolated spike cannot move. `tie: last` moves on to a later epoch of equal value.
    """

    metric: str = "val_loss"
    mode: Literal["auto", "min", "max"] = "auto"  # auto: min for losses and errors, max otherwise
    smoothing: Literal["none", "ema", "median_ema"] = "none"
    ema_alpha: float = Field(default=0.1, gt=0.0, le=1.0)
    min_delta: NonNegativeFloat = 0.0
    min_delta_mode: Literal["abs", "rel"] = "abs"
    tie: Literal["first", "last"] = "first"
    keep_optimizer: bool = False

    @field_validator("metric")
    @classmethod
    def _of_validation(cls, metric: str) -> str:
        if not metric.startswith("val_"):
            raise ValueError("selection looks at the validation part: the metric's name starts with val_")
        return metric

    @model_validator(mode="after")
    def _no_contradiction(self) -> SelectionConfig:
        if self.mode == "max" and lower_is_better(self.metric):
            raise ValueError(f"{self.metric} is better when lower, but mode is max")
        return self

    @property
    def maximise(self) -> bool:
        return self.mode == "max" or (self.mode == "auto" and not lower_is_better(self.metric))


def lower_is_better(metric: str) -> bool:
    """Tell losses and errors from scores, by the metric's canonical name."""
    return metric.partition("_")[2] in {"loss", "log_loss", "mse", "rmse", "mae", "mape", "max_ae"}


class EarlyStoppingConfig(Section):
    """Stop a member after `patience` evaluations without improvement of its smoothed selection metric."""

    enabled: bool = True
    patience: PositiveInt = 10


class SaveConfig(Section):
    """When a checkpoint is written, besides the end: by time, by optimizer steps, by epochs. null turns one off."""

    every_seconds: PositiveFloat | None = 30.0
    every_steps: PositiveInt | None = None
    every_epochs: PositiveInt | None = None
    keep_last: PositiveInt = 2


class EvaluateConfig(Section):
    """When the validation part is evaluated (at least at the end of the last epoch), and in batches of which size."""

    every_epochs: PositiveInt = 1
    batch_size: PositiveInt = 1024


class TrainingConfig(Section):
    """How every member trains."""

    num_epochs: PositiveInt = 60
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)  # sgd, Nesterov
    betas: tuple[float, float] = (0.9, 0.999)  # adamw, adam
    gradient_accumulation_steps: PositiveInt = 1
    engine: Literal["auto", "eager", "cohort"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    processes: PositiveInt | Literal["auto"] = "auto"
    gradient_clip: ClipConfig = ClipConfig()
    amp: AmpConfig = AmpConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    selection: SelectionConfig = SelectionConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    save: SaveConfig = SaveConfig()


class MembersConfig(Section):
    """The members of a run: every variant x seed x fold. `seeds: 5` means 42..46."""

    seeds: tuple[NonNegativeInt, ...] = (FIRST_SEED,)
    folds: int | None = Field(default=None, ge=2)
    vary: dict[str, tuple[Any, ...]] = {}
    split_seed: Literal["fixed", "per_seed"] = "fixed"

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_to_list(cls, seeds: Any) -> Any:
        if isinstance(seeds, str) and seeds.isdigit():
            seeds = int(seeds)
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if seeds < 1:
                raise ValueError("at least one seed is needed")
            return tuple(range(FIRST_SEED, FIRST_SEED + seeds))
        return seeds

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("at least one seed is needed")
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"seeds must differ, and {twice[0]} is given twice")
        return seeds

    @field_validator("vary")
    @classmethod
    def _some_choice(cls, vary: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in vary.items():
            if not values:
                raise ValueError(f"{key} has no values to vary over")
            if key.split(".")[0] == "members":
                raise ValueError(f"{key} cannot vary: the members are what is spanned")
        return vary


class NumericsConfig(Section):
    """Process-wide switches that can change bits; recorded, set for the run, put back afterwards."""

    threads: PositiveInt | Literal["auto"] = "auto"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"  # below `highest` CUDA uses TF32
    flush_denormal: bool = False
    deterministic: bool = True
