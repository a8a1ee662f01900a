"""Augmentation of training samples, as a function of (batch, key): the same alone and in a cohort.

Shapes: B batch, T time, F features. Masks are (B, T) bool, True on the valid steps, which come first.

Jitter, scaling and flipping (as a rotation) are those of Um et al., Data augmentation of wearable sensor data for
Parkinson's disease monitoring using convolutional neural networks, ICMI 2017; the time mask is that of Park et al.,
SpecAugment, Interspeech 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paceline.config.suggest import hint
from paceline.errors import ConfigError
from paceline.models.keyed import below, normal, subkey, uniform
from paceline.models.recurrent import lengths, reverse_valid, zero_padding
from paceline.train.config import AugmentConfig
from paceline.types import DataSpec

if TYPE_CHECKING:
    from paceline.types import Batch

SITE = "(augment)"  # where the key comes from, beside the paths of a model's modules, which have no brackets
FLIP, SCALE, SHIFT, JITTER, TIME_MASK = range(5)  # the order in which they are applied
DRAWS = 3  # per kind, each with a key of its own: whether, and up to two values


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What `AugmentConfig` asks for, with classes and channels as indices; empty means all of them."""

    config: AugmentConfig
    classes: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()

    def __call__(self, batch: Batch, key: Tensor) -> Batch:
        """Return the batch with another `x`. key: int32 ()."""
        config, x_BTF, mask_BT = self.config, batch["x"], batch.get("mask")
        x = x_BTF
        for kind, on in enumerate((config.flip != "none", config.scale, config.shift, config.jitter, config.time_mask)):
            if on:
                chosen_B11 = self._chosen(batch, subkey(key, DRAWS * kind))[:, None, None]
                draws = subkey(key, DRAWS * kind + 1), subkey(key, DRAWS * kind + 2)
                x = torch.where(chosen_B11, self._changed(kind, x, mask_BT, *draws), x)
        return batch | {"x": zero_padding(x, mask_BT)}

    def _chosen(self, batch: Batch, key: Tensor) -> Tensor:
        """Return which samples are changed, bool (B,)."""
        chosen_B = uniform(batch["x"].shape[:1], key, torch.float32) < self.config.probability
        if not self.classes:
            return chosen_B
        y_B = batch["y"]
        return chosen_B & torch.stack([y_B == c for c in self.classes]).any(0)

    def _changed(self, kind: int, x: Tensor, mask_BT: Tensor | None, key: Tensor, second: Tensor) -> Tensor:
        """Return every sample changed in one way."""
        if kind == TIME_MASK:
            return torch.where(time_mask(x, mask_BT, self.config.time_mask, key, second)[:, :, None], 0, x)
        if kind == FLIP and self.config.flip == "time":
            return reverse_valid(x, mask_BT)
        if kind == FLIP:
            changed = -x
        elif kind == SCALE:
            changed = x * (1 + self.config.scale * normal((x.shape[0], 1, x.shape[2]), key, x.dtype))
        elif kind == SHIFT:
            changed = x + self.config.shift * normal((x.shape[0], 1, x.shape[2]), key, x.dtype)
        else:
            changed = x + self.config.jitter * normal(x.shape, key, x.dtype)
        return changed if not self.channels else torch.where(self._of_channels(x), changed, x)

    def _of_channels(self, x: Tensor) -> Tensor:
        """Return which channels are changed, bool (F,)."""
        channel_F = torch.arange(x.shape[-1], device=x.device)
        return torch.stack([channel_F == c for c in self.channels]).any(0)


def time_mask(x: Tensor, mask_BT: Tensor | None, most: float, key: Tensor, second: Tensor) -> Tensor:
    """Return the steps to hide, bool (B, T): one run per sample, of 0 to `most` of its valid steps, each as likely.

    `most` counts in thousandths.
    """
    batch, steps, _ = x.shape
    step_T = torch.arange(steps, device=x.device)
    length_B = torch.full((batch,), steps, device=x.device) if mask_BT is None else lengths(mask_BT)
    run_B = below(length_B * round(most * 1000) // 1000 + 1, (batch,), key)
    start_B1 = below(length_B - run_B + 1, (batch,), second)[:, None]
    return (step_T >= start_B1) & (step_T < start_B1 + run_B[:, None])


def augment_of(config: AugmentConfig, spec: DataSpec) -> Augment | None:
    """Return the augmentation for data of this shape, None where all kinds are off.

    Raises ConfigError for classes or channels that the data does not have, and where samples are no sequences.
    """
    if not config.on:
        return None
    shape = spec.shapes.get("x", ())
    if len(shape) != 2:
        raise ConfigError("augmentation needs sequences (samples, steps, channels)", where="training.augment",
                          got=f"x of shape (samples, {', '.join(map(str, shape))})")  # fmt: skip
    classes = indices(config.classes, spec.classes, "class", "training.augment.classes")
    channels = indices(config.channels, spec.channels, "channel", "training.augment.channels")
    return Augment(config=config, classes=classes, channels=channels)


def indices(wanted: Sequence[str | int], names: Sequence[str], word: str, where: str) -> tuple[int, ...]:
    """Return the indices of some names. Raises ConfigError for one that is not among them."""
    for name in wanted:
        if str(name) not in names:
            fix = hint(str(name), names) if names else f"leave this key out: the data has no {word} names"
            raise ConfigError(f"the data has no {word} of that name", where=where, got=name, hint=fix)
    return tuple(names.index(str(name)) for name in wanted)
