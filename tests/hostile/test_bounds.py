"""What is large is refused before it takes the memory, and what is merely unusual is not."""

from __future__ import annotations

import collections
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paceline.checkpoint.state import parse, read_state, write_state
from paceline.checkpoint.tree import equal
from paceline.checkpoint.vetting import check_loaded
from paceline.data.growth import MAX_RATIO, MOST_UNASKED, refuse_growth
from paceline.errors import CheckpointCorruptError, ConfigError, DataError, ModelError
from paceline.evaluate.decisions import Decision
from paceline.models.building import build_shell, refuse_oversized, within_memory
from paceline.recipes.pain.data import Npz

pytestmark = pytest.mark.fast


def saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def tied() -> dict[str, object]:
    weight = torch.arange(6.0)
    return {"a": weight, "b": weight, "row": weight.view(2, 3)[0]}


@pytest.mark.parametrize(
    "state",
    [
        {}, {"a": 1, "b": [1.5, None, "x\ny", True], "c": {3: (1, 2)}}, tied(), {"p": nn.Parameter(torch.ones(2))},
        {"u": torch.ones(3, dtype=torch.uint16), "f": torch.ones(3, dtype=torch.float8_e4m3fn)},
        {"z": torch.zeros(3, dtype=torch.complex64).conj(), "b": torch.ones(2, dtype=torch.bfloat16)},
        {"e": torch.empty(0, 3), "s": torch.tensor(2.0), "t": torch.arange(6.0).view(2, 3).t()},
        {"same": [betas := (0.9, 0.999), betas, {"x": betas}]}, {"long": [float(i) for i in range(20_000)]},
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict(), collections.OrderedDict(a=torch.ones(1)),
        torch.optim.AdamW(nn.Linear(2, 2).parameters()).state_dict(),
    ],
    ids=lambda state: "-".join(map(str, state))[:20],
)  # fmt: skip
def test_what_torch_saves_of_plain_states_is_loaded(state):
    assert equal(dict(parse(saved(state), Path("x.pt"))), dict(state)) == []


def test_an_expanded_tensor_is_written_out_and_one_in_a_foreign_file_is_refused(tmp_path):
    state = {"a": torch.ones(1).expand(100_000), "b": torch.arange(6.0).view(2, 3)[:, 1]}
    write_state(tmp_path / "x.pt", state)
    assert equal(read_state(tmp_path / "x.pt"), state) == []
    with pytest.raises(CheckpointCorruptError, match="larger than the file"):
        parse(saved({"a": torch.ones(1).expand(10**9)}), Path("x.pt"))


def test_values_that_are_shared_are_counted_each_time():
    shared: list[object] = [0] * 100
    check_loaded({"a": [shared] * 50}, size=1)
    with pytest.raises(Exception, match="repeats itself"):
        check_loaded({"a": [shared] * 200}, size=1)
    check_loaded({"a": [shared] * 200}, size=30_000)


def test_a_compressed_archive_is_refused():
    plain = zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(2)})))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in plain.namelist():
            target.writestr(name, plain.read(name))
    packed.seek(0)
    assert torch.load(packed, weights_only=True)["a"].tolist() == [1, 1]  # torch itself takes it
    with pytest.raises(CheckpointCorruptError, match="compressed"):
        parse(packed.getvalue(), Path("x.pt"))


@pytest.mark.parametrize(
    ("needed", "given", "refused"),
    [
        (MOST_UNASKED, 1, False), (MOST_UNASKED + 1, 1, True), (10**12, 10**12 // MAX_RATIO, False),
        (10**12, 10**12 // MAX_RATIO - 1, True),
    ],
)  # fmt: skip
def test_data_may_grow_a_little_or_in_proportion(needed, given, refused):
    if refused:
        with pytest.raises(DataError, match="what"):
            refuse_growth(needed, given, "what", where="x", hint="y")
    else:
        refuse_growth(needed, given, "what", where="x", hint="y")


def test_an_archive_of_zeros_is_refused_and_a_compressed_one_of_data_is_not(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 5, 2)).astype(np.float32)
    np.savez_compressed(tmp_path / "good.npz", X=x, y=np.arange(40) % 2)
    assert len(Npz(path=str(tmp_path / "good.npz")).load()) == 40
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for i in range(1001):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(DataError, match="too many arrays"):
        Npz(path=str(tmp_path / "many.npz")).load()


def test_a_model_larger_than_the_machine_is_refused_without_being_built():
    def build() -> nn.Module:
        return nn.Linear(10**7, 10**7, bias=False)

    shell = build_shell(build)
    assert shell is not None
    assert next(shell.parameters()).is_meta
    with pytest.raises(ModelError, match="does not fit"):
        refuse_oversized(build, "model=x")
    refuse_oversized(lambda: nn.Linear(3, 3), "model=x")


def test_a_models_own_error_is_left_to_the_real_building_of_it():
    def build() -> nn.Module:
        raise ValueError("of its own")

    assert build_shell(build) is None
    refuse_oversized(build, "model=x")
    with pytest.raises(RuntimeError, match="another"), within_memory("x"):
        raise RuntimeError("another")
    with pytest.raises(ModelError, match="does not fit"), within_memory("x"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


FIT = {"values": [1.5], "metric": "log_loss", "kept": True, "before": None, "after": None, "reason": ""}


@pytest.mark.parametrize(
    "change",
    [{"values": [0.0]}, {"values": [-1.0]}, {"values": [float("nan")]}, {"values": []}, {"values": [1.0, 2.0]},
     {"values": "abc"}, {"values": None}, {"kept": "yes"}, {"metric": "mse"}, {"other": 1}],
    ids=str,
)  # fmt: skip
def test_a_decision_that_cannot_be_applied_is_refused(change):
    good = {"n": 40, "temperature": FIT, "thresholds": None}
    assert Decision.from_dict(good).temperature is not None
    with pytest.raises(Exception, match="decision is damaged"):
        Decision.from_dict({**good, "temperature": {**FIT, **change}})


def test_numbers_that_no_array_can_hold_are_refused_with_their_key(workdir):
    from paceline.api.runs import configure

    with pytest.raises(ConfigError, match="too large") as caught:
        configure("pain", {"members.vary": {"training.batch_size": [8, 10**5000]}})
    assert caught.value.where == "members.vary.training.batch_size"
