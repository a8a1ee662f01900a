"""The recipe `pain`: noisy, short, multi-channel time series, one class each."""

from __future__ import annotations

from pathlib import Path

from paceline.recipes.pain.config import ConvGru, Gru
from paceline.recipes.pain.data import Npz, Vowels
from paceline.run.recipe import Recipe

recipe = Recipe(
    name="pain",
    description="classify time series of several channels and variable length",
    data={"vowels": Vowels, "npz": Npz},
    models={"conv_gru": ConvGru, "gru": Gru},
    conf=Path(__file__).parent / "conf",
)
