"""The `training`, `members` and `numerics` sections. They import no torch."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, Literal

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
MOST_MEMBERS = 10_000


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
    """Stop a member after `patience` evaluations without improvement of its smoothed selection metric.

    Evaluations in the first `grace_after_restart` epochs after a restart of the schedule do not count: a learning rate
    that is back at its peak makes the metric worse for a while.
    """

    enabled: bool = True
    patience: PositiveInt = 10
    grace_after_restart: NonNegativeInt = 0


class WeightAverageConfig(Section):
    """Averages of a member's weights over its training.

    Training goes on with the weights themselves; the average is evaluated, selected, kept as best and published.

    `ema` (Polyak and Juditsky, 1992): after every optimizer step average = d x average + (1 - d) x weights, where the
    n-th step (from 0) has d = min(decay, (1 + n) / (10 + n)), so that a short training is not ruled by its first
    weights. `swa` (Izmailov et al., 2018): the plain mean of the weights at the ends of epochs, from `start_epoch` on:
    an epoch (from 1), or below 1 that share of `num_epochs`, rounded up; before it the weights themselves stand in.

    Statistics of normalisation and other floating-point buffers are averaged in the same way, integers are copied.
    """

    name: Literal["none", "ema", "swa"] = "none"
    decay: float = Field(default=0.999, ge=0.0, lt=1.0)  # ema
    start_epoch: NonNegativeFloat = 0.75  # swa

    @model_validator(mode="after")
    def _an_epoch_is_whole(self) -> WeightAverageConfig:
        if self.start_epoch > 1 and not self.start_epoch.is_integer():
            raise ValueError("start_epoch is an epoch (1, 2, ...) or, below 1, a share of all epochs")
        return self

    def first_epoch(self, num_epochs: int) -> int:
        """The first epoch (from 1) whose weights count in the mean of `swa`."""
        start = self.start_epoch * num_epochs if self.start_epoch < 1 else self.start_epoch
        return max(1, math.ceil(round(start, 9)))  # rounded: .1 x 30 is 3.0000000000000004


class AugmentConfig(Section):
    """Random changes of training samples, never of those that are evaluated; off while every kind is.

    Each kind is applied to each sample with `probability`, anew in every epoch. Amounts are in units of the channel as
    the model sees it, so standard deviations with `data.scale=standard`.

    jitter: standard deviation of noise on every value. scale: of a factor around 1, per sample and channel. shift: of
    an offset, per sample and channel. flip: the `sign` of every value, or the order in `time`. time_mask: one run of
    steps becomes 0, of at most this share of the sample's steps. classes, channels: names of those to change (empty:
    all); flips of time and time masks are of all channels.
    """

    probability: float = Field(default=0.5, gt=0.0, le=1.0)
    jitter: NonNegativeFloat = 0.0
    scale: NonNegativeFloat = 0.0
    shift: NonNegativeFloat = 0.0
    flip: Literal["none", "sign", "time"] = "none"
    time_mask: float = Field(default=0.0, ge=0.0, lt=1.0)
    classes: tuple[str | int, ...] = ()
    channels: tuple[str | int, ...] = ()

    @property
    def on(self) -> bool:
        return self.flip != "none" or max(self.jitter, self.scale, self.shift, self.time_mask) > 0


class OversampleConfig(Section):
    """How often training sees a sample in an epoch: `factor` times if of `classes`, else once.

    classes: names; empty: all that are rarer in the training part than its most frequent one. factor: a number, or
    `balanced`: as often as brings each of these classes nearest to the most frequent one. Balanced class weights of a
    loss are those of the samples so repeated; scaling, splits and evaluation know nothing of it.
    """

    factor: int | Literal["balanced"] = 1
    classes: tuple[str | int, ...] = ()

    @field_validator("factor", mode="before")
    @classmethod
    def _whole(cls, factor: Any) -> Any:
        if factor == "balanced" or (isinstance(factor, int) and not isinstance(factor, bool) and factor >= 1):
            return factor
        raise ValueError("how often must be a whole number from 1 on, or `balanced`")


class SaveConfig(Section):
    """When a checkpoint is written, besides the end: by time, by optimizer steps, by epochs. null turns one off.

    keep_every: also every so many steps, and these stay; of the others the last `keep_last` do. asynchronous: a thread
    writes a copy of the state while training goes on (`auto`: where the copy takes at most 1 GiB); the save at the end
    and one that was asked for are waited for. best_at_once: `best.pt` at every improvement, not only at the end.
    on_error: what follows when the disk refuses: `continue` warns, once.
    """

    every_seconds: PositiveFloat | None = 30.0
    every_steps: PositiveInt | None = None
    every_epochs: PositiveInt | None = None
    keep_last: PositiveInt = 2
    keep_every: PositiveInt | None = None
    asynchronous: bool | Literal["auto"] = "auto"
    best_at_once: bool = False
    on_error: Literal["stop", "continue"] = "stop"


class DivergenceConfig(Section):
    """What becomes of a member whose training loss or gradient is not finite. The others never notice.

    `abort`: the member fails at the next evaluation. `skip`: an optimizer step whose gradient is not finite is left
    out, with the loss of its samples; after `max_skips` in a row the member fails. `rollback`: the member goes on from
    its state at the last evaluation with finite losses, at its learning rate x `factor`, at most `max_rollbacks` times;
    the epochs in between are spent. An epoch whose training loss is not finite is never selected.
    """

    policy: Literal["abort", "skip", "rollback"] = "abort"
    max_skips: PositiveInt = 20
    max_rollbacks: PositiveInt = 3
    factor: float = Field(default=0.5, gt=0.0, le=1.0)


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
    memory_gb: PositiveFloat | Literal["auto"] = "auto"  # of all cohorts side by side; auto: half of the device's
    gradient_clip: ClipConfig = ClipConfig()
    amp: AmpConfig = AmpConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    selection: SelectionConfig = SelectionConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    weight_average: WeightAverageConfig = WeightAverageConfig()
    augment: AugmentConfig = AugmentConfig()
    oversample: OversampleConfig = OversampleConfig()
    divergence: DivergenceConfig = DivergenceConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    init_from: str | None = None  # weights to begin with: best.pt, a run folder, .safetensors
    log_grad_norm: bool | Literal["auto"] = "auto"  # auto: where gradients are clipped by their norm
    log_batches: bool = False  # a hash of every step's batches, in logs/<cohort>.batches
    save: SaveConfig = SaveConfig()

    @model_validator(mode="after")
    def _an_average_of_something(self) -> TrainingConfig:
        average = self.weight_average
        if average.name == "swa" and average.first_epoch(self.num_epochs) > self.num_epochs:
            raise ValueError(f"weight_average.start_epoch is after the last of {self.num_epochs} epochs")
        return self

    @property
    def logs_grad_norm(self) -> bool:
        """Whether the mean norm of the gradients before clipping is in the record of every epoch."""
        if self.log_grad_norm == "auto":
            return bool(self.gradient_clip.value) and self.gradient_clip.mode == "norm"
        return self.log_grad_norm

    @model_validator(mode="after")
    def _one_judge_of_steps(self) -> TrainingConfig:
        if self.divergence.policy == "skip" and self.amp.enabled is not False and self.amp.dtype == "float16":
            raise ValueError("divergence.policy=skip: with float16 the gradient's scaling leaves out such steps itself")
        return self


class MembersConfig(Section):
    """The members of a run: every variant x seed x fold. `seeds: 5` means 42..46."""

    seeds: tuple[NonNegativeInt, ...] = (FIRST_SEED,)
    folds: int | None = Field(default=None, ge=2, le=MOST_MEMBERS)
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
            if seeds > MOST_MEMBERS:
                raise ValueError(f"at most {MOST_MEMBERS:,} seeds")
            return tuple(range(FIRST_SEED, FIRST_SEED + seeds))
        return seeds

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("at least one seed is needed")
        twice = sorted(seed for seed, times in Counter(seeds).items() if times > 1)
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

    threads: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"  # below `highest` CUDA uses TF32
    flush_denormal: bool = False
    deterministic: bool = True
