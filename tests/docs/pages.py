"""What the tests need of a Markdown page: its fenced blocks, links, anchors and table rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "paceline"


@dataclass(frozen=True)
class Page:
    """One Markdown file. `text` is all of it, `prose` what stands outside of fenced blocks."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def prose(self) -> str:
        return re.sub(r"^```.*?^```", "", self.text, flags=re.M | re.S)

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```", self.text, flags=re.M | re.S)

    def languages(self) -> list[str]:
        return re.findall(r"^```(\w*)$", self.text, flags=re.M)[::2]

    def commands(self) -> list[str]:
        """The lines of `console` blocks, each without its prompt."""
        lines = [line for block in self.blocks("console") for line in block.splitlines()]
        assert all(line.startswith("$ ") for line in lines), f"{self.name}: a console line without its prompt"
        return [line.removeprefix("$ ") for line in lines]

    def files(self) -> dict[str, str]:
        """The Python blocks that begin with the name of their file."""
        named = {re.match(r"# (\S+\.py)\n", block): block for block in self.blocks("python")}
        return {match.group(1): block for match, block in named.items() if match}

    def links(self) -> list[str]:
        return [target for target in re.findall(r"\]\(([^)\s]+)\)", self.prose) if "://" not in target]

    def anchors(self) -> set[str]:
        """What GitHub makes of the headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, flags=re.M)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}

    def sections(self) -> dict[str, str]:
        """Second-level heading -> what stands below it."""
        parts = re.split(r"^## (.+)$", self.text, flags=re.M)
        return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without heads and rules."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\|.*\|$", text, re.M)]
    rules = [i for i, row in enumerate(cells) if set("".join(row)) <= set("-|")]
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def pages() -> list[Page]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    return [Page(path) for path in sorted(found)]
