"""Losses as sums and weights, and the registry that a config chooses from. Importing this needs no torch."""

from __future__ import annotations

from paceline.losses.config import (
    CrossEntropyConfig,
    FocalConfig,
    HuberConfig,
    LossConfig,
    MaeConfig,
    MapeConfig,
    MseConfig,
    PhysicsInformedConfig,
    QuantileConfig,
)

LOSSES: dict[str, type[LossConfig]] = {
    "cross_entropy": CrossEntropyConfig,
    "focal": FocalConfig,
    "mse": MseConfig,
    "physics_informed": PhysicsInformedConfig,
    "huber": HuberConfig,
    "mape": MapeConfig,
    "mae": MaeConfig,
    "quantile": QuantileConfig,
}

__all__ = [
    "LOSSES", "CrossEntropyConfig", "FocalConfig", "HuberConfig", "LossConfig", "MaeConfig", "MapeConfig", "MseConfig",
    "PhysicsInformedConfig", "QuantileConfig",
]  # fmt: skip
