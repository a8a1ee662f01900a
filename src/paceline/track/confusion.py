"""A picture of a confusion matrix: drawn once without counts by matplotlib, then filled in as arrays.

A figure drawn by matplotlib takes 20 to 500 ms, during which the training waits for the interpreter; filling in takes a
tenth of that. No pyplot: there are no figures to close. Shapes: C classes, H x W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

MOST_CLASSES = 100
_DPI = 100
_LETTERS = 18  # of a class name; longer ones are cut
_GLYPHS = "0123456789kMGT"
_GLYPH = (7, 11)  # width and height in pixels


class ConfusionPictures:
    """Pictures of confusion counts (C, C) for these classes: a row per true class, a column per predicted one.

    The colour is the share of the true class, so that rare classes are seen; the numbers are counts.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        from matplotlib import colormaps

        names = [label(name, index) for index, name in enumerate(classes)]
        self.cell = max(12, min(48, 960 // len(names)))
        self.left, self.top = 46 + 7 * max(map(len, names)), 12
        self._blank = _pixels(frame(names, cell=self.cell, left=self.left, top=self.top))[:, :, :3]
        self._palette = (colormaps["Blues"](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)
        self._glyphs = _glyphs()

    def png(self, counts: Sequence[Sequence[int]]) -> bytes:
        """Return the picture of one matrix as PNG, in 64 colours: a third of the bytes."""
        from PIL import Image  # matplotlib needs it too

        target = io.BytesIO()
        few = Image.fromarray(self.pixels(counts)).quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(target, format="png")
        return target.getvalue()

    def pixels(self, counts: Sequence[Sequence[int]]) -> Pixels:
        """Return the picture (H, W, 3)."""
        matrix, picture = np.asarray(counts, dtype=np.int64), self._blank.copy()
        total = matrix.sum(1, keepdims=True)
        share = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
        colours = self._palette[(share * 255).astype(np.uint8)]
        cells = colours.repeat(self.cell, 0).repeat(self.cell, 1)
        rows, columns = (slice(at, at + size) for at, size in zip((self.top, self.left), cells.shape, strict=False))
        picture[rows, columns] = cells
        width = self.cell // _GLYPH[0]
        for (i, j), count in np.ndenumerate(matrix):
            text = short(int(count), width)
            if text:
                self._write(picture, i, j, text, dark=share[i, j] < 0.65)
        return picture

    def _write(self, picture: Pixels, i: int, j: int, text: str, *, dark: bool) -> None:
        """Blend a number into the middle of a cell."""
        ink = np.concatenate([self._glyphs[letter] for letter in text], axis=1)
        top = self.top + i * self.cell + (self.cell - ink.shape[0]) // 2
        left = self.left + j * self.cell + (self.cell - ink.shape[1]) // 2
        place = picture[top : top + ink.shape[0], left : left + ink.shape[1]]
        colour = 30 if dark else 255
        place[:] = (place + (colour - place.astype(np.float32)) * ink[:, :, None]).astype(np.uint8)


def frame(names: Sequence[str], *, cell: int, left: int, top: int) -> Figure:
    """Return the figure without counts: class names, `Pred` and `True`, room for C x C cells of so many pixels."""
    from matplotlib.figure import Figure

    n = len(names)
    width, height = left + n * cell + 12, top + n * cell + left
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes((left / width, 1 - (top + n * cell) / height, n * cell / width, n * cell / height))
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="Pred", ylabel="True")
    size = min(9.0, 0.5 * cell)
    axes.set_xticks(range(n), names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(n), names, fontsize=size, parse_math=False)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_label_coords(left / width + n * cell / width / 2, 20 / height, figure.transFigure)
    axes.yaxis.set_label_coords(24 / width, 1 - (top + n * cell / 2) / height, figure.transFigure)
    return figure


def label(name: str, index: int) -> str:
    """Return a class name as it fits at an axis; its number where the font lacks a letter."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    text = " ".join(name.split())
    if not text.isprintable() or not text or any(not font.get_char_index(ord(letter)) for letter in text):
        return str(index)
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def short(count: int, letters: int) -> str:
    """Return a count in so many letters: `950`, `13k`; empty where it does not fit."""
    units = ("", "k", "M", "G", "T")
    texts = (f"{count // 1000**power}{unit}" for power, unit in enumerate(units) if count >= 1000**power or not power)
    return next((text for text in texts if len(text) <= letters), "")


def _glyphs() -> dict[str, np.ndarray[Any, Any]]:
    """Return the ink (0 to 1) of each digit and unit, all of one size."""
    from matplotlib.figure import Figure

    width, height = _GLYPH
    figure = Figure(figsize=(width * len(_GLYPHS) / _DPI, height / _DPI), dpi=_DPI)
    for index, letter in enumerate(_GLYPHS):
        figure.text((index + 0.5) / len(_GLYPHS), 0.5, letter, ha="center", va="center_baseline", fontsize=7,
                    family="DejaVu Sans")  # fmt: skip
    ink = 1 - _pixels(figure)[:, :, 0].astype(np.float32) / 255
    return {letter: ink[:, index * width : (index + 1) * width] for index, letter in enumerate(_GLYPHS)}


def _pixels(figure: Figure) -> Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()
