"""Which models can run as a cohort: stacked under `torch.func.vmap`."""

from __future__ import annotations

from torch import nn

from paceline.models.recurrent import Recurrent

REFUSED = {
    nn.Dropout: "torch's dropout has one generator for all members: use paceline.models.Dropout",
    nn.modules.batchnorm._BatchNorm: "torch's batch normalisation keeps running statistics that cannot be stacked",
    nn.RNNBase: "torch's recurrent layers cannot be stacked: use paceline.models.recurrent.Recurrent",
    nn.MultiheadAttention: "attention layers of torch are not vectorised",
}


def why_not(model: nn.Module) -> str | None:
    """Name the first module that cannot be vectorised and the reason; None if there is none."""
    inside = {id(child) for module in model.modules() if isinstance(module, Recurrent) for child in module.modules()}
    for path, module in model.named_modules():
        if id(module) in inside:
            continue
        for kind, reason in REFUSED.items():
            if isinstance(module, kind):
                return f"{path or type(module).__name__}: {reason}"
    return None


def is_recurrent(model: nn.Module) -> bool:
    """Whether the model has a layer that runs over time."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())
