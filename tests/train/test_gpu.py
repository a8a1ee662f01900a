"""On CUDA: a cohort and its members alone agree, in float64 to 1e-9, in mixed precision up to its rounding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import paceline
from paceline.run.folder import Run
from tests.train.test_cohort_equality import KINDS, assert_same_results, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # Operations without a deterministic kernel say so once; the tolerances below allow for them.
    pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation:UserWarning"),
]

PAIN = ["data=vowels", "model.channels=[16]", "model.hidden_size=16", "members.seeds=2", "training.num_epochs=3",
        "training.processes=1", "training.compile=false", "data.split.open_test=false", "device=cuda"]  # fmt: skip


@pytest.mark.parametrize("average", ["none", "ema"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cohort_on_cuda_has_the_results_of_its_members_alone(kind: str, average: str, tmp_path: Path) -> None:
    extra = [*KINDS[kind], "device=cuda", "training.amp.enabled=false", "members.seeds=3",
             "training.gradient_clip.value=0.5", f"training.weight_average.name={average}"]  # fmt: skip
    together = run(tmp_path, "together", "cohort", *extra)
    assert together.read_json("plan.json")["device"] == "cuda"
    assert_same_results(together, run(tmp_path, "alone", "eager", *extra))


def pain(folder: Path, name: str, *overrides: str) -> Run:
    return paceline.train("pain", [*PAIN, *overrides], runs=folder, name=name)


def losses(run: Run) -> list[float]:
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    return [line["values"]["loss"] for line in sorted(lines, key=lambda li: (li["member"], li["step"], li["split"]))]


def test_bfloat16_is_on_by_itself_and_agrees_between_the_engines(tmp_path: Path) -> None:
    together = losses(pain(tmp_path, "together", "training.engine=cohort"))
    alone = losses(pain(tmp_path, "alone", "training.engine=eager"))
    exact = losses(pain(tmp_path, "exact", "training.engine=eager", "training.amp.enabled=false"))
    assert together == pytest.approx(alone, rel=5e-2)
    assert alone != pytest.approx(exact, rel=1e-6), "mixed precision was off"


def test_float16_trains_with_scaled_gradients(tmp_path: Path) -> None:
    float16 = ["training.amp.enabled=true", "training.amp.dtype=float16", "training.engine=eager"]
    scaled = losses(pain(tmp_path, "scaled", *float16))
    exact = losses(pain(tmp_path, "exact", "training.engine=eager", "training.amp.enabled=false"))
    assert scaled == pytest.approx(exact, rel=5e-2)
