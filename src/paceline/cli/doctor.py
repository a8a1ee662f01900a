"""`paceline doctor`: what this machine can do, tried rather than guessed, and what to do where something is missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paceline.cli.console import make_console
from paceline.errors import PacelineError, RunError

EXTRAS = {  # distribution -> what it is for; all are optional
    "tensorboard": "tracking=tensorboard",
    "mlflow": "tracking=mlflow",
    "wandb": "tracking=wandb",
    "lightgbm": "model=lgbm of task=battery",
    "torchdiffeq": "model=neural_ode of task=battery",
}
LITTLE_BYTES = 2e9
COMPILE = """
import torch
step = torch.compile(lambda x: (x * 2).sin().sum(), fullgraph=True)
x = torch.ones(8)
assert abs(float(step(x)) - float((x * 2).sin().sum())) < 1e-4
"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was tried. `fine` is None where something optional is missing."""

    what: str
    fine: bool | None
    found: str
    hint: str = ""


def doctor_command(folder: Path, *, as_json: bool) -> None:
    """Print what was found; raise RunError when paceline cannot train here."""
    found = []
    console = make_console()
    with console.status("trying things, a few seconds") if console.is_terminal else nullcontext():
        for check in (_versions, _torch, _processor, _storage, _compiler, _extras):
            found += list(_guarded(check, folder))
    if as_json:
        console.out(json.dumps([asdict(finding) for finding in found], indent=1), highlight=False)
    else:
        _show(found, console)
    broken = [finding.what for finding in found if finding.fine is False]
    if broken:
        raise RunError(f"{len(broken)} things do not work here", where=", ".join(broken), hint="see the last column")


def _show(found: list[Finding], console: Console) -> None:
    table = Table("", "what", "found", "try", box=None, pad_edge=False)
    marks = {True: ("ok", "green"), None: ("-", "dim"), False: ("FAILS", "red")}
    for finding in found:
        mark, colour = marks[finding.fine]
        table.add_row(Text(mark, style=colour), Text(finding.what), Text(finding.found), Text(finding.hint))
    console.print(table)


def _guarded(check: Callable[[Path], Iterator[Finding]], folder: Path) -> Iterator[Finding]:
    """Whatever a check raises is a finding, since it is what the user came for."""
    try:
        yield from check(folder)
    except PacelineError as error:
        yield Finding(what=check.__name__.strip("_"), fine=False, found=error.what, hint=error.hint)
    except Exception as error:
        yield Finding(what=check.__name__.strip("_"), fine=False, found=f"{type(error).__name__}: {error}")


def _versions(folder: Path) -> Iterator[Finding]:
    new = sys.version_info >= (3, 11)
    yield Finding(what="python", fine=new, found=sys.version.split()[0], hint="" if new else "Python 3.11 or newer")
    yield Finding(what="paceline", fine=True, found=importlib.metadata.version("paceline"))


def _torch(folder: Path) -> Iterator[Finding]:
    import torch

    from paceline.train.runtime import resolve_device

    x = torch.ones(4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad((x @ x).sum(), x)
    yield Finding(what="torch", fine=bool((gradient == 8).all()), found=torch.__version__)
    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    yield Finding(what="device", fine=True, found=f"{device}: {name}" if name != str(device) else name)


def _processor(folder: Path) -> Iterator[Finding]:
    import torch

    cores = os.cpu_count() or 1
    yield Finding(what="cores", fine=True, found=f"{cores}, so at most {cores} cohorts train side by side")
    yield Finding(what="threads", fine=True, found=f"torch would take {torch.get_num_threads()}; a run sets its own")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    yield Finding(what="memory", fine=True, found=f"{memory / 1e9:.1f} GB, of which cohorts take half at most")


def _storage(folder: Path) -> Iterator[Finding]:
    """Save, damage and load a checkpoint where runs would be."""
    import torch

    from paceline.checkpoint.store import Store

    home = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home) as scratch:
        store = Store(Path(scratch) / "checkpoints")
        store.save(1, {"weights": torch.arange(8)})
        found = store.latest()
    whole = found is not None and found[0] == 1
    yield Finding(what="checkpoints", fine=whole, found=f"saved and read back in {home}")
    free = shutil.disk_usage(home).free
    hint = "" if free > LITTLE_BYTES else "free some space, or --runs on another disk"
    yield Finding(what="disk", fine=free > LITTLE_BYTES / 20, found=f"{free / 1e9:.1f} GB free", hint=hint)


def _compiler(folder: Path) -> Iterator[Finding]:
    """Compile something, with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-c", COMPILE], env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
    if done.returncode == 0:
        yield Finding(what="compiling", fine=True, found="whole steps can be compiled")
        return
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    yield Finding(what="compiling", fine=None, found=f"does not work, cohorts run uncompiled: {last[:80]}",
                  hint="a C++ compiler (g++)")  # fmt: skip


def _extras(folder: Path) -> Iterator[Finding]:
    for name, purpose in EXTRAS.items():
        try:
            yield Finding(what=name, fine=True, found=f"{importlib.metadata.version(name)}, for {purpose}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding(what=name, fine=None, found=f"not installed; for {purpose}", hint=f"pip install {name}")
