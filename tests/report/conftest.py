"""What the tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.report.browser import Browser, find_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless browser; without one on the machine the tests that look at pages are skipped."""
    path = find_browser()
    if path is None:
        pytest.skip("no chromium on the PATH")
    with Browser(path) as opened:
        yield opened
