#!/usr/bin/env python3
"""Work on paceline: one file, the standard library alone. `python3 x.py --help` lists the commands."""

import os
import sys

if os.name == "nt":
    sys.exit(
        "x.py runs on Linux and macOS; on Windows use it inside WSL, or `pip install -e .` in your own environment"
    )
if sys.version_info < (3, 11):
    sys.exit("x.py needs Python 3.11 or newer; this is %d.%d (%s)" % (*sys.version_info[:2], sys.executable))

import contextlib
import fcntl
import hashlib
import platform
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
BENCHMARKS = ROOT / "benchmarks"
PEERS = {"step", "cohort"}  # benchmarks that also run other trainers, from benchmarks/requirements.txt
UNFINISHED = "unfinished"
DEMO = ["train", "task=pain", "members.seeds=5", "--name", "demo", "--overwrite"]

HELP = """\
usage: python3 x.py COMMAND [ARGS]

  demo               train five seeds of a recurrent classifier on bundled data; the report: runs/demo/report.html
  test [ARGS]        run the tests; ARGS go to pytest, paths are relative to the repository
  lint [--fix]       ruff check, ruff format, mypy --strict; --fix repairs what ruff can
  bench NAME [ARGS]  run benchmarks/NAME.py; ARGS such as --json FILE or --quick go to it
  run ARGS           the command line of paceline: `x.py run train task=pain` is `paceline train task=pain`

The first command makes .venv beside x.py and installs the pinned packages (about 1 GB, a minute or two); later ones
start at once, until pyproject.toml or constraints.txt changes. Benchmarks that compare with other trainers have an
environment of their own, .venv-bench. The exit code is that of the command that ran; 2 stands for a wrong argument.
"""


