"""A `--use` file with a tracker whose server is a folder elsewhere, and which fails as its file `fault` says.

It keeps its remote run's id in the run folder, as a tracker of a real service does, and takes a record as often as it
is sent: doubles would be seen.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

import paceline


class Remote(paceline.TrackerConfig):
    server: str

    def build(self, run_folder):
        return Client(Path(self.server), run_folder / "tracking" / "remote.id")


class Client:
    def __init__(self, server: Path, identity: Path) -> None:
        self.server = server
        self.calls = 0
        if self.fault == "start":
            raise ConnectionError("no route to host")
        identity.parent.mkdir(exist_ok=True)
        if not identity.exists():
            identity.write_text(secrets.token_hex(4))
        self.run = server / identity.read_text()
        self.run.mkdir(exist_ok=True)
        self.note("status", "running")

    @property
    def fault(self) -> str:
        path = self.server / "fault"
        return path.read_text() if path.exists() else ""

    def scalars(self, rows):
        self.calls += 1
        if self.fault == "down" or (self.fault == "at first" and self.calls <= 2):
            raise ConnectionError("the server is away")
        if self.fault == "in the middle" and self.calls == 2:
            raise TimeoutError("500")
        if self.fault == "hangs":
            time.sleep(30)
        with (self.run / "values").open("a") as file:
            file.writelines(json.dumps([r.member, r.split, r.step]) + "\n" for r in rows)

    def figure(self, name, path, step): ...

    def artefact(self, name, path):
        if self.fault == "at the end":
            raise ConnectionError("the server has gone")
        (self.run / name).write_bytes(Path(path).read_bytes())

    def close(self, status):
        if self.fault in ("at the end", "down"):
            raise ConnectionError("the server has gone")
        self.note("status", status)

    def note(self, name, text):
        with (self.run / name).open("a") as file:
            file.write(text + "\n")


trackers = {"remote": Remote}
