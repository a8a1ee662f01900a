"""Speaking to an MLflow server: connecting within bounds, finding an experiment and the runs of a run folder."""

from __future__ import annotations

import logging
import os
import re
import socket
from pathlib import Path
from typing import Any

from paceline.track.mlflow_store import Place

RUN, MEMBER, PROCESS, HOST = "paceline.run", "paceline.member", "paceline.process", "paceline.host"  # tags
CHILD_OF = "mlflow.parentRunId"
QUIET = {  # unless the environment says otherwise
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what fails is sent again later, and from the journal
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PAGE = 1000


def connect(store: Place, timeout_seconds: int) -> Any:
    """Return a client. A call that gets no answer ends after the timeout."""
    for name, value in {**QUIET, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds)}.items():
        os.environ.setdefault(name, value)
    if store.folder is not None:
        store.folder.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow.store.db.utils"):  # they tell every step of making a database
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=store.uri)


def experiment_of(client: Any, name: str, artefacts: str | None) -> str:
    """Return the id of the experiment of that name, which is made where there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artefacts))
        except MlflowException:  # another run has just made it
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def runs_of(client: Any, experiment: str, run: str) -> dict[str, str]:
    """Return the runs of a run folder: member to id, the parent under "". Of two the older counts."""
    found = _search(client, experiment, f"tags.`{RUN}` = '{run}'")
    return {one.data.tags.get(MEMBER, ""): one.info.run_id for one in found}


def end_the_dead(client: Any, experiment: str) -> None:
    """Mark as FAILED what says that it runs, and whose process on this machine is gone: it was killed."""
    for run in _search(client, experiment, f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{hostname()}'"):
        if not _lives(run.data.tags.get(PROCESS, "")):
            client.set_terminated(run.info.run_id, "FAILED")


def hostname() -> str:
    """Return the name of this machine, as it can stand in a search."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname()) or "localhost"


def process_mark() -> str:
    """Return what tells this process from every other of this machine, earlier ones too."""
    return f"{os.getpid()} {_started(os.getpid())}"


def _lives(mark: str) -> bool:
    """Whether the process of a mark still runs; where that cannot be told, it does."""
    number, _, started = mark.partition(" ")
    if os.name != "posix" or not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return _started(int(number)) == started


def _started(number: int) -> str:
    """When a process began, in the kernel's own unit; "-" where there is no /proc."""
    try:
        return Path(f"/proc/{number}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"


def _search(client: Any, experiment: str, words: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], words, max_results=PAGE, page_token=token,
                                  order_by=["attributes.start_time DESC"])  # fmt: skip
        found += page
        token = page.token
        if not token:
            return found
