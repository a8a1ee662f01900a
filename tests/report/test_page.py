from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from paceline.errors import RunError
from paceline.report import write
from paceline.report.words import shorten
from tests.report.folder import change, write_folder

pytestmark = pytest.mark.fast

SECTIONS = (
    "metrics",
    "members",
    "curves",
    "selection",
    "confusion",
    "classes",
    "calibration",
    "samples",
    "split",
    "plan",
    "config",
    "environment",
    "reproduce",
)
EVIL = '<script>alert("1")</script>'
EVIL_FOLDER = "<img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """Collects elements with their attributes, and the text, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(folder: Path, **options) -> str:
    return write(write_folder(folder, **options)).read_text(encoding="utf-8")


def part(html: str, id: str) -> str:
    return html.partition(f'<section id="{id}">')[2].partition("</section>")[0]


def charts(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]


def test_every_section_is_there_and_filled(tmp_path):
    html = page(tmp_path)
    assert [tag["id"] for name, tag in Reader(html).elements if name == "section"] == list(SECTIONS)
    assert 'class="absent"' not in html
    links = [tag["href"] for name, tag in Reader(html).elements if name == "a"]
    assert links[1:] == [f"#{name}" for name in SECTIONS]


def test_tags_are_closed_in_order(tmp_path):
    assert Reader(page(tmp_path)).open == []


def test_the_report_is_written_into_the_folder_and_nothing_else_is(tmp_path):
    write_folder(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert write(tmp_path) == tmp_path / "report.html"
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.pop(tmp_path / "report.html")
    assert after == before


def test_the_same_run_gives_the_same_bytes(tmp_path):
    assert page(tmp_path) == page(tmp_path)


def test_the_headline_gives_mean_interval_n_and_method(tmp_path):
    head = page(tmp_path).partition("<nav")[0]
    row = json.loads((tmp_path / "summary.json").read_text())["metrics"]["test_accuracy"]
    text = re.sub(r"<[^>]+>", " ", head)
    assert f"{row['mean']:.4f}" in text
    assert f"{row['ci95'][0]:.4f} to {row['ci95'][1]:.4f}" in text
    assert "t over 5 seeds, one split" in text
    assert "on average over 5 members" in text
    assert "variation of training alone, not of the data" in text


def test_without_test_metrics_the_headline_is_on_validation(tmp_path):
    head = page(tmp_path, test=False).partition("<nav")[0]
    assert "Validation macro F1 is" in head
    assert "Test macro F1" not in head


def test_hostile_names_are_inert(tmp_path):
    write_folder(tmp_path / "x", run=EVIL, classes=(EVIL, "b&b", "'\""), channels=(EVIL,), variants=(EVIL_FOLDER,))
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    summary["members"][0]["stopped"] = summary["members"][0]["selection"]["reason"] = EVIL
    summary["members"][1]["id"] = summary["members"][1]["status"] = EVIL
    summary["metrics"][EVIL] = summary["metrics"]["test_accuracy"]
    change(tmp_path / "x", "summary.json", **summary | {"task": EVIL, "model": EVIL, "data": EVIL})
    change(tmp_path / "x", "plan.json", **{EVIL: EVIL, "device": EVIL})
    change(tmp_path / "x", "environment.json", command=["paceline", EVIL], packages={EVIL: EVIL})
    html = write(tmp_path / "x").read_text(encoding="utf-8")
    reader = Reader(html)
    assert {name for name, _ in reader.elements} & {"script", "img", "iframe", "object", "embed", "form"} == set()
    assert not [name for _, tag in reader.elements for name in tag if name.startswith("on")]
    assert reader.text.count("alert") > 20  # the names are shown, as text
    assert "b&b" in reader.text


def test_names_cannot_turn_the_page_around_or_hide(tmp_path):
    html = page(tmp_path, run="a\u202eb\x1b[31mc\x00d", classes=("x\u2066y", "z"))
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00\x1b]", html)
    assert all(chart is not None for chart in charts(html))


