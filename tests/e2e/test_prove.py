"""`paceline prove`: what it says of recipes that resume exactly, and of one that does not."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from paceline.api import proving
from paceline.api.trial import Kill, spawn
from paceline.cli.proving import judge, prove_command, split_words
from paceline.errors import ConfigError, PacelineError, TrainingError
from paceline.run.equality import compare_bits
from paceline.run.folder import Run
from paceline.train.witness import Witness, differing_steps, digest, last_step, read_batches
from tests.contracts.tiny import USE, train

BROKEN = Path(__file__).with_name("forgetful_loss.py")
EPOCHS = 9
TASK = ["task=blobs", f"training.num_epochs={EPOCHS}", "training.compile=false", "training.engine=eager"]
Proving = Callable[..., proving.Proof]


class Forked:
    """A command in a forked child, so that no import is paid twice; as `paceline.api.trial.Process` asks."""

    def __init__(self, command: Sequence[str], errors: Path) -> None:
        self._code: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            self._be(command, errors)

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    @staticmethod
    def _be(command: Sequence[str], errors: Path) -> None:
        """Be the command; never return."""
        from paceline.cli.app import run

        code = 70
        try:
            with errors.open("wb") as said, open(os.devnull, "wb") as null:
                os.dup2(said.fileno(), 2)
                os.dup2(null.fileno(), 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            sys.argv = ["paceline", *command]
            run()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            traceback.print_exception(error, file=sys.stderr)
        finally:
            os._exit(code)


@pytest.fixture(scope="module")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import everything once, so that the children need not."""
    train(tmp_path_factory.mktemp("warm"), "training.num_epochs=1", "training.engine=cohort")


@pytest.fixture
def prove(tmp_path: Path, _warm: None) -> Proving:
    """Prove in a folder of the test's, with forked commands and few kills."""

    def run(overrides: Sequence[str] = TASK, **options: object) -> proving.Proof:
        given = {"folder": tmp_path / "proof", "use": [USE], "kills": 2, "start": Forked}
        (tmp_path / "proof").mkdir()
        return proving.prove(None, list(overrides), **given | options)  # type: ignore[arg-type]

    return run


def test_a_recipe_of_one_s_own_is_proved(prove: Proving) -> None:
    """X5"""
    average = "training.weight_average.name=ema"
    proof = prove([*TASK, "members.seeds=2", average, "tracking.tensorboard.enabled=true"], kills=3)
    judge(proof)
    assert proof.verdict == "equal" and proof.compared.differences == ()
    assert len(proof.kills) == 3 and any(kill.checkpoint for kill in proof.kills)
    assert proof.steps == 2 * EPOCHS * 5
    assert sum(proof.again) == proof.compared.steps - proof.steps > 0, "no step was trained again"
    assert proof.compared.tensors > 50 and proof.compared.lines == 2 * (2 * EPOCHS + 2)
    assert not (proof.folder / "killed" / "tensorboard").exists(), "a proof has nothing to tell a tracker"
    shown = proof.to_json()
    assert json.loads(json.dumps(shown)) == shown and shown["verdict"] == "equal"
    assert shown["scope"]["torch"] == torch.__version__


def test_a_loss_that_draws_from_a_generator_with_a_memory_is_caught(prove: Proving) -> None:
    """The known-broken recipe."""
    proof = prove([*TASK, "loss=jittered"], use=[USE, BROKEN])
    assert proof.verdict == "different" and any(kill.checkpoint for kill in proof.kills)
    named = " ".join(proof.compared.differences)
    assert "checkpoints/seed42: cohort.engine.model.0.weight" in named
    assert "checkpoints/seed42: cohort.engine.optimizer.state.0.exp_avg" in named
    assert "logs/seed42.jsonl: line " in named
    assert ".batches" not in named, "the samples were the same"
    with pytest.raises(TrainingError, match=r"checkpoints/seed42: .*"):
        judge(proof)


def test_a_run_is_proved_with_its_own_plan_and_configuration(prove: Proving, tmp_path: Path) -> None:
    run = train(tmp_path, "training.learning_rate=0.02", "members.seeds=2", "training.engine=cohort")
    plan = run.read_json("plan.json")
    proof = prove([f"training.num_epochs={EPOCHS}"], run=run.path)
    judge(proof)
    reference = Run(proof.folder / "reference")
    assert reference.read_json("plan.json")["cohorts"] == plan["cohorts"]
    assert reference.config["training"]["learning_rate"] == 0.02
    assert run.summary["run"] == "run", "the run itself is as it was"


def test_a_training_that_fails_is_reported_in_its_own_words(prove: Proving) -> None:
    with pytest.raises(TrainingError) as caught:
        prove([*TASK, "training.learning_rate=1e30", "training.num_epochs=2"])
    assert "code 1" in caught.value.what and "failed" in caught.value.got


