from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from paceline.report import scale, series
from paceline.report.heat import HeatMap, Strip, heat_map, strip
from paceline.report.results import MemberResult
from paceline.report.svg import Band, Chart, Line, Marker, line_chart

pytestmark = pytest.mark.fast


def draw(**options) -> ElementTree.Element:
    return ElementTree.fromstring(line_chart(Chart(id="x", title="t", desc="d", **options)))


def path(root: ElementTree.Element) -> list[tuple[float, float]]:
    line = next(node for node in root.iter("path") if "line" in node.get("class", ""))
    return [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", line.get("d"))]


def test_a_linear_axis_maps_by_hand():
    chart = {"width": 148, "height": 158, "margin": (24, 0, 34, 48), "y_range": (0.0, 10.0), "x_range": (0.0, 4.0)}
    root = draw(lines=[Line(points=[(0, 0.0), (2, 5.0), (4, 10.0)])], **chart)
    assert path(root) == [(48.0, 124.0), (98.0, 74.0), (148.0, 24.0)]


def test_a_logarithmic_axis_maps_by_hand():
    chart = {"width": 148, "height": 158, "margin": (24, 0, 34, 48), "y_range": (0.01, 1.0), "x_range": (0.0, 4.0)}
    root = draw(lines=[Line(points=[(0, 0.01), (2, 0.1), (4, 1.0)])], log_y=True, **chart)
    assert path(root) == [(48.0, 124.0), (98.0, 74.0), (148.0, 24.0)]


def test_gaps_break_a_line_and_a_lone_point_is_a_dot():
    points = [(1, 1.0), (2, 2.0), (3, None), (4, 1.0), (5, None)]
    line = next(node for node in draw(lines=[Line(points=points)]).iter("path") if node.get("class") == "line mean c0")
    assert line.get("d").count("M") == 2
    assert line.get("d").endswith("h0")


@pytest.mark.parametrize("points", [[], [(1, None), (2, None)]])
def test_a_chart_without_values_says_so(points):
    assert "no values" in [node.text for node in draw(lines=[Line(points=points)]).iter("text")]


def test_names_in_a_chart_are_escaped():
    root = draw(lines=[Line(points=[(1, 1.0)], title="</title><script>")], markers=[Marker(x=1, y=1, title="a & b")])
    assert {node.tag for node in root.iter()}.isdisjoint({"script"})
    assert {"</title><script>", "a & b"} <= {node.text for node in root.iter("title")}


def test_a_band_covers_its_range():
    root = draw(bands=[Band(points=[(0, 1.0, 2.0), (1, 1.0, 3.0)])], lines=[Line(points=[(0, 1.5), (1, 2.0)])])
    band = next(node for node in root.iter("path") if "band" in node.get("class", ""))
    assert band.get("d").count("L") == 3 and band.get("d").endswith("Z")


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (0.71, 0.99, [0.75, 0.8, 0.85, 0.9, 0.95]),
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-1.0, 1.0, [-1, -0.5, 0, 0.5, 1]),
        (3.0, 3.0, [3]),
    ],
)
def test_ticks_are_round_and_inside(low, high, found):
    assert scale.ticks(low, high, 5) == pytest.approx(found)


def test_epochs_have_whole_ticks():
    assert scale.ticks(1, 3, 10, whole=True) == [1, 2, 3]


def test_logarithmic_ticks_are_powers_of_ten_or_their_parts():
    assert scale.log_ticks(0.005, 3.0, 4) == pytest.approx([0.01, 0.1, 1.0])
    assert scale.log_ticks(0.02, 0.4, 4) == pytest.approx([0.03, 0.1, 0.3])
    assert scale.log_ticks(1.1, 1.9, 4) == pytest.approx([1.2, 1.4, 1.6, 1.8])


def test_ticks_of_an_axis_have_equal_decimals():
    write = scale.tick_text([0.75, 0.8, 0.85])
    assert [write(value) for value in (0.75, 0.8, 0.85)] == ["0.75", "0.80", "0.85"]
    write = scale.tick_text([0.01, 0.1, 1.0])
    assert [write(value) for value in (0.01, 0.1, 1.0, 1e-5, 2e6)] == ["0.01", "0.1", "1", "1e−5", "2e6"]


