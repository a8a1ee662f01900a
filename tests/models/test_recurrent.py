"""Recurrent layers against torch's own with packed sequences."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from paceline.errors import ModelError
from paceline.models.recurrent import Recurrent, last_valid, reverse_valid

pytestmark = pytest.mark.fast

LENGTHS = torch.tensor([6, 1, 4])
TORCH = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def padded() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(6) < LENGTHS[:, None]
    return torch.randn(3, 6, 4, dtype=torch.float64), mask


def copy_weights(ours: Recurrent, theirs: nn.RNNBase) -> None:
    for layers, suffix in ((ours.forward_layers, ""), (ours.backward_layers, "_reverse")):
        for i, layer in enumerate(layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(layer, f"{name}_l0").data.copy_(getattr(theirs, f"{name}_l{i}{suffix}"))


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one direction", "two directions"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_outputs_and_final_states_are_those_of_packed_sequences(
    kind: str, bidirectional: bool, num_layers: int
) -> None:
    x, mask = padded()
    ours = Recurrent(kind, 4, 5, num_layers=num_layers, bidirectional=bidirectional).double()
    theirs = TORCH[kind](4, 5, num_layers, bidirectional=bidirectional, batch_first=True).double()
    copy_weights(ours, theirs)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    outputs, states = theirs(packed)
    expected, _ = pad_packed_sequence(outputs, batch_first=True)
    hidden = states[0] if kind == "lstm" else states
    final = torch.cat(list(hidden[-2:] if bidirectional else hidden[-1:]), 1)
    sequence, state = ours(torch.where(mask[:, :, None], x, float("nan")), mask)
    torch.testing.assert_close(sequence, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(state, final, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_without_a_mask_all_steps_are_valid(bidirectional: bool) -> None:
    x, _ = padded()
    layer = Recurrent("gru", 4, 5, num_layers=2, bidirectional=bidirectional).double()
    everything = torch.ones(3, 6, dtype=torch.bool)
    for got, want in zip(layer(x), layer(x, everything), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)


def test_a_one_directional_output_does_not_depend_on_later_steps() -> None:
    x, _ = padded()
    changed = x.clone()
    changed[:, 3:] += torch.randn(3, 3, 4, dtype=torch.float64)
    layer = Recurrent("gru", 4, 5, num_layers=2).double()
    before, after = layer(x)[0], layer(changed)[0]
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3:], after[:, 3:])


def test_flipping_the_sequence_swaps_the_final_states_of_tied_directions() -> None:
    x, mask = padded()
    layer = Recurrent("gru", 4, 5, bidirectional=True).double()
    layer.backward_layers.load_state_dict(layer.forward_layers.state_dict())
    state, flipped = layer(x, mask)[1], layer(reverse_valid(x, mask), mask)[1]
    torch.testing.assert_close(flipped, torch.cat([state[:, 5:], state[:, :5]], 1), rtol=1e-13, atol=1e-14)
    # The backward half has seen the whole sequence: its last input is the first step, but the last step changes it too.
    changed = x.clone()
    changed[0, 5] += 1
    assert not torch.equal(layer(changed, mask)[1][0, 5:], state[0, 5:])


def test_helpers_on_a_hand_made_example() -> None:
    x = torch.arange(8.0).reshape(2, 4, 1)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert last_valid(x, mask).flatten().tolist() == [2, 4]
    assert reverse_valid(x, mask).flatten().tolist() == [2, 1, 0, 3, 4, 5, 6, 7]
    assert reverse_valid(x)[0].flatten().tolist() == [3, 2, 1, 0]
    assert last_valid(x).flatten().tolist() == [3, 7]


def test_parameters_are_as_many_as_torch_has() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(Recurrent("gru", 12, 256, num_layers=2)) == count(nn.GRU(12, 256, 2))
    two = Recurrent("lstm", 12, 8, num_layers=2, bidirectional=True)
    assert count(two) == count(nn.LSTM(12, 8, 2, bidirectional=True))


def test_dropout_stands_between_layers_and_one_layer_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Recurrent("gru", 4, 5, num_layers=1, dropout=0.3).dropouts) == 0
    x, mask = padded()
    layer = Recurrent("gru", 4, 5, num_layers=3, dropout=0.5).double()
    assert len(layer.dropouts) == 2
    assert not torch.equal(layer(x, mask)[0], layer.eval()(x, mask)[0])


def test_an_unknown_kind_is_refused_with_the_choices() -> None:
    with pytest.raises(ModelError, match="one of: gru, lstm, rnn"):
        Recurrent("transformer", 4, 5)
