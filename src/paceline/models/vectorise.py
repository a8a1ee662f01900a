"""Which models can train as stacked members: under `torch.func.vmap`, with parameters and buffers as arguments.

The answer comes from the modules' classes, before anything runs. `KNOWN` holds the classes of torch whose outputs,
gradients and buffers under vmap equal those of members run one after another; a test proves each.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.dropout import _DropoutNd  # the one base class of all of torch's dropouts
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from paceline.models.recurrent import Recurrent

CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LAYERS = (
    nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.LocalResponseNorm,
    nn.PReLU, *BATCH_NORMS,
)  # fmt: skip
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.GLU,
    nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid,
    nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Threshold, nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d,
)  # fmt: skip
POOLINGS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
SHAPES = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d,
)  # fmt: skip
KNOWN = frozenset((*CONTAINERS, *LAYERS, *ACTIVATIONS, *POOLINGS, *SHAPES))
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
ATTENTION = (
    nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
)  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def why_not(model: nn.Module) -> str | None:
    """Return which module keeps a model from training as stacked members, and why; None if none is known to.

    Core modules and the classes in `KNOWN` are fine; so is a module class of one's own if everything in it is. What its
    code does is not read: random numbers, `.item()`, `if` on a tensor or a mask as an index still fail when it runs. A
    class that knows better says why in an attribute `not_stacked`.
    """
    for path, module, owned in _walk("", model, owned=False):
        only_weights = owned and isinstance(module, nn.RNNBase)  # a Recurrent runs it from its weights
        reason = _altered(module) or (None if only_weights else _unknown(module))
        if reason is not None:
            return f"{path or 'the model'} ({_name(module)}) {reason}"
    return None


def is_ours(model: nn.Module) -> bool:
    """Return whether all code of a model is torch's or this package's, so that its class tells what it does."""
    return all(type(module).__module__.split(".")[0] in ("torch", "paceline") for module in model.modules())


def is_recurrent(model: nn.Module) -> bool:
    """Return whether a model holds a recurrent layer of torch or of the core, whose steps no compiler should unroll."""
    return any(isinstance(module, RECURRENT) for module in model.modules())


def _walk(path: str, module: nn.Module, *, owned: bool) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield every module with its path, parents first, and whether a Recurrent owns it."""
    yield path, module, owned
    for name, child in module.named_children():
        yield from _walk(f"{path}.{name}" if path else name, child, owned=owned or isinstance(module, Recurrent))


def _name(module: nn.Module) -> str:
    """Return the class's name; that of the original class where torch has put a parametrized one in its place."""
    kind = type(module)
    return (kind.__mro__[1] if parametrize.is_parametrized(module) else kind).__name__


def _altered(module: nn.Module) -> str | None:
    if isinstance(module, LazyModuleMixin):
        return "has no shape yet: run the model once on a batch"
    if parametrize.is_parametrized(module):
        return "has a parametrized weight, such as a spectral norm, whose state is not the member's own"
    if any(getattr(module, name, None) for name in HOOKS):
        return "has hooks, which would see all members at once"
    told: str | None = getattr(module, "not_stacked", None)
    return told


def _unknown(module: nn.Module) -> str | None:
    """Return why the class from torch that a module is, or derives from, does not work; None if it does."""
    if isinstance(module, _DropoutNd) and module.p > 0:
        return "draws from a generator that all members would share: use paceline.models.dropout.Dropout"
    if isinstance(module, _DropoutNd):
        return None
    if isinstance(module, RECURRENT):
        return "has no batching rule in torch: use paceline.models.recurrent.Recurrent"
    if isinstance(module, ATTENTION):
        return "has fused attention, for which torch has no batching rule"
    if isinstance(module, BATCH_NORMS) and module.track_running_stats and module.momentum is None:
        return "reads back how many batches it has seen: give it a momentum"
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return "renormalises its weight in place: leave out max_norm"
    if isinstance(module, nn.Embedding) and module.sparse:
        return "has sparse gradients: leave out sparse"
    torch_class = next(kind for kind in type(module).__mro__ if kind.__module__.split(".")[0] == "torch")
    return None if torch_class in KNOWN else "is not known to work for stacked members"
