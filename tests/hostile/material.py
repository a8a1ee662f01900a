"""What the fuzzer begins with: small data files of every kind, and finished runs of both engines."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paceline.api.runs import train
from paceline.checkpoint.manifest import File, Manifest, encode

SAMPLES, STEPS = 60, 5
OVERRIDES = [
    "data=npz", "data.split.test_fraction=0.2", "model=gru", "model.hidden_size=4", "model.num_layers=1",
    "training.num_epochs=2", "training.save.every_steps=1", "training.processes=1", "device=cpu", "numerics.threads=1",
    "task.decision.temperature=fitted",
]  # fmt: skip
ENGINES = {
    "eager": ["members.seeds=1", "training.engine=eager"],
    "cohort": ["members.seeds=2", "training.engine=cohort", "training.compile=false"],
}


@dataclass(frozen=True)
class Material:
    """folder: holds `data.npz`, `data.ts`, `long.csv`, `labels.csv`, `wide.csv`, and `runs/<engine>`."""

    folder: Path

    @property
    def outside(self) -> Path:
        """A folder with a file `log`, which no case may change."""
        return self.folder / "outside"

    def copy_run(self, engine: str, folder: Path, *, finished: bool = True) -> Path:
        """Copy a run; one that is not finished lacks what is written at the end, and goes on from its checkpoints."""
        target = folder / "runs" / engine
        shutil.copytree(self.folder / "runs" / engine, target)
        for path in [] if finished else [*target.glob("logs/*.done"), target / "summary.json", target / "members.csv"]:
            path.unlink()
        return target


def forge(step: Path, content: object) -> None:
    """Write a checkpoint of any content, with a manifest that fits it; `step` is its folder, `step-<n>`."""
    step.mkdir(exist_ok=True)
    torch.save(content, step / "state.pt")
    data = (step / "state.pt").read_bytes()
    files = {"state.pt": File(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))}
    number = int(step.name.removeprefix("step-"))
    (step / "manifest.json").write_bytes(encode(Manifest(step=number, files=files, torch=torch.__version__)))


def prepare(folder: Path) -> Material:
    """Write the data files and train the runs; some seconds."""
    random = np.random.default_rng(0)
    y = np.arange(SAMPLES) % 3
    x = random.normal(size=(SAMPLES, STEPS, 2)).round(3) + y[:, None, None]
    names = np.array(["a", "b", "c"])[y]
    np.savez(folder / "data.npz", X=x.astype(np.float32), y=names, channels=np.array(["u", "v"]),
             ids=np.array([f"s{i}" for i in range(SAMPLES)]))  # fmt: skip
    rows = [f"{i},{t},{x[i, t, 0]:.3f},{x[i, t, 1]:.3f}" for i in range(SAMPLES) for t in range(STEPS)]
    (folder / "long.csv").write_text("sample_index,time,u,v\n" + "\n".join(rows) + "\n")
    (folder / "labels.csv").write_text(
        "sample_index,label\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names))
    )
    (folder / "scores.csv").write_text("seed,fold,accuracy\n" + "".join(f"{s},0,0.{s}\n" for s in range(10, 30)))
    header = "@problemName x\n@univariate false\n@dimensions 2\n@equalLength true\n@seriesLength 5\n"
    samples = [":".join(",".join(f"{v:.3f}" for v in x[i, :, c]) for c in range(2)) + f":{names[i]}" for i in range(30)]
    (folder / "data.ts").write_text(header + "@classLabel true a b c\n@data\n" + "\n".join(samples) + "\n")
    (folder / "outside").mkdir()
    (folder / "outside" / "log").write_text("precious\n" * 1000)
    for engine, own in ENGINES.items():
        train("pain", [*OVERRIDES, f"data.path={folder / 'data.npz'}", *own], runs=folder / "runs", name=engine)
    return Material(folder)