def test_the_content_policy_forbids_everything_but_inline_styles(tmp_path):
    metas = [tag for name, tag in Reader(page(tmp_path)).elements if name == "meta"]
    policy = next(tag["content"] for tag in metas if tag.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == "'unsafe-inline'"
    assert "script-src" not in rules


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    html = page(tmp_path)
    loads = [tag[key] for _, tag in Reader(html).elements for key in ("src", "href", "srcset") if key in tag]
    assert all(value.startswith(("#", "data:,")) for value in loads)
    assert not re.search(r"@import|url\((?!#)|//[a-z]", html)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seeds": 1},
        {"folds": 3, "seeds": 2},
        {"variants": ("gru", "lstm")},
        {"regression": True},
        {"epochs": 1},
        {"seeds": 14},
    ],
)
def test_every_drawing_is_well_formed_and_described(tmp_path, options):
    drawn = [chart for chart in charts(page(tmp_path, **options)) if chart.get("aria-hidden") is None]
    assert drawn
    ids = [node.get("id") for chart in drawn for node in chart.iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    for chart in drawn:
        title, desc = chart.find("title"), chart.find("desc")
        assert title is not None and title.text and desc is not None and desc.text
        assert chart.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
        assert "nan" not in ElementTree.tostring(chart, encoding="unicode").lower()


def test_values_that_are_missing_leave_gaps(tmp_path):
    folder = write_folder(tmp_path)
    path = folder / "members" / "seed42" / "history.json"
    history = json.loads(path.read_text())
    history["val_loss"][3] = None
    history["train_loss"][4] = None
    history["val_f1_macro"][5] = "inf"
    path.write_text(json.dumps(history))
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"]["test_accuracy"] |= {"mean": None, "std": None, "ci95": None}
    summary["members"][0]["selection"] |= {"value": None, "smoothed": None, "raw_best_value": None}
    summary["members"][1]["metrics"] = {}
    change(folder, "summary.json", **summary)
    html = write(folder).read_text(encoding="utf-8")
    train = next(chart for chart in charts(html) if chart.findtext("title") == "Training loss of 5 members")
    path_of_42 = next(node for node in train.iter("path") if node.findtext("title") == "seed42")
    assert path_of_42.get("d").count("M") == 2
    assert not re.search(r"\b(nan|inf)\b", Reader(html).text, flags=re.IGNORECASE)


def test_one_member_has_no_interval_and_the_page_says_so(tmp_path):
    html = page(tmp_path, seeds=1)
    assert "one member: no interval" in html
    assert "members.seeds=5" in html.partition("<nav")[0]
    assert "on average" not in html


def test_folds_are_shown_with_their_splits(tmp_path):
    html = page(tmp_path, folds=3, seeds=2)
    assert "seed42-fold2" in part(html, "members")
    assert '<th scope="col" class="number">fold</th>' in part(html, "members")
    assert part(html, "split").count("seed 42, fold") == 3
    assert "Shown: the first of 3 splits." in part(html, "split")


def test_many_members_share_one_selection_chart(tmp_path):
    html = page(tmp_path, seeds=60, epochs=12)
    chosen = part(html, "selection")
    assert chosen.count("<figure>") == 1
    assert chosen.count('class="line member') == 60
    assert 'class="band' in chosen
    assert "All 60 members" in part(html, "members")
    assert len(html) < 400_000


def test_more_members_than_can_be_told_apart_are_not_all_drawn(tmp_path):
    html = page(tmp_path, seeds=210, epochs=2)
    assert part(html, "curves").count('class="line member') == 3 * 105
    assert "Lines: 105 of 210 members. Means: all of them." in part(html, "curves")


def test_members_chosen_by_another_metric_are_left_out_of_the_common_chart(tmp_path):
    folder = write_folder(tmp_path, seeds=7, epochs=3, variants=("a", "b"))
    members = json.loads((folder / "summary.json").read_text())["members"]
    for member in members[7:]:
        member["selection"] |= {"metric": "val_loss", "mode": "min"}
    change(folder, "summary.json", members=members)
    chosen = part(write(folder).read_text(encoding="utf-8"), "selection")
    assert chosen.count('class="line member') == 7
    assert "7 members chosen by another metric are not shown." in chosen


def test_twelve_members_have_a_panel_each(tmp_path):
    assert part(page(tmp_path, seeds=12), "selection").count("<figure>") == 12


def test_a_panel_marks_the_chosen_epoch_and_the_raw_best(tmp_path):
    html = page(tmp_path, seeds=1)
    chosen = json.loads((tmp_path / "summary.json").read_text())["members"][0]["selection"]
    panel = next(chart for chart in charts(part(html, "selection")) if chart.find("title") is not None)
    assert [node.text for node in panel.iter("text") if "rule-label" in node.get("class", "")] == [
        f"epoch {chosen['epoch']}"
    ]
    titles = [node.findtext("title") for node in panel.iter("circle")]
    assert f"chosen: {chosen['smoothed']:.4f}" in titles
    assert f"best raw value: {chosen['raw_best_value']:.4f}" in titles
    assert chosen["reason"][1:] in part(html, "selection")


def test_a_regression_has_no_confusion_matrix_and_no_classes(tmp_path):
    html = page(tmp_path, regression=True)
    assert [tag["id"] for name, tag in Reader(html).elements if name == "section"] == [
        "residuals" if name == "calibration" else name for name in SECTIONS if name not in ("confusion", "classes")
    ]
    assert "#confusion" not in html and "#classes" not in html
    assert "Test RMSE is" in html
    assert "lowest validation RMSE" in part(html, "selection")


def test_variants_are_compared_and_not_pooled(tmp_path):
    html = page(tmp_path, variants=("gru", "lstm"), seeds=3)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "gru, the best of 2 variants by validation macro F1" in html
    for variant in summary["variants"]:
        assert f"{variant['metrics']['test_accuracy']['mean']:.3f}" in part(html, "metrics")
    strips = [chart for chart in charts(part(html, "metrics")) if chart.get("class") == "strip"]
    assert {len(list(strip.iter("circle"))) for strip in strips} == {3}
    assert "summed over the members of gru" in part(html, "confusion")


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("plan.json", ("plan",)),
        ("config.yaml", ("config",)),
        ("environment.json", ("environment", "config")),
        ("splits.json", ("split",)),
        ("summary.json", ("metrics", "members", "confusion", "classes", "calibration", "samples")),
    ],
)
def test_a_missing_file_leaves_its_section_with_a_note(tmp_path, name, ids):
    html = page(tmp_path, leave_out=(name,))
    for id in SECTIONS:
        assert ('class="absent"' in part(html, id)) == (id in ids or (id == "selection" and name == "summary.json"))


