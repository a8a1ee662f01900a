"""The console of every command: what it prints cannot drive the terminal, whatever names it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.segment import Segment

from paceline.errors import visible


def make_console() -> Console:
    """Return a console on stdout that shows control characters as escapes."""
    console = Console()
    console.push_render_hook(_ShowHidden())
    return console


@dataclass(frozen=True)
class Visible:
    """Something to print whose texts are made visible after it is laid out: rich's own codes stay."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        for text, style, control in console.render(self.shown, options):
            yield Segment(text if control else visible(text), style, control)


class _ShowHidden(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [Visible(each) for each in renderables]
