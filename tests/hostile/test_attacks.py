"""Attacks on everything that is read: 0 executions, 0 tracebacks, 0 crashes, 1 GB and 2 s each.

The whole of it is `benchmarks/hostile.py`; here all crafted payloads, and a few hundred mutations.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from paceline.errors import ConfigError
from tests.hostile import payloads
from tests.hostile.fuzz import cases, warm
from tests.hostile.jail import FAILURES, Case, jailed
from tests.hostile.material import Material, prepare

MUTATIONS = 182
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    made = prepare(tmp_path_factory.mktemp("material"))
    warm(made, tmp_path_factory.mktemp("warm"))
    return made


def test_every_crafted_payload_is_refused_in_one_error_or_does_nothing(material, tmp_path):
    known = {one.name: one for one in payloads.everything()}
    assert len(known) >= 50
    found = list(jailed(payloads.ours(material), tmp_path / "jail"))
    assert [outcome.case for outcome in found] == list(known)
    allowed = {name: ("done", "refused") if one.harmless else ("refused",) for name, one in known.items()}
    assert [outcome for outcome in found if outcome.kind not in allowed[outcome.case]] == []
    assert (material.outside / "log").read_text() == "precious\n" * 1000


def test_a_reader_without_bounds_suffers_from_the_same_files(material, tmp_path):
    known = {one.name: one for one in payloads.everything()}
    chosen = [case for case in payloads.naive(material) if case.name in payloads.QUICK_NAIVE]
    assert len(chosen) == len(payloads.QUICK_NAIVE)
    for outcome in jailed(chosen, tmp_path / "jail"):
        assert outcome.kind in known[outcome.case].suffers, outcome


def test_mutated_configs_states_runs_and_data_end_well_or_in_one_error(material, tmp_path):
    found = list(jailed(list(cases(material, 20, MUTATIONS)), tmp_path / "jail"))
    assert len(found) == MUTATIONS
    assert [outcome for outcome in found if outcome.kind in FAILURES] == []
    kinds = {outcome.kind for outcome in found}
    assert kinds == {"done", "refused"}  # neither are all mutations too gentle, nor all too rough


def _refused(folder: Path) -> None:
    raise ConfigError("what")


def _five_lines(folder: Path) -> None:
    error = ConfigError("what")
    error.__class__ = type("FiveLinesError", (ConfigError,), {"__str__": lambda self: "1\n2\n3\n4\n5"})
    raise error


def _memory(folder: Path) -> None:
    bytearray(2**31)


def _turning(folder: Path) -> None:
    while True:
        pass


def _sleeping(folder: Path) -> None:
    time.sleep(0.01)


def _program(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def _removing(folder: Path) -> None:
    with suppress(FileNotFoundError):
        os.remove(folder / "../../x")


def _module(folder: Path) -> None:
    (folder / "evil.py").write_text("x = 1\n")
    sys.path.insert(0, str(folder))
    __import__("evil")


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (lambda folder: (folder / "x").write_text("x"), "done"), (_sleeping, "done"), (_refused, "refused"),
        (_five_lines, "traceback"), (lambda folder: [][0], "traceback"), (_memory, "traceback"), (_turning, "slow"),
        (lambda folder: os.abort(), "crash"), (_program, "executed"), (_module, "executed"),
        (lambda folder: os.system("true"), "executed"),  # noqa: S605
        (lambda folder: exec("1"), "executed"),  # noqa: S102
        (lambda folder: eval("1"), "executed"),  # noqa: S307
        (lambda folder: (folder.parent.parent / "x").write_text("x"), "escaped"),
        (_removing, "escaped"),
        (lambda folder: (folder / "../../y").mkdir(), "escaped"),
        (lambda folder: os.rename(folder, folder / "../../z"), "escaped"),
    ],
)  # fmt: skip
def test_the_jail_tells_what_code_did(tmp_path, act, kind):
    (outcome,) = jailed([Case("one", act)], tmp_path / "a" / "jail")
    assert outcome.kind == kind, outcome


def test_after_a_case_that_kills_its_child_the_others_still_run(tmp_path):
    acts = [_refused, lambda folder: os.abort(), _refused, _sleeping]
    found = list(jailed([Case(str(i), act) for i, act in enumerate(acts)], tmp_path / "jail"))
    assert [(outcome.case, outcome.kind) for outcome in found] == [
        ("0", "refused"), ("1", "crash"), ("2", "refused"), ("3", "done"),
    ]  # fmt: skip
