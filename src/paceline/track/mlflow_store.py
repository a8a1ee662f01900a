"""Where MLflow keeps its values: what a user may give as address, the address that its client takes, how to open it.

MLflow 3 refuses plain folders, so a folder is served by a SQLite file in it. Nothing here imports MLflow.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from paceline.errors import ConfigError, without_credentials
from paceline.track.redact import HIDDEN

DATABASE = "mlflow.db"
ARTEFACTS = "artifacts"  # MLflow's own spelling
FOLDER = "mlruns"  # beside the run folders, where nobody says otherwise
ADDRESS = "MLFLOW_TRACKING_URI"  # environment variables that MLflow reads itself
USER = "MLFLOW_TRACKING_USERNAME"
WHERE = "tracking.mlflow.uri"
_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True, kw_only=True)
class Place:
    """An MLflow store. `uri` is what its client takes; `folder` holds database and artefacts of a local one."""

    uri: str
    folder: Path | None = None

    @property
    def is_server(self) -> bool:
        """Whether somebody else serves it: there is nothing to start."""
        return urlparse(self.uri).scheme in _SERVERS or self.uri == "databricks"

    @property
    def artefacts(self) -> str | None:
        """Where new experiments keep their files; None leaves it to the server."""
        return None if self.folder is None else (self.folder / ARTEFACTS).as_uri()

    @property
    def opened_by(self) -> str:
        """The line that shows it: a command, or the address of a server."""
        if self.is_server:
            return without_credentials(self.uri)
        return shlex.join(["mlflow", "ui", "--backend-store-uri", without_credentials(self.uri)])


def place(uri: str | None, run_folder: Path) -> Place:
    """Return the store that a config names; null: what MLFLOW_TRACKING_URI says, else a folder beside the runs.

    Raises ConfigError for an address that MLflow does not know, and where credentials are no longer known.
    """
    if uri is None:
        uri = os.environ.get(ADDRESS) or str(run_folder.absolute().parent / FOLDER)
    uri = _with_credentials(uri.strip())
    scheme = urlparse(uri).scheme.partition("+")[0].lower()
    if scheme in _SERVERS or uri == "databricks":
        return Place(uri=uri)
    if scheme == "sqlite":
        return _sqlite(uri)
    if scheme in _DATABASES:
        return Place(uri=uri)
    if scheme == "file":
        return _folder(Path(url2pathname(uri.partition(":")[2].removeprefix("//"))))
    if len(scheme) <= 1 and uri:  # none, or the drive of a Windows path
        return _folder(Path(uri).expanduser())
    raise ConfigError("MLflow has no store at such an address", where=WHERE, got=uri,
                      hint="a folder, file:./mlruns, sqlite:///mlflow.db, or http://127.0.0.1:5000")  # fmt: skip


def _folder(path: Path) -> Place:
    return _at(path.absolute(), DATABASE)


def _sqlite(uri: str) -> Place:
    """Make the path absolute, so that the address holds wherever it is opened from."""
    found = re.fullmatch(r"sqlite(\+\w+)?:///([^?]+)", uri)
    if found is None or found[2] == ":memory:":
        raise ConfigError("the address names no file", where=WHERE, got=uri, hint="sqlite:///mlflow.db")
    path = Path(found[2]).absolute()
    return _at(path.parent, path.name)


def _at(folder: Path, name: str) -> Place:
    folder = Path(os.path.normpath(folder))
    if "?" in str(folder / name):
        raise ConfigError("a question mark in the path ends the address of a database", where=WHERE,
                          got=str(folder / name), hint="another folder")  # fmt: skip
    return Place(uri=f"sqlite:///{(folder / name).as_posix()}", folder=folder)


def _with_credentials(uri: str) -> str:
    """Return the address with the credentials that were left out of the run's files, from the environment."""
    if f"://{HIDDEN}@" not in uri:
        return uri
    given = os.environ.get(ADDRESS, "")
    if without_credentials(given) == uri:
        return given
    if urlparse(uri).scheme in _SERVERS and os.environ.get(USER):  # which MLflow adds itself
        return uri.replace(f"{HIDDEN}@", "", 1)
    raise ConfigError("the address of the tracking server is on record without its credentials", where=WHERE, got=uri,
                      hint=f"set the environment variable {ADDRESS} to the whole address")  # fmt: skip
