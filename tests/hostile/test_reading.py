"""Texts that someone else may have written: what is plain is read, anything else is one line that says why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from paceline.api.runs import configure
from paceline.config.reading import MAX_DEPTH, MAX_NODES, parse_json, parse_yaml, read_text
from paceline.config.tree import read_yaml, to_yaml
from paceline.errors import ConfigError, RunError
from paceline.run.contained import refuse_foreign_entries
from paceline.run.openings import count_openings
from paceline.run.schemas import check_schema
from paceline.track.journal import read_journal

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}), ("a: [1, 2.5, x, null, true]", {"a": [1, 2.5, "x", None, True]}), ("a: 1e-4", {"a": 1e-4}),
        ("a: 1.5e3", {"a": 1500.0}), ("a: '1e-4'", {"a": "1e-4"}), ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}), ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", None), ("", None),
        ("\ufeffa: 1", {"a": 1}), ("a: 0x10", {"a": 16}), ("'1': 2", {"1": 2}), ("a: .inf", {"a": float("inf")}),
    ],
)  # fmt: skip
def test_plain_yaml_is_read(text, value):
    if "<<" in text:
        value = {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", "line 5: the key 'c' stands twice, first in line 3"),
        ("1: a", "line 1: a key is not a text: '1'"), ("a: 1\non: b", "line 2: a key is not a text"),
        ("[a]: 1", "not a text"), ("? {a: 1}\n: 2", "not a text"), ("a: &a [*a]", "line 1: \\*a contains itself"),
        ("[" * 500, f"nested deeper than {MAX_DEPTH}"), ("- " * 500, "nested deeper"), ("{a: " * 500, "nested deeper"),
        ("a: " + "9" * 5000, "a number of 5,000 characters"), ("a: 1" + ":10" * 500, "a number of 1,501 characters"),
        ("a: [" + "1," * (MAX_NODES + 1) + "]", "more than 200,000 values"), ("a: 1\n---\nb: 2", "another document"),
        ("a: !!python/object/apply:os.getcwd []", "python/object/apply:os.getcwd"), ("a: !!binary aGk=", "binary"),
        ("a: !!set {b}", "set"), ("a: !!timestamp 2020-01-01", "timestamp"), ("a: !!bool 7", "this is no bool: '7'"),
        ("a: !!int x", "this is no int"), ("a: !!map [1]", "no mapping"), ("a: !!int [1]", "scalar"),
        ("%TAG !e! tag:yaml.org,2002:python/\n---\na: !e!object/apply:os.getcwd []", "os.getcwd"),
        ("a: [1", "line 2"), ("a: *x", "undefined alias"), ("a: \x07", "control characters"),
        ("a: '\ud800'", "surrogate"), ("a: " + "x" * (1 << 20), "are too many"),
    ],
    ids=lambda value: value[:20].encode("unicode_escape").decode(),
)  # fmt: skip
def test_other_yaml_is_refused_with_its_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_aliases_count_as_what_they_repeat():
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(ValueError, match="more than 200,000 values"):
        parse_yaml(laughs)
    few = parse_yaml("".join(laughs.splitlines(keepends=True)[:10]))
    assert len(few["a9"]) == 2


@pytest.mark.parametrize("value", ["1e-4", "1.5e3", "2020-01-01", "null", "on", "12", "", "~", "a: b", "\x1b", "0x1"])
def test_a_text_is_written_so_that_it_is_read_as_a_text(value, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(to_yaml({"a": value, "b": [value]}), encoding="utf-8")
    assert read_yaml(path) == {"a": value, "b": [value]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"), ("[NaN]", "NaN is no number"),
        ("[1e999]", "too large"), ("-Infinity", "Infinity is no number"),
        ("[" * 100, "nested deeper"), ('{"a": ' * 100, "nested deeper"),
        ("9" * 5000, "4300 digits"), ("{", "Expecting"), ("", "Expecting"),
        ('["' + "[" * 100 + '", [' + "[" * 60, "deeper"),
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_other_json_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_json_with_brackets_in_texts_and_many_lists_beside_each_other_is_read():
    tree = {"a": "[" * 500, "b": [[i] for i in range(500)], "c": '"' * 3 + "\\" * 3 + "{" * 60}
    assert parse_json(json.dumps(tree)) == tree


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\0b", "zero byte"), (b"\xff\xfea", "UTF-8"), (b"x" * 101, "101 bytes are too many")],
)
def test_a_file_of_other_content_is_not_read(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(OSError, match=message):
        read_text(tmp_path / "x", most=100)


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a plain file"):
        read_text(tmp_path / "pipe")


def option(folder: Path, text: str, **others: str) -> None:
    (folder / "model").mkdir()
    for name, content in {"own": text, **others}.items():
        (folder / "model" / f"{name}.yaml").write_text(content)
    configure("pain", ["model=own"], config_dir=folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: gru\nhidden_size: ${oc.env:HOME}", "never computed"), ("${oc.env:HOME}: 1", "never computed"),
        ("name: gru\nhidden_size: ${model.num_layers}", "never computed"), ("defaults: ['${task}']", "never computed"),
        ("name: gru\nname: gru", "the key 'name' stands twice"), ("- 1", "must hold a mapping"),
        ("defaults: 3", "must be a list of names"), ("defaults: [3]", "must be a list of names"),
        ("defaults: [{a: 1, b: 2}]", "must be a list of names"), ("defaults: [own]", "based on itself"),
        ("defaults: [b]", "based on itself"), ("defaults: [c]", "more than 64 others"),
        ("# @package a b\na: 1", "@package"),
    ],
)  # fmt: skip
def test_an_option_file_that_is_not_plain_is_one_error_naming_it(workdir, text, message):
    many = {f"c{i}": f"defaults: [c{i + 1}@x, c{i + 1}@y]" for i in range(9)} | {"c9": "name: gru"}
    with pytest.raises(ConfigError, match=message) as caught:
        option(workdir, text, b="defaults: [{/model: own}]", c="defaults: [c0]", **many)
    assert "model/" in caught.value.where
    assert len(str(caught.value).splitlines()) <= 4


def test_options_based_on_others_still_compose(workdir):
    option(workdir, "defaults: [base, _self_]\nname: gru\nhidden_size: 5\n", base="num_layers: 1\nhidden_size: 3\n")
    made = configure("pain", ["model=own"], config_dir=workdir)[0].model
    assert (made.name, made.hidden_size, made.num_layers) == ("gru", 5, 1)


@pytest.mark.parametrize("name", ["../secret", "../../secret", "/secret", "sub/../../secret"])
def test_an_options_name_does_not_lead_out_of_its_folder(workdir, name):
    Path("secret.yaml").write_text("name: gru\nhidden_size: 77\n")
    Path("configs/model/sub").mkdir(parents=True)
    given = name if not name.startswith("/") else str(workdir / "secret")
    with pytest.raises(ConfigError, match="no model of that name"):
        configure("pain", [f"model={given}"])


@pytest.mark.parametrize(
    "text",
    ["data.path=${oc.env:HOME}", "training.num_epochs=" + "9" * 5000, "a=" + "[" * 60, "a=" + "x" * 50_000, "a='\0'x",
     "training.batch_size=" + "9" * 30],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_an_argument_that_is_not_plain_is_one_error(workdir, text):
    with pytest.raises(ConfigError) as caught:
        configure("pain", [text])
    assert len(str(caught.value).splitlines()) <= 4


def test_without_these_bounds_the_environment_is_read():
    """What Hydra and OmegaConf do with the same text, unless it is refused."""
    from omegaconf import OmegaConf

    found = OmegaConf.to_container(OmegaConf.create({"a": "${oc.env:PATH}"}), resolve=True)
    assert found == {"a": os.environ["PATH"]}
    assert yaml.unsafe_load("!!python/object/apply:os.getcwd []") == os.getcwd()
    assert yaml.safe_load("a: 1\na: 2") == {"a": 2}
    assert json.loads('{"a": 1, "a": NaN}') != {"a": 1}


PLAN = {"cohorts": [{"id": "seed42", "members": ["seed42"]}], "device": "cpu", "threads": 1, "changes": []}


@pytest.mark.parametrize(
    ("name", "change", "where"),
    [
        ("plan.json", {"cohorts": [{"id": "../x", "members": ["a"]}]}, "cohorts.0.id"),
        ("plan.json", {"cohorts": [{"id": "a", "members": ["a\0"]}]}, "cohorts.0.members.0"),
        ("plan.json", {"cohorts": [{"id": "a", "members": []}]}, "cohorts.0.members"),
        ("plan.json", {"cohorts": []}, "cohorts"), ("plan.json", {"threads": "1"}, "threads"),
        ("plan.json", {"threads": True}, "threads"), ("plan.json", {"threads": 10**9}, "threads"),
        ("plan.json", {"changes": [1]}, "changes.0"), ("logs/a.done", {"members": [{"id": 1}]}, "members.0.id"),
        ("environment.json", {"use": [{"file": "x"}]}, "use.0.sha256"), ("environment.json", {"use": {}}, "use"),
        ("splits.json", {"splits": [{"train": ["1"]}]}, "fingerprint"),
        ("members/a/history.json", {"val_loss": 3}, "val_loss"), ("summary.json", {"failed": [3]}, "failed.0"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_one_error_naming_file_and_key(name, change, where):
    content = {**PLAN, **change} if name == "plan.json" else change
    with pytest.raises(RunError, match="of the run is damaged") as caught:
        check_schema(content, name, "runs/a/file")
    assert caught.value.where.startswith("runs/a/file: ")
    assert caught.value.where.endswith(where) or name == "splits.json"


def test_a_link_out_of_a_run_and_a_pipe_in_it_are_refused_and_links_within_are_not(tmp_path):
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    (run / "logs" / "a").write_text("x")
    (run / "b").symlink_to("logs/a")
    refuse_foreign_entries(run)
    (tmp_path / "to-run").symlink_to(run)
    refuse_foreign_entries(tmp_path / "to-run")
    for target in ("/etc/passwd", "../../elsewhere", str(tmp_path), "."):
        (run / "logs" / "link").symlink_to(target)
        if target == ".":
            refuse_foreign_entries(run)
        else:
            with pytest.raises(RunError, match="leads out of it"):
                refuse_foreign_entries(run)
        (run / "logs" / "link").unlink()
    os.mkfifo(run / "pipe")
    with pytest.raises(RunError, match="neither a file nor a folder"):
        refuse_foreign_entries(run)


@pytest.mark.parametrize(
    "line",
    ["{}", "[]", "nonsense", '{"member": 1, "step": 1, "epoch": 1, "split": "val", "values": {}}', "[" * 100,
     '{"member": "a", "step": 1, "epoch": 1, "split": "val", "values": {"x": "y"}}'],
)  # fmt: skip
def test_a_line_of_a_log_that_is_no_record_is_named(tmp_path, line):
    good = '{"member": "a", "step": 1, "epoch": 1, "split": "val", "values": {"x": [1, null]}}'
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\ncut off")
    rows = read_journal(tmp_path / "a.jsonl")
    assert next(rows)["values"] == {"x": [1, None]}
    with pytest.raises(RunError, match="damaged") as caught:
        next(rows)
    assert "a.jsonl:2" in caught.value.where


def test_torn_lines_of_the_register_of_openings_are_passed_over(tmp_path):
    good = '{"fingerprint": "f", "run": "a", "by": "train", "id": "1"}'
    torn = ['{"fingerprint": "f", "ru{"fingerprint": "f"}', "[]", '{"fingerprint": 3}', "\x1b", "{}"]
    (tmp_path / "test_openings.jsonl").write_text("\n".join([good, *torn, good.replace('"1"', '"2"')]) + "\n")
    assert count_openings(tmp_path, "f") == 2
