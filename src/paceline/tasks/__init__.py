"""Tasks: pure functions from a model and a batch to predictions, loss sums and metric sums. Imports torch when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paceline.tasks.classification import Classification as Classification
    from paceline.tasks.regression import Regression as Regression

__all__ = ["Classification", "Regression"]


def __getattr__(name: str) -> Any:
    if name == "Classification":
        from paceline.tasks.classification import Classification

        return Classification
    if name == "Regression":
        from paceline.tasks.regression import Regression

        return Regression
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
