"""Names are inert wherever they come out: in pages, tables, the terminal and logs, whoever chose them."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.text import Text

from paceline.api.runs import train
from paceline.api.using import predict
from paceline.cli.app import run as command_line
from paceline.cli.console import make_console
from paceline.data.csv_text import FORMULA, csv_text, neutral
from paceline.errors import ConfigError, RunError, visible
from paceline.report.compare import compare
from paceline.report.compare_page import write_comparison_page
from paceline.run.folder import check_name

CLASSES = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "=1+cmd|' /C calc'!A0",
    "\x1b[31mr\x1b]0;t\x07",
)
CHANNELS = ("</title><svg onload=alert(1)>", "\u202egnp.exe")
IDS = (
    "=1+1",
    "-2+3",
    "+1",
    "-5",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "a\nb",
    "\x1b[2J",
    "\u202ex",
    "plain",
    "'quoted",
    "+",
    "1e5",
)
N = 56


def hidden(text: str) -> list[str]:
    """Return the characters of a text that could drive a terminal or turn a line."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\u200b\u00ad"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    y = np.arange(N) % len(CLASSES)
    x = np.random.default_rng(0).normal(size=(N, 4, 2)) + y[:, None, None]
    np.savez(folder / "data.npz", X=x, y=np.array(CLASSES)[y], channels=np.array(CHANNELS),
             ids=np.array([IDS[i] if i < len(IDS) else f"s{i}" for i in range(N)]))  # fmt: skip
    overrides = [
        "data=npz", f"data.path={folder / 'data.npz'}", "data.split.test_fraction=0.25", "model=gru", "device=cpu",
        "model.hidden_size=4", "model.num_layers=1", "training.num_epochs=1", "members.seeds=2", "numerics.threads=1",
    ]  # fmt: skip
    return train("pain", overrides, runs=folder, name="x").path


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def refuse_active(page: str) -> None:
    """Fail where a page holds anything that acts, or a character that hides."""
    for tag, attributes in Elements(page).found:
        assert tag not in ("script", "img", "iframe", "object", "embed", "form"), tag
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        link = (attributes.get("href") or "").lower()
        assert link == "data:," or not link.startswith(("javascript:", "data:")), attributes
    assert hidden(page) == []


def test_the_check_of_pages_finds_what_acts():
    for page in ("<script>", "<p onclick=x>", "<a href='JavaScript:x'>", "<p>\u202e", "<svg onload=x>"):
        with pytest.raises(AssertionError):
            refuse_active(page)


def test_pages_show_hostile_names_as_text(run, tmp_path, capsys, monkeypatch):
    report = (run / "report.html").read_text(encoding="utf-8")
    refuse_active(report)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report
    command(monkeypatch, "runs", str(run.parent))
    refuse_active((run.parent / "index.html").read_text(encoding="utf-8"))
    write_comparison_page(compare([str(run), str(copied(run, tmp_path))]), tmp_path / "compare.html")
    refuse_active((tmp_path / "compare.html").read_text(encoding="utf-8"))
    assert hidden(capsys.readouterr().out) == []


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Run `paceline WORDS` in this process."""
    monkeypatch.setattr(sys, "argv", ["paceline", *words])
    with pytest.raises(SystemExit) as ended:
        command_line()
    assert ended.value.code == 0


def copied(run: Path, folder: Path) -> Path:
    """Return a copy of a run under a name that no run is given, whose summary has such names, too."""
    target = folder / "<b onclick=x>=1"
    shutil.copytree(run, target)
    summary = json.loads((target / "summary.json").read_text())
    for member in summary["members"]:
        member |= {"variant": "<script>x</script>", "stopped": "\x1b[2J", "status": "finished\u202e"}
    summary["variants"] = []
    (target / "summary.json").write_text(json.dumps(summary))
    return target


def test_a_table_of_predictions_holds_no_formula_and_keeps_numbers(run, tmp_path):
    made = predict(run, run.parent / "data.npz", output=tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert hidden(text) == ["\t"]  # of the id that begins with one
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) == N + 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(FORMULA) or cell == "+" or is_number(cell), cell
    assert [row[0] for row in rows[1:5]] == ["'=1+1", "'-2+3", "+1", "-5"]  # the last two are numbers
    again = pd.read_csv(tmp_path / "out.csv")
    for name in [name for name in made if name.startswith("p_")]:
        assert again[visible(name)].to_numpy(np.float32).tolist() == made[name].tolist()


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_the_terminal_gets_names_as_escapes(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for words in (["report", str(run)], ["predict", str(run), str(run.parent / "data.npz")]):
        command(monkeypatch, *words)
        shown = capsys.readouterr()
        assert set(hidden(shown.out)) <= {"\t"}
        assert hidden(shown.err) == []
    assert "\\x1b[31mr" in shown.out


@pytest.mark.fast
def test_a_console_prints_no_control_characters_and_reads_no_markup(capsys):
    console = make_console()
    console.print(Text("a\x1b[31mb\u202ec[bold]d[/bold]\x07"))
    assert capsys.readouterr().out == "a\\x1b[31mb\\u202ec[bold]d[/bold]\n"


@pytest.mark.fast
def test_a_log_line_has_no_control_characters(caplog):
    logging.getLogger("paceline").warning("channels of %s: %d", "x\x1b[2J\u202e", 3)
    assert caplog.messages == ["channels of x\\x1b[2J\\u202e: 3"]


@pytest.mark.fast
def test_an_error_is_printable_and_of_at_most_four_lines():
    error = ConfigError("what\x1b", where="a\nb", got="\u202e" + "x" * 1000, hint="\r\n\t")
    assert all(line.isprintable() for line in str(error).splitlines())
    assert len(str(error).splitlines()) <= 4


@pytest.mark.fast
@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"), ("+x", "'+x"), ("-x", "'-x"), ("@x", "'@x"), ("\tx", "'\tx"), ("\rx", "'\\rx"),
        ("\uff1dx", "'\uff1dx"), ("-5", "-5"), ("+1.5e3", "+1.5e3"), ("-inf", "-inf"), ("-1_0", "'-1_0"), ("+", "+"),
        ("-", "-"), ("", ""), ("a=b", "a=b"), ("'x", "'x"), ("a\x1bb", "a\\x1bb"), (" =1", " =1"), (-5, -5), (1.5, 1.5),
        (None, None), (True, True),
    ],
)  # fmt: skip
def test_a_cell_is_neutral_and_a_number_stays_as_it_is(cell, written):
    assert neutral(cell) == written


@pytest.mark.fast
def test_a_table_without_formulas_is_written_as_pandas_writes_it():
    table = pd.DataFrame({"n": [1, -2], "x": [-0.1, 1e-300], "t": ["a", 'b,"c"'], "o": [None, 2.5]}, index=[7, -8])
    assert csv_text(table) == table.to_csv()
    assert csv_text(table, index=False) == table.to_csv(index=False)


@pytest.mark.fast
@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/b", "a\\b", ".", "..", "", "a\0b", "x" * 101, "con", "NUL", "com1.txt", "a.", "\x1b[2J", "-x",
     "a b", "\u202ex", "a\n"],
)  # fmt: skip
def test_a_run_has_a_name_that_is_one_plain_folder_everywhere(name):
    with pytest.raises(RunError, match="a run's name must be"):
        check_name(name)
