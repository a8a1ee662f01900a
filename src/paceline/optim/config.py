"""Sections for learning-rate schedules and gradient clipping."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from paceline.config import Section


class ScheduleConfig(Section):
    """How the learning rate moves, as a factor on `training.learning_rate`.

    `interval: epoch` changes it between epochs (epoch e of the warm-up trains at base x e / warmup_epochs), `step`
    before every optimizer step. Warm-up is given in epochs or as a ratio of the whole training, not both.
    `cosine_with_restarts` has `num_cycles` equal cycles or, where `t0` is given, a first one of so many epochs, each
    later one `t_mult` times as long as the one before.
    """

    name: Literal["none", "plateau", "linear", "cosine", "cosine_with_restarts"] = "none"
    interval: Literal["epoch", "step"] = "epoch"
    warmup_epochs: NonNegativeInt = 0
    warmup_ratio: float = Field(default=0.0, ge=0.0, lt=1.0)
    min_factor: float = Field(default=0.0, ge=0.0, le=1.0)  # linear and cosine end here, plateau never goes below
    num_cycles: PositiveInt = 2  # cosine_with_restarts; not looked at where t0 is given
    t0: PositiveInt | None = None  # cosine_with_restarts
    t_mult: PositiveInt = 1  # not looked at without t0
    factor: float = Field(default=0.5, gt=0.0, lt=1.0)  # plateau and its friends below
    patience: NonNegativeInt = 3
    threshold: NonNegativeFloat = 1e-3  # relative, as in torch's ReduceLROnPlateau
    cooldown: NonNegativeInt = 0
    observe: Literal["raw", "smoothed"] = "raw"  # which selection series plateau looks at

    @model_validator(mode="after")
    def _one_warmup(self) -> ScheduleConfig:
        if self.warmup_epochs and self.warmup_ratio:
            raise ValueError("give warmup_epochs or warmup_ratio, not both")
        if self.name == "plateau" and self.interval == "step":
            raise ValueError("plateau looks at epochs: use interval=epoch")
        return self


class ClipConfig(Section):
    """Gradient clipping: `norm` bounds the global 2-norm, `value` each element. `value: null` or 0 turns it off."""

    mode: Literal["norm", "value"] = "norm"
    value: NonNegativeFloat | None = None