def test_an_unfinished_run_shows_its_curves(tmp_path):
    html = page(tmp_path, leave_out=("summary.json",))
    assert "has not finished" in html
    assert part(html, "curves").count("<figure>") == 3


def test_an_empty_folder_gives_a_page_of_notes(tmp_path):
    assert write(tmp_path).read_text(encoding="utf-8").count('class="absent"') == len(SECTIONS) - 1


@pytest.mark.parametrize("text", ["{", "[]", "null", '"x"'])
def test_a_broken_file_is_named(tmp_path, text):
    write_folder(tmp_path)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(RunError) as caught:
        write(tmp_path)
    assert str(tmp_path / "plan.json") in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(RunError):
        write(tmp_path / "none")


def test_other_types_than_expected_do_not_break_the_page(tmp_path):
    folder = write_folder(tmp_path)
    change(folder, "summary.json", metrics=[1], members=[3, {"id": None, "selection": []}], confusion={"test": 4})
    change(folder, "splits.json", splits=[{"train": None, "audit": [{"name": "x"}]}], classes=None, n="many")
    change(folder, "plan.json", cohorts="none", changes=[{"step": 3, "what": "micro-batch"}])
    (folder / "members" / "seed42" / "history.json").write_text('{"epoch": "x", "val_loss": [1, "a", [2]]}')
    assert Reader(write(folder).read_text(encoding="utf-8")).open == []