def test_thinning_keeps_ends_order_and_spikes():
    points = [(float(x), 0.0) for x in range(5000)]
    points[3210] = (3210.0, 9.0)
    points[77] = (77.0, -9.0)
    kept = scale.thin(points)
    assert len(kept) <= 500
    assert kept == sorted(kept)
    assert {points[0], points[-1], points[3210], points[77]} <= set(kept)


def test_quantiles_equal_those_of_numpy():
    values = np.random.default_rng(0).normal(size=23)
    for share in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
        assert series.quantile(sorted(values), share) == pytest.approx(np.quantile(values, share), abs=1e-12)


def one(*values: float | None, start: int = 1) -> series.Series:
    x = [float(start + index) for index in range(len(values))]
    return series.Series(member=MemberResult(id="m"), x=x, columns={"loss": values}, css="c0")


def test_the_mean_stops_where_members_stop():
    group = [one(4.0, 2.0, 1.0, 0.5), one(2.0, 2.0, 3.0, 1.5), one(6.0, 5.0)]
    everyone, most = series.mean_curves(group, "loss")
    assert everyone == [(1.0, 4.0), (2.0, 3.0)]
    assert most == [(2.0, 3.0), (3.0, 2.0), (4.0, 1.0)]


def test_a_mean_over_fewer_than_half_is_not_drawn():
    group = [one(1.0, 1.0, 1.0), one(3.0), one(5.0)]
    assert series.mean_curves(group, "loss") == ([(1.0, 3.0)], [])


def test_ranges_are_quantiles_over_members():
    group = [one(float(k)) for k in range(11)]
    assert series.ranges(group, "loss", 0.1, 0.9) == [(1.0, 1.0, 9.0)]


def test_only_far_away_beginnings_are_cut():
    rising = [0.1, 0.3, *np.linspace(0.9, 0.98, 30)]
    low, high = series.readable_range(rising, upwards=True)
    assert 0.85 < low < 0.92 and high > 0.98
    falling = [-value for value in rising]
    assert series.readable_range(falling, upwards=False) == (-high, -low)
    assert series.readable_range(list(np.linspace(0, 1, 30)), upwards=True) is None
    assert series.readable_range([0.1, 0.9], upwards=True) is None


def counts(root: ElementTree.Element) -> list[str | None]:
    return [node.text for node in root.iter("text") if node.get("class") == "count"]


def test_a_heat_map_shows_counts_and_row_shares():
    table = HeatMap(id="h", title="t", desc="d", classes=("a", "b"), counts=[[8, 2], [0, 0]])
    root = ElementTree.fromstring(heat_map(table))
    assert counts(root) == ["8", "2"]
    shades = [float(node.get("fill-opacity")) for node in root.iter("rect") if node.get("class") == "shade"]
    assert shades == pytest.approx([0.8, 0.12 + 0.88 * 0.2**0.5], abs=1e-3)
    assert "true a, predicted b: 2 of 10 (20.0\u202f%)" in [node.text for node in root.iter("title")]


@pytest.mark.parametrize("n", [1, 24, 25, 60])
def test_a_heat_map_of_many_classes_leaves_the_numbers_out(n):
    names = [f"a rather long class name {index}" for index in range(n)]
    table = HeatMap(id="h", title="t", desc="d", classes=names, counts=np.eye(n).tolist())
    root = ElementTree.fromstring(heat_map(table))
    assert len(counts(root)) == (n if n <= 24 else 0)
    assert float(root.get("width")) < 1000


def test_a_strip_has_a_dot_per_value_and_a_bar_for_the_interval():
    plot = Strip(id="s", title="t", values=(1.0, None, 3.0), mean=2.0, interval=(1.0, 3.0), limits=(0.0, 4.0), width=90)
    root = ElementTree.fromstring(strip(plot))
    assert [float(dot.get("cx")) for dot in root.iter("circle")] == [25.0, 65.0]
    bar = next(root.iter("rect"))
    assert (float(bar.get("x")), float(bar.get("width"))) == (25.0, 40.0)
