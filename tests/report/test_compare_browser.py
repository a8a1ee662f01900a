"""Comparisons and the list of runs in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.report.compare import compare
from paceline.report.compare_page import write_comparison_page
from paceline.report.leaderboard import leaderboard
from paceline.report.leaderboard_page import write_index
from tests.report.arms import write_run
from tests.report.test_browser import OVERFLOWING


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("runs")
    long = "pain-conv_gru-20260102-101500-" + "x" * 50
    runs = [write_run(base / name, skill=s) for name, s in (("a", 0.6), ("b", 0.9), (long, 0.7))]
    single = [write_run(base / name, seeds=(1,)) for name in ("one", "two")]
    write_run(base / "part", finished=False)
    write_comparison_page(
        compare([str(run) for run in runs], ["test_f1_macro", "test_log_loss"]), base / "several.html"
    )
    write_comparison_page(compare([str(run) for run in single]), base / "single.html")
    index = write_index(leaderboard(base))
    return {"several": base / "several.html", "single": base / "single.html", "index": index}


@pytest.mark.parametrize("name", ["several", "single", "index"])
def test_a_phone_shows_the_page_without_sideways_scrolling(browser, pages, name):
    browser.open(pages[name], width=375)
    assert browser.ask("document.documentElement.scrollWidth") <= 375
    assert browser.ask(OVERFLOWING) == []


@pytest.mark.parametrize("name", ["several", "single", "index"])
@pytest.mark.parametrize("dark", [False, True])
def test_the_browser_has_nothing_to_complain_about(browser, pages, name, dark):
    browser.open(pages[name], width=1200, dark=dark)
    browser.ask("1 + 1")  # what the page reports until here has arrived
    bad = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert [event for event in browser.events if event.get("method") in bad] == []
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {pages[name].resolve().as_uri()}


def test_the_forest_plot_can_be_read_on_a_phone(browser, pages):
    browser.open(pages["several"], width=375)
    texts = "[...document.querySelectorAll('svg.forest text')].map(e => e.getBoundingClientRect().height)"
    assert min(browser.ask(texts)) >= 11
    overlaps = """[...document.querySelectorAll('svg.forest .row')].filter(row => {
      const [who, figures] = [...row.querySelectorAll('text')].map(e => e.getBoundingClientRect());
      return who.right > figures.left; }).length"""
    assert browser.ask(overlaps) == 0