def test_a_failed_check_and_a_failed_member_are_said_at_the_top(tmp_path):
    folder = write_folder(tmp_path)
    splits = json.loads((folder / "splits.json").read_text())
    splits["splits"][0]["audit"][1] |= {"ok": False, "detail": "3 samples twice"}
    change(folder, "splits.json", **splits)
    summary = json.loads((folder / "summary.json").read_text())
    summary["members"][2] |= {
        "status": "failed",
        "stopped": "the training loss was not finite in epoch 3",
        "metrics": {},
    }
    change(folder, "summary.json", members=summary["members"])
    html = write(folder).read_text(encoding="utf-8")
    head = html.partition("<nav")[0]
    assert "Not met, by the audit of the split: no duplicates across parts." in head
    assert "1 of 5 members failed, and no figure counts them: seed44." in head
    assert '<li class="failed"><span class="mark">✕ not met</span>' in part(html, "split")
    assert part(html, "split").count("✓ ok") == 3
    assert "The training loss was not finite in epoch 3" in part(html, "members")


@pytest.mark.parametrize(
    ("openings", "words"),
    [(None, ""), (0, "has not been opened"), (1, "opened once"), (7, "opened 7 times")],
)
def test_openings_of_the_test_part_are_counted(tmp_path, openings, words):
    folder = write_folder(tmp_path)
    change(folder, "summary.json", test_openings=openings)
    section = part(write(folder).read_text(encoding="utf-8"), "split")
    assert ("opened" in section) == bool(words)
    assert words in section


def test_commands_are_quoted_for_a_shell(tmp_path):
    html = page(tmp_path / "a b;c")
    assert "paceline resume &#39;runs/a b;c&#39; --use mine.py" in part(html, "reproduce")


def test_the_binomial_error_and_the_baseline_are_right(tmp_path):
    head = page(tmp_path).partition("<nav")[0]
    accuracy = json.loads((tmp_path / "summary.json").read_text())["metrics"]["test_accuracy"]["mean"]
    assert f"±{(accuracy * (1 - accuracy) / 370) ** 0.5:.3f}" in head
    # All classes are equally frequent in training; the first has 31 of the 387 samples that the parts' counts name.
    assert f"{31 / sum(31 + 3 * k for k in range(9)):.3f}" in head


