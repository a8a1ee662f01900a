"""What a careful reader should know before using the figures: what failed, then the hints."""

from __future__ import annotations

from paceline.report.files import RunFiles
from paceline.report.hints import hints
from paceline.report.results import members_of
from paceline.report.words import count


def findings(files: RunFiles, most: int | None = None) -> list[str]:
    """Return sentences on failed members and, in order of use, the hints (at most so many of them)."""
    members = members_of(files.summary)
    failed = [member for member in members if member.failed]
    found: list[str] = []
    if failed:
        names = ", ".join(member.id for member in failed[:3]) + (" …" if len(failed) > 3 else "")
        found.append(f"{len(failed)} of {count(len(members), 'member')} failed, and no figure counts them: {names}.")
    return found + [hint.text for hint in hints(files)[:most]]
