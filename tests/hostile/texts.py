"""Payloads in texts: YAML, the command line, CSV, .ts files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import OmegaConf

from paceline.api.runs import configure
from paceline.recipes.pain.challenge import Challenge
from paceline.recipes.pain.ts import Ts
from paceline.report.compare import compare
from paceline.run.build import load
from tests.hostile.folders import LAUGHS
from tests.hostile.material import Material
from tests.hostile.payloads import Use, payload

CALL = "!!python/object/apply:os.system ['touch executed']"
MERGES = "a0: &a0 {" + ", ".join(f"k{i}: 1" for i in range(9)) + "}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)  # fmt: skip


def config(text: str | bytes) -> Use:
    """Return a case that starts from a config file with this text."""

    def use(folder: Path, material: Material) -> None:
        (folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        configure(config=folder / "config.yaml")

    return use


def option(text: str, more: dict[str, str] | None = None) -> Use:
    """Return a case that chooses an option with this text."""

    def use(folder: Path, material: Material) -> None:
        (folder / "model").mkdir()
        for name, content in {"own": text, **(more or {})}.items():
            (folder / "model" / f"{name}.yaml").write_text(content)
        configure("pain", ["model=own"], config_dir=folder)

    return use


def unsafe(text: str) -> Use:
    return lambda folder, material: yaml.unsafe_load(text)


def loaded(text: str) -> Use:
    return lambda folder, material: json.dumps(yaml.safe_load(text))


YAML: list[tuple[str, Any, Use | None, str]] = [
    ("a call in YAML", f"task: {CALL}", unsafe(CALL), "executed"),
    ("an object in YAML", "task: !!python/object/new:os.system ['touch executed']", None, ""),
    ("a module in YAML", "task: !!python/module:antigravity", None, ""),
    ("a billion laughs", LAUGHS, loaded(LAUGHS), "traceback slow"),
    ("a billion merges", MERGES, loaded(MERGES), "traceback slow"),
    ("YAML in itself", "a: &a [*a]", loaded("a: &a [*a]"), "traceback"),
    ("YAML 100,000 deep", "a: " + "[" * 100_000, loaded("a: " + "[" * 100_000), "traceback crash"),
    ("YAML 100,000 deep by dashes", "- " * 100_000, None, ""),
    ("a number of 900,000 digits", "a: " + "9" * 900_000, loaded("a: " + "9" * 900_000), "traceback slow"),
    ("a number to base 60", "a: 1" + ":10" * 300_000, loaded("a: 1" + ":10" * 300_000), "slow traceback"),
    ("a key twice in YAML", "task: {name: pain}\ntask: {name: pain}\n", None, ""),
    ("a key that is a list", "[task]: {name: pain}\n", None, ""),
    ("YAML in UTF-16", "task: {name: pain}\n".encode("utf-16"), None, ""),
    ("YAML with a zero byte", "task: {name: 'pa\0in'}\n", None, ""),
    ("two megabytes of YAML", "a: [" + "1," * 1_000_000 + "]", None, ""),
]
for _name, _text, _naive, _suffers in YAML:
    payload(_name, naive=_naive, suffers=_suffers)(config(_text))
for _name, _text, _naive, _suffers in YAML[:6]:
    payload(f"{_name}, in an option")(option(_text))


def _environment(folder: Path, material: Material) -> None:
    """Resolve as Hydra does: the text of a variable gets into the config."""
    os.environ["PACELINE_SECRET"] = "hunter2"
    tree = OmegaConf.to_container(OmegaConf.create({"a": "${oc.env:PACELINE_SECRET}"}), resolve=True)
    assert tree != {"a": "hunter2"}, "the variable was read"


NESTED = {f"a{i}": f"defaults: [a{i + 1}@x, a{i + 1}@y]\n" for i in range(20)} | {"a20": "name: gru\n"}
payload("a variable of the environment", naive=_environment, suffers="traceback executed")(
    option("name: gru\nhidden_size: ${oc.env:HOME}\n")
)
payload("a variable of the environment in a list of defaults")(option("defaults: ['${oc.env:HOME}']\nname: gru\n"))
payload("texts that double each other")(option("a: ${b}${b}\nb: ${c}${c}\nc: xxxxxxxx\nname: gru\n"))
payload("an option based on itself")(option("defaults: [own]\nname: gru\n"))
payload("a million options by defaults")(option("defaults: [a0]\n", NESTED))
payload("an option elsewhere by its name")(lambda folder, material: configure("pain", ["model=../../../../etc/x"]))
for _name, _words in (
    ("a variable on the command line", "data.path=${oc.env:HOME}"),
    ("brackets on the command line", "model.channels=" + "[" * 500 + "]" * 500),
    ("a number of 5,000 digits on the command line", "training.num_epochs=" + "9" * 5000),
    ("a billion values on the command line", "training.num_epochs=shuffle(range(1,1000000000))"),
    ("a billion seeds", "members.seeds=1000000000"),
    ("a zero byte on the command line", "model='a\0b'"),
):
    payload(_name)(lambda folder, material, words=_words: configure("pain", [words]))


def csv(text: str | bytes, name: str = "long.csv", **options: Any) -> Use:
    """Return a case that loads a long CSV with this text; labels are in it."""

    def use(folder: Path, material: Material) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        load(Challenge(path=str(folder / name), **options))

    return use


HEAD = "sample_index,time,a,label\n"
ROWS = "".join(f"{i},{t},{i}.5,{'xy'[i % 2]}\n" for i in range(20) for t in range(5))
RAGGED = "".join(f"0,{t},1,x\n" for t in range(30_000)) + "".join(f"{i},0,1,y\n" for i in range(1, 30_000))
FAR = "".join(f"{i},{t},1,{'xy'[i % 2]}\n" for i in range(20) for t in (0, 1, 10**9))


def _gzip(folder: Path) -> Path:
    """Write a packed CSV of two gigabytes."""
    line = HEAD.encode() + b"0,0,0,0\n" * (1 << 17)
    (folder / "long.csv.gz").write_bytes(gzip.compress(line, 9) + gzip.compress(line[len(HEAD) :], 9) * 2000)
    return folder / "long.csv.gz"


@payload("two gigabytes of zeros as CSV", naive=lambda f, m: pd.read_csv(_gzip(f)), suffers="traceback slow")
def _csv_bomb(folder: Path, material: Material) -> None:
    load(Challenge(path=str(_gzip(folder))))


payload("one long sample among many short ones")(csv(HEAD + RAGGED))
payload("a step a billion after the others")(csv(HEAD + FAR, missing="mask"))
WIDE = "sample_index,time," + ",".join(f"c{i}" for i in range(500_000)) + "\n0,0" + ",1" * 500_000
payload("half a million columns")(csv(WIDE))
payload("a cell of five megabytes")(csv(HEAD + "0,0," + "1" * 5_000_000 + ",x\n"))
payload("a name of a column of five megabytes")(csv("x" * 5_000_000 + ",time\n1,2\n"))
payload("a quote that is never closed")(csv(HEAD + '0,0,"' + "1,\n" * 500_000))
payload("an id of 5,000 digits", harmless=True)(csv(HEAD + ROWS.replace("\n1,", "\n" + "1" * 5000 + ",")))
payload("a label of 5,000 digits", harmless=True)(csv(HEAD + ROWS.replace(",x\n", "," + "1" * 5000 + "\n")))
payload("labels that begin with two dashes", harmless=True)(csv(HEAD + ROWS.replace(",x\n", ",--1\n")))
payload("a CSV in UTF-16")(csv((HEAD + ROWS).encode("utf-16")))
payload("a CSV with a zero byte in its header")(csv("\0" + HEAD + ROWS))
payload("a packed CSV that is cut")(csv(gzip.compress((HEAD + ROWS).encode())[:-20], "long.csv.gz"))
payload("noise for a packed CSV")(csv(b"\x1f\x8b" + bytes(range(250)), "long.csv.gz"))


@payload("a pipe for data")
def _pipe(folder: Path, material: Material) -> None:
    os.mkfifo(folder / "long.csv")
    load(Challenge(path=str(folder / "long.csv")))


def ts(text: str) -> Use:
    """Return a case that loads a .ts file with this text."""

    def use(folder: Path, material: Material) -> None:
        (folder / "data.ts").write_text(text)
        load(Ts(path=str(folder / "data.ts")))

    return use


LABELS = "@classLabel true a b\n"
payload("a header of 10^20 channels")(ts(f"@dimensions 99999999999999999999\n{LABELS}@data\n1,2:1,2:a\n"))
UNEVEN = "1:a\n" * 100_000 + ",".join(["1"] * 500_000) + ":b\n"
payload("one long sample in a .ts file")(ts(f"{LABELS}@data\n{UNEVEN}"))
payload("three million colons")(ts(f"{LABELS}@data\n" + ":" * 3_000_000))
payload("a value of a million digits")(ts(f"{LABELS}@data\n" + "9" * 1_000_000 + ":a\n"))
payload("escapes in a header")(ts("\x1b[2J@problemName x\n"))


@payload("scores of a million cells")
def _scores(folder: Path, material: Material) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text("seed,accuracy\n" + "," * 1_000_000 + "\n")
    compare([str(folder / "a.csv"), str(folder / "b.csv")])