def test_steps_are_the_axis_where_epochs_repeat(tmp_path):
    folder = write_folder(tmp_path, seeds=2)
    for path in folder.glob("members/*/history.json"):
        history = json.loads(path.read_text())
        history["epoch"] = [1 + index // 2 for index in range(len(history["epoch"]))]
        path.write_text(json.dumps(history))
    html = write(folder).read_text(encoding="utf-8")
    step = json.loads((folder / "summary.json").read_text())["members"][0]["selection"]["step"]
    assert f">step {step}</text>" in part(html, "selection")


def test_learning_curves_have_the_mean_and_the_range_of_the_members(tmp_path):
    curves = part(page(tmp_path, seeds=3, epochs=6), "curves")
    assert curves.count('class="band') == 3  # the two losses and the metric; the learning rate is no result
    assert "range of the members" in curves and "Validation macro F1" in curves and "Learning rate" in curves
    rates = next(chart for chart in charts(curves) if chart.findtext("title") == "Learning rate of 3 members")
    assert len([node for node in rates.iter("path") if node.get("class", "").startswith("line")]) == 1
    assert 'class="band' not in part(page(tmp_path / "one", seeds=1, epochs=6), "curves")


def test_a_band_goes_from_the_lowest_to_the_highest_of_a_few_members(tmp_path):
    folder = write_folder(tmp_path, seeds=3, epochs=4)
    values = {"seed42": [1.0, 0.8, 0.6, 0.5], "seed43": [2.0, 1.0, 0.7, 0.4], "seed44": [1.5, 0.9, 0.65, 0.45]}
    for name, losses in values.items():
        path = folder / "members" / name / "history.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"val_loss": losses}))
    chart = next(c for c in charts(write(folder).read_text()) if c.findtext("title") == "Validation loss of 3 members")
    band = next(node for node in chart.iter("path") if "band" in node.get("class", ""))
    points = [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", band.get("d"))]
    ends = {
        node.findtext("title"): [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", node.get("d"))]
        for node in chart.iter("path") if node.findtext("title") in values
    }  # fmt: skip
    assert points == [*ends["seed43"][:3], ends["seed42"][3], ends["seed43"][3], *reversed(ends["seed42"][:3])]


def test_calibration_and_hardest_samples_say_which_part_they_are_from(tmp_path):
    for name, options, words in (
        ("test", {}, "On the test part, 5 members"),
        ("val", {"test": False}, "On the validation part, 5 members"),
        ("folds", {"test": False, "folds": 3, "seeds": 2}, "On the validation parts of 3 folds, joined for each of 2"),
    ):
        html = page(tmp_path / name, **options)
        assert words in part(html, "calibration") and words in part(html, "samples")
        assert re.search(r"On the (test|validation) part", part(html, "classes"))


def test_without_stored_predictions_the_page_says_so(tmp_path):
    html = page(tmp_path, predictions=False)
    assert 'class="absent"' in part(html, "calibration") and 'class="absent"' in part(html, "samples")
    assert 'class="bar miss"' in part(html, "classes")  # from the summed confusion matrix


def test_damaged_predictions_are_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "members" / "seed42" / "predictions.npz").write_bytes(b"no")
    with pytest.raises(RunError) as caught:
        write(tmp_path)
    assert str(tmp_path / "members" / "seed42" / "predictions.npz") in str(caught.value)


def test_the_largest_confusions_stand_beside_the_matrix(tmp_path):
    folder = write_folder(tmp_path, classes=("a", "b"))
    change(folder, "summary.json", confusion={"test": {"classes": ["a", "b"], "counts": [[90, 10], [30, 20]]}})
    text = re.sub(r"<[^>]+>", " ", part(write(folder).read_text(encoding="utf-8"), "confusion"))
    assert "40 of 150 predictions are wrong (26.7\u202f%); the most frequent error takes “b” for “a” (30 times)" in text
    assert re.search(r"b\s+a\s+30\s+60.0\u202f%\s+a\s+b\s+10\s+10.0\u202f%", text)


def test_what_was_varied_is_named_at_the_top(tmp_path):
    folder = write_folder(tmp_path, variants=("gru", "lstm"))
    change(folder, "environment.json", config={"members": {"vary": {"model": ["gru", "lstm"]}}})
    assert "<dt>model</dt><dd>gru, lstm</dd>" in write(folder).read_text(encoding="utf-8")


def test_headings_descend_one_level_at_a_time_and_tables_have_names_of_their_own(tmp_path):
    elements = Reader(page(tmp_path, folds=3, seeds=2)).elements
    levels = [int(name[1]) for name, _ in elements if re.fullmatch(r"h\d", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = [tag["aria-label"] for _, tag in elements if tag.get("role") == "region"]
    assert len(names) == len(set(names)) > 7
    assert all(tag.get("tabindex") == "0" for _, tag in elements if tag.get("role") == "region")


def test_many_classes_and_members_make_a_page_below_a_megabyte(tmp_path):
    names = tuple(f"a class with a rather long name, number {k}" for k in range(30))
    html = page(tmp_path, seeds=40, epochs=60, classes=names)
    assert len(html.encode()) < 1_000_000
    assert "a class with a rather long name, number 29" in part(html, "classes")
    assert any(shorten(name, 32) in part(html, "samples") for name in names)  # cut in the middle, not at its end
