"""The recipe `pain`: noisy, short, multi-channel time series, one class each."""

from __future__ import annotations

from pathlib import Path

from paceline.recipes.pain.challenge import Challenge
from paceline.recipes.pain.config import MODELS
from paceline.recipes.pain.data import Npz, Vowels
from paceline.recipes.pain.synthetic import PainSynthetic
from paceline.recipes.pain.ts import Ts
from paceline.run.recipe import Recipe

recipe = Recipe(
    name="pain",
    description="classify time series of several channels and variable length",
    data={"vowels": Vowels, "npz": Npz, "challenge": Challenge, "ts": Ts, "pain_synthetic": PainSynthetic},
    models=MODELS,
    conf=Path(__file__).parent / "conf",
)
