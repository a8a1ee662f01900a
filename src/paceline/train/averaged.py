"""The averaged weights of one member in the eager engine: a second model, which is evaluated in place of the first."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from paceline.errors import ModelError


class Averaged:
    """A copy of `model` whose trained weights and floating-point buffers are averages; integers are copied.

    Raises ModelError for a model that cannot be copied.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        try:
            # `to` where it is already: a copied recurrent layer's weights lie together again, as cuDNN wants them.
            self.model = copy.deepcopy(model).requires_grad_(False).to(device)
        except Exception as error:  # whatever a user's own module holds
            raise ModelError("the model cannot be copied, so its weights cannot be averaged",
                             where="training.weight_average.name", got=f"{type(error).__name__}: {error}",
                             hint="training.weight_average.name=none") from error  # fmt: skip
        mine = dict(self.model.named_parameters())
        pairs = [(mine[path], live) for path, live in model.named_parameters() if live.requires_grad]
        self._weights: list[Tensor] = [average for average, _ in pairs]
        self._live: list[Tensor] = [live for _, live in pairs]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, share: float) -> None:
        """Move the averages by share x (live - average); 1 makes them copies."""
        torch._foreach_lerp_(self._weights, self._live, share)
        for average, live in self._buffers:
            if average.is_floating_point():  # a constant may be infinite, of which the formula would make NaN
                average.copy_(torch.where(live != average, torch.lerp(average, live, share), average))
            else:
                average.copy_(live)
