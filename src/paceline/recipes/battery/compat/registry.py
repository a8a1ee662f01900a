"""`BaseLoss`, and `LossRegistry`: losses by name. Names added here hold for this process."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from paceline.config.suggest import hint, nearest
from paceline.errors import ConfigError

REDUCTIONS = ("mean", "sum", "none")
BUILT_IN = {  # in the order of the guide's table
    "mse": "MSELoss",
    "physics_informed": "PhysicsInformedLoss",
    "huber": "HuberLoss",
    "mape": "PercentageLoss",
    "mae": "MAELoss",
}

Made = TypeVar("Made", bound="type[BaseLoss]")


class LossNameError(ConfigError, ValueError):
    """A loss that does not exist, a name that is taken, or a value that a loss does not allow."""


class LossParameterError(ConfigError, TypeError):
    """A parameter that a loss does not have."""


class BaseLoss(nn.Module, ABC):
    """A loss with a reduction: `mean`, `sum` or `none`. A loss of one's own derives from it and writes `forward`.

    `forward(pred, target, t=None)` may also take `mask`, (B, T), True on valid steps, and is then given it. With
    `self.reduce(values)` it does what `reduction` says. In training, a loss that returns one value per sample or step
    is averaged over them.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "reduction" and value not in REDUCTIONS:
            raise LossNameError("there is no such reduction", where=f"{type(self).__name__}(reduction=...)", got=value,
                                hint=", ".join(REDUCTIONS))  # fmt: skip
        super().__setattr__(name, value)

    @abstractmethod
    def forward(self, pred: Tensor, target: Tensor, t: Tensor | None = None) -> Tensor:
        """Return the loss of predictions against targets of the same shape."""

    def reduce(self, values: Tensor) -> Tensor:
        """Return values reduced as `reduction` says."""
        if self.reduction == "none":
            return values
        return values.mean() if self.reduction == "mean" else values.sum()


class LossRegistry:
    """Losses by name: the five of the guide, and those that `register` adds."""

    _added: ClassVar[dict[str, type[BaseLoss]]] = {}

    @classmethod
    def list_available(cls) -> list[str]:
        """Return all names, the built-in ones first."""
        return [*BUILT_IN, *cls._added]

    @classmethod
    def get_class(cls, name: str) -> type[BaseLoss]:
        """Return the class of a name. Raises ValueError listing those that there are."""
        if name in cls._added:
            return cls._added[name]
        if name not in BUILT_IN:
            raise LossNameError("there is no loss of that name", where="loss", got=name,
                                hint=_listed(name, cls.list_available()))  # fmt: skip
        found: type[BaseLoss] = getattr(importlib.import_module(f"{__package__}.losses"), BUILT_IN[name])
        return found

    @classmethod
    def get(cls, name: str, **parameters: Any) -> BaseLoss:
        """Return a loss. Raises ValueError for an unknown name, TypeError naming an unknown parameter."""
        kind = cls.get_class(name)
        known = inspect.signature(kind).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
        for parameter in parameters:
            if parameter not in known and not takes_any:
                raise LossParameterError("the loss has no such parameter", where=f"loss {name}", got=parameter,
                                         hint=hint(parameter, known))  # fmt: skip
        return kind(**parameters)

    @classmethod
    def register(cls, name: str) -> Callable[[Made], Made]:
        """Return a decorator that makes a class known. Raises ValueError for a name that another class has."""

        def add(kind: Made) -> Made:
            if not (isinstance(kind, type) and issubclass(kind, BaseLoss)):
                raise LossNameError("a loss must be a class that derives from BaseLoss", where=f"register({name!r})",
                                    got=getattr(kind, "__name__", kind))  # fmt: skip
            before = cls._added.get(name)
            if name in BUILT_IN or (before is not None and _identity(before) != _identity(kind)):
                raise LossNameError("a loss of that name exists already", where=f"register({name!r})",
                                    got=BUILT_IN.get(name) or _identity(before))  # fmt: skip
            cls._added[name] = kind
            return kind

        return add


def _identity(kind: type | None) -> str:
    """A cell of a notebook that runs again replaces its own class, whose names stay the same."""
    return "" if kind is None else f"{kind.__module__}.{kind.__qualname__}"


def _listed(name: str, available: Iterable[str]) -> str:
    names = list(available)
    near = nearest(str(name), names)
    return (f"{near} " if near else "") + f"(available: {', '.join(names)})"