class CommandError(Exception):
    """What went wrong, in words for the user, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if args else 2
    commands = {"demo": demo, "test": test, "lint": lint, "bench": bench, "run": run}
    if args[0] not in commands:
        raise CommandError(f"no command {args[0]!r}; there are: {', '.join(commands)}", 2)
    return commands[args[0]](args[1:])


def demo(args: list[str]) -> int:
    if args:
        raise CommandError(f"demo takes no arguments; for your own: python3 x.py run {' '.join(DEMO[:2])} ...", 2)
    bin_dir = core_environment()
    os.chdir(ROOT)
    return become([bin_dir / "paceline", *DEMO])


def test(args: list[str]) -> int:
    bin_dir = core_environment()
    os.chdir(ROOT)
    mine = any(arg.startswith(("-n", "--pdb", "--collect-only", "--co")) for arg in args)
    spread = [] if mine else ["-n", str(os.cpu_count() or 1), "--dist", "loadfile"]  # files share the cores
    return become([bin_dir / "python", "-m", "pytest", *spread, *args])


def run(args: list[str]) -> int:
    return become([core_environment() / "paceline", *args])


def lint(args: list[str]) -> int:
    if args not in ([], ["--fix"]):
        raise CommandError(f"lint takes --fix or nothing; got: {' '.join(args)}", 2)
    python = core_environment() / "python"
    checks = [["ruff", "check", *args], ["ruff", "format", *([] if args else ["--check"])], ["mypy", "--strict", "src"]]
    failed = [" ".join(check) for check in checks if subprocess.call([python, "-m", *check], cwd=ROOT)]
    say(f"lint failed: {'; '.join(failed)}" if failed else "lint passed")
    return 1 if failed else 0


def bench(args: list[str]) -> int:
    names = sorted(path.stem for path in BENCHMARKS.glob("[a-z]*.py"))
    if not args or args[0] not in names:
        got = f"no benchmark {args[0]!r}" if args else "bench needs a name"
        raise CommandError(f"{got}; there are: {', '.join(names) or 'none'}", 2)
    has_peers = args[0] in PEERS and (BENCHMARKS / "requirements.txt").exists()
    bin_dir = bench_environment() if has_peers else core_environment()
    return become([bin_dir / "python", BENCHMARKS / f"{args[0]}.py", *args[1:]])


def core_environment() -> Path:
    what = ["-e", ".[dev,tensorboard,battery,wandb]"]
    return environment(ROOT / ".venv", what, ["pyproject.toml", "constraints.txt"])


def bench_environment() -> Path:
    peers = "benchmarks/requirements.txt"
    inputs = ["pyproject.toml", "constraints.txt", peers]
    return environment(ROOT / ".venv-bench", ["-r", peers, "-e", "."], inputs)


def environment(folder: Path, what: list[str], inputs: list[str]) -> Path:
    """Make sure that `folder` is an environment with `what` installed from these inputs; return its programs' folder.

    A stamp in the folder says which inputs the last complete installation had. It reads `unfinished` from before the
    folder is filled until pip has succeeded, so an interrupted installation starts again from nothing.
    """
    stamp = folder / ".x-stamp"
    bin_dir = folder / "bin"
    base = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()} {ROOT}"
    wanted = f"{base}\n{digest([what, *(ROOT / name for name in inputs)])}\n"
    if read(stamp) == wanted:
        return bin_dir
    with lock(folder):
        found = read(stamp)
        if found == wanted:  # another x.py has just finished it
            return bin_dir
        if found == "" and folder.exists() and any(folder.iterdir()):
            raise CommandError(f"{folder} was not made by x.py; move it away and run the command again", 2)
        same_base = found.partition("\n")[0] == base
        if not same_base:
            remove(folder)
            folder.mkdir()
        stamp.write_text(UNFINISHED)
        fill(folder, bin_dir, what, new=not same_base)
        stamp.write_text(wanted)
    return bin_dir


def remove(folder: Path) -> None:
    """Move the folder aside first: one that is half deleted must not pass for somebody else's."""
    aside = Path(f"{folder}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def fill(folder: Path, bin_dir: Path, what: list[str], *, new: bool) -> None:
    """Create the environment if it is new, and install into it."""
    started = time.monotonic()
    say(f"{'making' if new else 'updating'} {folder.name} ({'a minute or two, once' if new else 'its inputs changed'})")
    log = folder / "install.log"
    if new:
        watch([sys.executable, "-m", "venv", folder], log, "creating the environment")
    pip = [bin_dir / "python", "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    watch([*pip, "-c", "constraints.txt", *what], log, "installing")
    say(f"{folder.name} is ready after {time.monotonic() - started:.0f} s")


def watch(command: list[str | Path], log: Path, title: str) -> None:
    """Run a command with one line of progress and its output in `log`, whose end is shown if it fails."""
    terminal = sys.stderr.isatty()
    started = shown = time.monotonic()
    last = [title]
    child = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own, to end its children with it
    )
    reader = threading.Thread(target=copy_lines, args=(child.stdout, log, last), daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(0.2)
            now = time.monotonic()
            if terminal or now - shown > 15:
                shown = now
                show(f"{now - started:4.0f} s  {last[0]}", replace=terminal)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise
    finally:
        if terminal:
            show("", replace=True)
    if child.wait():
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])
        raise CommandError(f"{title} failed (exit code {child.returncode}); the end of {log}:\n{tail}", 1)


def copy_lines(lines, log: Path, last: list[str]) -> None:
    with lines, log.open("a") as file:
        for line in lines:
            file.write(line)
            file.flush()
            last[0] = line.strip() or last[0]


@contextlib.contextmanager
def lock(folder: Path):
    """Let one x.py at a time change `folder`."""
    with Path(f"{folder}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another x.py that is installing into {folder.name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def become(command: list[str | Path]) -> NoReturn:
    """Replace this process by the command, so that its exit code and every signal are its own."""
    words = list(map(str, command))
    sys.stdout.flush()
    os.execv(words[0], words)


def digest(parts: list) -> str:
    """Hash of the parts: the bytes of a file for a path, the text of anything else."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def say(text: str) -> None:
    print(f"x.py: {text}", file=sys.stderr, flush=True)


def show(text: str, *, replace: bool) -> None:
    """Print one line of progress, over the previous one on a terminal."""
    if replace:
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)
    else:
        say(text[:100])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except CommandError as error:
        say(str(error))
        sys.exit(error.code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