@pytest.mark.fast
def test_a_proof_without_a_kill_that_mattered_is_none(tmp_path: Path) -> None:
    from paceline.run.equality import Compared

    same = Compared(differences=(), tensors=3, lines=4, steps=5)
    for kills in ((), (Kill(step=3, in_save=False, checkpoint=0),)):
        proof = proving.Proof(seed=0, asked=1, kills=kills, steps=5, again=(), compared=same, scope={}, folder=tmp_path)
        assert proof.verdict == "not proved"
        with pytest.raises(TrainingError, match="nothing was proved"):
            judge(proof)


@pytest.mark.fast
def test_the_first_word_may_be_a_run(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    assert split_words(["runs/a", "x=1"]) == ("runs/a", ["x=1"])
    assert split_words(["task=pain", "x=1"]) == (None, ["task=pain", "x=1"])
    assert split_words([str(tmp_path / "a=b")]) == (str(tmp_path / "a=b"), [])
    assert split_words([]) == (None, [])


@pytest.mark.parametrize(
    ("words", "options", "where"),
    [
        (["runs/none"], {}, "runs/none"),
        (TASK, {"kills": 0}, "kills"),
        (["task=none"], {}, "task"),
        (TASK, {"json_file": Path("no/such/folder.json")}, "--json"),
        ([*TASK, "model.hiden=3"], {}, "model.hiden"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    workdir: Path, words: list[str], options: dict[str, object], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(workdir))
    monkeypatch.setattr("tempfile.tempdir", None)
    given = {"use": [USE], "config_dir": None, "kills": 1, "seed": 0, "keep": False, "json_file": None}
    with pytest.raises(PacelineError) as caught:
        prove_command(words, **given | options)  # type: ignore[arg-type]
    assert caught.value.where == where and caught.value.exit_code == 2
    assert list(workdir.iterdir()) == []


def test_the_commands_of_a_proof_are_processes_that_can_be_killed(tmp_path: Path) -> None:
    alive = spawn(["tasks"], tmp_path / "errors.txt")
    assert alive.poll() is None
    alive.kill()
    assert alive.poll() == -signal.SIGKILL
    wrong = spawn(["no-such-command"], tmp_path / "errors.txt")
    while wrong.poll() is None:
        time.sleep(0.01)
    assert wrong.poll() == 2 and "no-such-command" in (tmp_path / "errors.txt").read_text()


def test_two_runs_are_compared_by_every_tensor_line_and_sample(tmp_path: Path) -> None:
    """Each difference is made by hand, and named."""
    a, b = (train(tmp_path, "training.log_batches=true", name=name) for name in "ab")
    assert compare_bits(b, a).differences == ()
    log = b.path / "logs" / "seed42.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], lines[1].replace('"step":5', '"step":6'), *lines[2:]]))
    batches = b.path / "logs" / "seed42.batches"
    order = batches.read_text().splitlines()
    batches.write_text("\n".join([*order[:3], order[3][:12] + " " + order[4][13:], *order[4:]]) + "\n")
    found = compare_bits(b, a)
    assert found.differences[0].startswith("logs/seed42.jsonl: line 2: ...")
    assert found.differences[1] == "logs/seed42.batches: step 3 had other samples"
    assert found.steps == 15 and found.lines == 8
    log.write_text("".join(lines[:-1]))
    assert compare_bits(b, a).differences[0] == "logs/seed42.jsonl: line 8: missing"
    (b.path / "members/seed42/latest.pt").write_bytes((b.path / "members/seed42/best.pt").read_bytes())
    assert any(name.startswith("members/seed42/latest.pt: ") for name in compare_bits(b, a).differences)


@pytest.mark.fast
def test_a_witness_writes_down_what_every_step_was_given(tmp_path: Path) -> None:
    class Feed:
        steps_per_epoch = (3,)

        def group(self, step: int) -> list[dict[str, torch.Tensor]]:
            return [{"x": torch.full((1, 2), float(step)), "y": torch.tensor([[1, 2]])}]

    path = tmp_path / "a.batches"
    witness = Witness(Feed(), path)
    assert last_step(path) == 0 and read_batches(path) == []
    for step in (0, 1, 2, 1):
        assert witness.group(step)[0]["x"][0, 0] == step
    with path.open("ab") as file:
        file.write(b"000000000003 12")  # cut short by a kill
    found = read_batches(path)
    assert [step for step, _ in found] == [0, 1, 2, 1] and last_step(path) == 2
    assert found[1] == found[3] and len({text for _, text in found}) == 3
    reference = dict(found)
    assert differing_steps(found, reference) == []
    assert differing_steps(found[:2], reference) == [2]
    assert differing_steps([*found, (2, found[0][1])], reference) == [2]


@pytest.mark.fast
def test_the_hash_of_a_batch_sees_values_order_types_and_shapes() -> None:
    x = torch.tensor([[1.0, 2.0]])
    others = [x.flip(1), x.double(), x[0], x + 1e-6]
    assert len({digest([{"x": value}]) for value in (x, *others)}) == 5
    assert digest([{"x": x, "y": x}]) == digest([{"y": x, "x": x}])
    assert digest([{"x": x}]) != digest([{"x": x}, {"x": x}])
    with pytest.raises(ConfigError):
        proving.prove("blobs", folder="nowhere", kills=0)
