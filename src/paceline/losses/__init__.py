"""Losses as sums and weights, and the registry that a config chooses from. Importing this needs no torch."""

from __future__ import annotations

from paceline.losses.config import CrossEntropyConfig, FocalConfig, LossConfig, MaeConfig, MseConfig

LOSSES: dict[str, type[LossConfig]] = {
    "cross_entropy": CrossEntropyConfig,
    "focal": FocalConfig,
    "mse": MseConfig,
    "mae": MaeConfig,
}

__all__ = ["LOSSES", "CrossEntropyConfig", "FocalConfig", "LossConfig", "MaeConfig", "MseConfig"]
