"""The report in a real browser. Skipped, with a reason, where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.report import write
from tests.report.folder import write_folder

pytestmark = pytest.mark.slow

CASES = {
    "usual": {},
    "variants": {"variants": ("gru", "conv_gru", "lstm"), "seeds": 3},
    "many": {"seeds": 60},
    "regression": {"regression": True, "folds": 3, "seeds": 1},
    "hostile": {
        "run": "<script>alert(1)</script>" + "x" * 80,
        "classes": ("<script>alert(1)</script>", "w" * 90, "a b c"),
        "variants": ("v" * 90,),
    },
    "classes": {"classes": tuple(f"a class with a long name, number {k}" for k in range(30)), "seeds": 3},
    "validation": {"test": False, "folds": 3, "seeds": 2},
    "one": {"seeds": 1},
}
COLOURS = """[...document.querySelectorAll('svg.chart .line.mean, svg.chart .column, svg.heat .shade, .card .mean')]
  .map(e => getComputedStyle(e)).map(s => s.fill + s.stroke + s.color)"""
OVERFLOWING = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg, pre, .skip')
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 90))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("pages")
    return {name: write(write_folder(base / name, **options)) for name, options in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_phone_shows_the_page_without_sideways_scrolling(browser, pages, case):
    browser.open(pages[case], width=375)
    assert browser.ask("document.documentElement.scrollWidth") <= 375
    assert browser.ask(OVERFLOWING) == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dark", [False, True])
def test_the_browser_has_nothing_to_complain_about(browser, pages, case, dark):
    browser.open(pages[case], width=1200, dark=dark)
    browser.ask("1 + 1")  # what the page reports until here has arrived
    bad = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert [event for event in browser.events if event.get("method") in bad] == []
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {pages[case].resolve().as_uri()}
    assert browser.ask("document.scripts.length") == 0
    assert browser.ask("document.documentElement.scrollWidth") <= 1200


def test_dark_mode_turns_paper_and_ink(browser, pages):
    seen = []
    for dark in (False, True):
        browser.open(pages["usual"], width=1200, dark=dark)
        seen.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_drawings_have_a_size_and_text_that_can_be_read_on_a_phone(browser, pages):
    browser.open(pages["usual"], width=375)
    heights = browser.ask("[...document.querySelectorAll('svg.chart')].map(e => e.getBoundingClientRect().height)")
    assert len(heights) == 4 + 5 + 2  # learning curves, selection of each member, calibration
    assert min(heights) > 150
    small = "[...document.querySelectorAll('svg.chart text')].map(e => e.getBoundingClientRect().height)"
    assert min(browser.ask(small)) >= 11


def test_the_page_prints(browser, pages, tmp_path):
    browser.open(pages["usual"], width=1200)
    assert browser.pdf(tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = browser.ask("[...document.querySelectorAll('details > pre')].map(e => e.getBoundingClientRect().height)")
    nav = browser.ask("getComputedStyle(document.querySelector('nav')).display")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert min(hidden) > 100
    assert nav == "none"


@pytest.mark.parametrize("case", ["usual", "classes", "validation", "regression"])
def test_nothing_leaves_the_sheet_of_paper(browser, pages, case):
    browser.open(pages[case], width=688)  # A4 less its margins
    browser.call("Emulation.setEmulatedMedia", media="print")
    wide = browser.ask(
        "[...document.querySelectorAll('table, svg, pre, h1, h2, p')].map(e => e.getBoundingClientRect().right)"
    )
    browser.call("Emulation.setEmulatedMedia", media="")
    assert max(wide) <= 689


@pytest.mark.parametrize("case", ["usual", "regression"])
def test_every_link_leads_to_a_section_that_shows_something(browser, pages, case):
    browser.open(pages[case], width=1200)
    found = browser.ask("""[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash))
      .map(s => [s.tagName, s.querySelector('h2').textContent, s.getBoundingClientRect().height])""")
    assert len(found) == (13 if case == "usual" else 11)
    assert all(tag == "SECTION" and title and height > 60 for tag, title, height in found)


def test_the_links_stay_in_view_and_do_not_hide_a_heading(browser, pages):
    browser.open(pages["usual"], width=1200)
    browser.ask("document.documentElement.style.scrollBehavior = 'auto', location.hash = 'classes'")
    bottom, heading = browser.ask("""[document.querySelector('nav').getBoundingClientRect().bottom,
      document.querySelector('#classes h2').getBoundingClientRect().top]""")
    assert 0 < bottom <= heading < 200


def test_every_figure_has_a_name_for_those_who_do_not_see_it(browser, pages):
    browser.open(pages["usual"], width=1200)
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img") and not node["ignored"]]
    assert len(images) > 20
    assert all(node["name"]["value"] and node["description"]["value"] for node in images)


def test_dark_mode_gives_the_drawings_other_colours(browser, pages):
    seen = []
    for dark in (False, True):
        browser.open(pages["usual"], width=1200, dark=dark)
        seen.append(browser.ask(COLOURS))
    assert len(seen[0]) == len(seen[1]) > 40
    assert all(light != dark for light, dark in zip(*seen, strict=True))
