"""Credentials that must not leave the process: those in addresses, and values whose key says that they are secret."""

from __future__ import annotations

import re
from collections.abc import Sequence

from paceline.errors import without_credentials

HIDDEN = "***"
_SECRET = re.compile(r"(^|_)(password|passwd|pwd|secret|token|credentials?|(api|access|private|auth)_?key)(_|$)", re.I)


def is_secret(key: str) -> bool:
    """Whether the last part of a dotted key names a secret: `tracking.mine.api_key`, but not `model.max_tokens`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.rpartition(".")[2].replace("-", "_"))
    return _SECRET.search(words) is not None


def shown(key: str, value: object) -> object:
    """Return a config value as others may see it."""
    if is_secret(key) and value not in (None, "", [], {}):
        return HIDDEN
    return without_credentials(value) if isinstance(value, str) else value


def shown_words(words: Sequence[str]) -> list[str]:
    """Return the words of a command (`key=value`, `--option value`) as others may see them."""
    found: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        key, equals, value = word.partition("=")
        if equals and value and is_secret(key.lstrip("+-~")):
            word = f"{key}={HIDDEN}"
        elif before.startswith("--") and "=" not in before and is_secret(before.lstrip("-")):
            word = HIDDEN
        found.append(without_credentials(word))
    return found
