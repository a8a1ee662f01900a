"""Which layer of a model got another size than it was made for. Shapes: as the layer is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from paceline.errors import ModelError
from paceline.models.norm import MaskedBatchNorm1d
from paceline.models.recurrent import Recurrent
from paceline.run.blame import users_line


@contextmanager
def sizes_explained(model: nn.Module) -> Iterator[None]:
    """Turn what a layer raises over the size of its input into a ModelError with layer, both sizes and what to try."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        found = _innermost(error, model)
        if found is None:
            raise
        path, layer, given = found
        parameter, expected, got = _sizes(layer, given)
        if expected == got:
            raise
        raise ModelError(
            f"{path} is made for {expected} features and gets {got}", where=users_line(error),
            got=f"{layer} called with {tuple(given.shape)}", hint=f"{parameter}={got}{_why(model, expected, got)}",
        ) from error  # fmt: skip


def _innermost(error: Exception, model: nn.Module) -> tuple[str, nn.Module, Tensor] | None:
    """Return the layer with a known size that the error came out of, its path, and the tensor it was called with."""
    paths = {id(module): path for path, module in model.named_modules()}
    found, traceback = None, error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        module, given = frame.f_locals.get("self"), _first_argument(frame)
        entered = found is None or module is not found[1]  # not a helper method of the layer found already
        if entered and isinstance(module, nn.Module) and id(module) in paths and isinstance(given, Tensor):
            parameter, _, size = _sizes(module, given)
            found = (paths[id(module)] or "the model", module, given) if parameter and size else None
        traceback = traceback.tb_next
    return found


def _first_argument(frame: FrameType) -> object:
    """The first argument of the method that runs in a frame."""
    code = frame.f_code
    if code.co_argcount > 1:
        return frame.f_locals.get(code.co_varnames[1])
    return None


def _sizes(layer: nn.Module, given: Tensor) -> tuple[str, int, int]:
    """Return the parameter that a layer's input size is called, that size, and the tensor's; "" for other layers."""
    if isinstance(layer, nn.Linear):
        return "in_features", layer.in_features, _size(given, -1)
    if isinstance(layer, nn.RNNBase):
        return "input_size", layer.input_size, _size(given, -1)
    if isinstance(layer, _ConvNd):
        return "in_channels", layer.in_channels, _size(given, -1 - len(layer.kernel_size))
    if isinstance(layer, _NormBase):
        return "num_features", layer.num_features, _size(given, 1)
    if isinstance(layer, MaskedBatchNorm1d):
        return "features", len(layer.weight), _size(given, -1)
    if isinstance(layer, nn.LayerNorm):
        return "normalized_shape", layer.normalized_shape[-1], _size(given, -1)
    return "", 0, 0


def _size(given: Tensor, axis: int) -> int:
    """Return the tensor's size along an axis, 0 where it has no such axis."""
    return given.shape[axis] if -given.ndim <= axis < given.ndim else 0


def _why(model: nn.Module, expected: int, got: int) -> str:
    """Name the layer of two directions whose output is twice what was expected, if there is one."""
    for path, module in model.named_modules():
        if got == 2 * expected and _has_two_directions(module):
            return f": {path or 'the model'} has two directions, which give 2 * hidden_size"
    return ""


def _has_two_directions(module: nn.Module) -> bool:
    if isinstance(module, Recurrent):
        return len(module.backward_layers) > 0
    return isinstance(module, nn.RNNBase) and module.bidirectional
