"""Weights & Biases: a run per member, those of one paceline run in a group. Runs in the trackers' background thread.

Training and validation become the history of a run, the selected state and the test its summary. Files stay in the run
folder. Offline, all of it lies in `wandb/` beside the run folders until `wandb sync`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.config.tree import flatten, read_yaml
from paceline.errors import ConfigError
from paceline.track.mlflow_values import LEFT_OUT, config_of, run_identity
from paceline.track.names import Names, class_names
from paceline.track.optional import installed
from paceline.track.redact import shown

if TYPE_CHECKING:
    from paceline.track.config import WandbConfig
    from paceline.types import Record

OVER_TIME = ("train", "val")  # splits that become history
SECONDS = 20  # for a server to answer


class Wandb:
    """The tracker of one run. Raises ConfigError where the package wandb is missing."""

    def __init__(self, run_folder: Path, config: WandbConfig) -> None:
        if not installed("wandb"):
            raise ConfigError("the package wandb is not installed", where="tracking.wandb", hint="pip install wandb")
        self._folder, self._config = run_folder, config
        self._names = Names(classes=class_names(run_folder))
        self._runs: dict[str, Any] = {}

    def scalars(self, rows: Sequence[Record]) -> None:
        """Log the records to their members' runs, in order."""
        for record in rows:
            values = {
                name: value for name, value in self._names.points(record, figures=False) if not isinstance(value, list)
            }
            if not values:
                continue
            run = self._run(record.member)
            if record.split in OVER_TIME:
                run.log(values, step=record.epoch if self._config.axis == "epoch" else record.step)
            else:
                run.summary.update(values)

    def figure(self, name: str, path: str, step: int) -> None:
        """It stays in the run folder."""

    def artefact(self, name: str, path: str) -> None:
        """It stays in the run folder."""

    def close(self, status: str) -> None:
        """End the runs."""
        for run in self._runs.values():
            run.finish(exit_code=0 if status == "finished" else 1)

    def _run(self, member: str) -> Any:
        """Return a member's run, which is started when it is first asked for; a resumed one has the same id."""
        if member not in self._runs:
            import wandb

            config = config_of(self._folder)
            settings = wandb.Settings(silent=True, console="off", disable_code=True,
                                      x_disable_stats=True, init_timeout=SECONDS, login_timeout=SECONDS)  # fmt: skip
            self._runs[member] = wandb.init(
                mode=self._config.mode or ("offline" if "WANDB_MODE" not in os.environ else None),
                project=self._config.project or (config.get("task") or {}).get("name") or "paceline",
                entity=self._config.entity, dir=self._folder.absolute().parent, group=self._folder.name, name=member,
                id=re.sub(r"[^\w-]", "_", f"{run_identity(self._folder)}-{member}")[:120],
                resume="allow", reinit="create_new", config=self._values(config, member), settings=settings,
            )  # fmt: skip
        return self._runs[member]

    def _values(self, config: dict[str, Any], member: str) -> dict[str, Any]:
        """Return the member's config by dotted key, secrets hidden."""
        own = self._folder / "members" / member / "overrides.yaml"
        tree = {name: part for name, part in config.items() if name not in LEFT_OUT}
        flat = dict(flatten(tree)) | dict(flatten(read_yaml(own) if own.is_file() else {}))
        return {name: shown(name, value) for name, value in flat.items()}
