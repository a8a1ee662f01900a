"""Contrast after WCAG 2.2; colour-blind sight after Machado, Oliveira and Fernandes (2009); distances in CIE Lab."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import paceline.report
from paceline.report import heat

pytestmark = pytest.mark.fast

CSS = Path(paceline.report.__file__).with_name("style.css").read_text(encoding="utf-8")
LIGHT, DARK, PRINT = ("".join(re.findall(r":root \{(.*?)\n *\}", CSS, flags=re.DOTALL)[k]) for k in range(3))
THEMES = {
    name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text)) for name, text in (("light", LIGHT), ("dark", DARK))
}
SIGHT = {
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])


def linear(channels: np.ndarray) -> np.ndarray:
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    dark, light = sorted(float(XYZ[1] @ linear(channels)) for channels in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(channels: np.ndarray, sight: np.ndarray) -> np.ndarray:
    ratios = XYZ @ np.clip(sight @ linear(channels), 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(ratios > 0.008856, np.cbrt(ratios), 7.787 * ratios + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", THEMES)
def test_text_has_a_contrast_of_four_and_a_half(theme):
    colours = {name: rgb(value) for name, value in THEMES[theme].items()}
    for text, paper in itertools.product(("ink", "soft", "accent", "bad", "good"), ("paper", "panel")):
        assert contrast(colours[text], colours[paper]) >= 4.5, (text, paper)
    assert contrast(colours["ink"], colours["warn-paper"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_lines_have_a_contrast_of_three(theme):
    colours = {name: rgb(value) for name, value in THEMES[theme].items()}
    for line in ("c0", "c1", "c2", "c3", "c4", "c5", "right", "wrong", "warn"):
        assert contrast(colours[line], colours["paper"]) >= 3, line


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", THEMES)
def test_groups_differ_for_every_kind_of_sight(theme, sight):
    seen = [lab(rgb(THEMES[theme][f"c{k}"]), np.array(SIGHT[sight])) for k in range(6)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


@pytest.mark.parametrize("kind", ["right", "wrong"])
@pytest.mark.parametrize("theme", THEMES)
def test_numbers_in_the_heat_map_can_be_read_on_every_shade(theme, kind):
    colours = {name: rgb(value) for name, value in THEMES[theme].items()}
    for opacity in np.linspace(0, 1, 101):
        level = "high" if opacity > heat._HIGH[kind] else "middle" if opacity > heat._MIDDLE else "low"
        cell = opacity * colours[kind] + (1 - opacity) * colours["panel"]
        assert contrast(colours[f"on-{level}"], cell) >= 4.5, (opacity, level)


def test_print_uses_the_light_colours():
    shared = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", PRINT))
    assert shared.items() <= THEMES["light"].items()
    assert THEMES["dark"].keys() <= shared.keys() | {"bad-paper"}


def test_every_colour_of_the_light_theme_has_a_dark_one():
    assert THEMES["light"].keys() == THEMES["dark"].keys()
