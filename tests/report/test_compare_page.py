from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from paceline.report.compare import compare
from paceline.report.compare_forest import Forest, ForestRow, forest
from paceline.report.compare_page import write_comparison_page
from tests.report.arms import write_run

pytestmark = pytest.mark.fast
EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def page(tmp_path, *sources, metrics=()) -> str:
    target = tmp_path / "compare.html"
    write_comparison_page(compare([str(source) for source in sources], metrics), target)
    return target.read_text(encoding="utf-8")


def charts(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]


def test_the_page_has_verdicts_a_forest_plot_and_what_they_stand_on(tmp_path):
    runs = [write_run(tmp_path / name, skill=s) for name, s in (("base", 0.6), ("wide", 0.95), ("same", 0.6))]
    html = page(tmp_path, *runs, metrics=["test_accuracy", "test_log_loss"])
    text = " ".join(Reader(html).text.split())
    assert "Test accuracy wide is better than base: +0." in text
    assert "What the verdict stands on" in text and "sign flips of 5 pairs" in text
    plots = [chart for chart in charts(html) if "forest" in chart.get("class", "")]
    assert len(plots) == 2
    rows = [node for node in plots[0].iter("g") if node.get("class") in ("row", "row found")]
    assert [row.get("class") for row in rows] == ["row found", "row"]
    assert all(
        node.get("class") != "over-samples" or float(node.get("x1")) < float(node.get("x2")) for node in plots[0].iter()
    )
    assert [node.text for node in plots[0].iter("text") if "side" in node.get("class", "")] == [
        "← base better",
        "base worse →",
    ]
    assert [node.text for node in plots[1].iter("text") if "side" in node.get("class", "")] == [
        "← base worse",
        "base better →",
    ]


def test_intervals_lie_where_the_axis_says(tmp_path):
    rows = [
        ForestRow(name="b", numbers="", value=0.5, interval=(0.0, 1.0), samples=(0.25, 0.75)),
        ForestRow(name="c", numbers="", value=-1.0, interval=None),
    ]
    root = ElementTree.fromstring(forest(Forest(id="f", title="t", desc="d", rows=rows, left="", right="")))
    zero = next(float(node.get("x1")) for node in root.iter("line") if node.get("class") == "zero")
    members = next(node for node in root.iter("rect") if node.get("class") == "over-members")
    start, width = float(members.get("x")), float(members.get("width"))
    points = [float(node.get("cx")) for node in root.iter("circle")]
    samples = next(node for node in root.iter("line") if node.get("class") == "over-samples")
    assert start == pytest.approx(zero, abs=0.11)
    assert points == pytest.approx([start + width / 2, zero - width], abs=0.11)
    assert float(samples.get("x1")) == pytest.approx(start + width / 4, abs=0.11)


def test_hostile_names_are_inert(tmp_path):
    import json

    a, b = write_run(tmp_path / "a", data=EVIL), write_run(tmp_path / "x<img src=x>", data=EVIL, failed=("seed42",))
    for run in (a, b):
        tree = json.loads((run / "summary.json").read_text())
        for member in tree["members"]:
            member["metrics"] = {f"test_{EVIL}": value for value in member["metrics"].values()}
        (run / "summary.json").write_text(json.dumps(tree))
    reader = Reader(page(tmp_path, a, b, metrics=[f"test_{EVIL}"]))
    assert {name for name, _ in reader.elements} & {"script", "img", "iframe", "object", "embed", "form"} == set()
    assert not [name for _, tag in reader.elements for name in tag if name.startswith("on")]
    assert reader.text.count("alert") > 3 and "x<img src=x>" in reader.text


def test_the_page_stands_alone(tmp_path):
    html = page(tmp_path, write_run(tmp_path / "a"), write_run(tmp_path / "b"))
    reader = Reader(html)
    policy = next(t["content"] for n, t in reader.elements if n == "meta" and t.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'") and "script-src" not in policy
    loads = [tag[key] for _, tag in reader.elements for key in ("src", "href", "srcset") if key in tag]
    assert loads == ["data:,"]
    assert not re.search(r"@import|url\((?!#)|//[a-z]", html)


@pytest.mark.parametrize("options", [{}, {"seeds": (1,)}, {"folds": 3}, {"regression": True}, {"failed": ("seed42",)}])
def test_drawings_are_well_formed_described_and_without_nan(tmp_path, options):
    html = page(tmp_path, write_run(tmp_path / "a", **options), write_run(tmp_path / "b", **options))
    drawn = [chart for chart in charts(html) if chart.get("aria-hidden") is None]
    ids = [node.get("id") for chart in drawn for node in chart.iter() if node.get("id")]
    assert drawn and len(ids) == len(set(ids))
    for chart in drawn:
        assert chart.find("title").text and chart.find("desc").text
    assert not re.search(r"\bnan\b|\binf\b", html.lower())


def test_the_same_comparison_gives_the_same_bytes(tmp_path):
    runs = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert page(tmp_path, *runs) == page(tmp_path, *runs)
