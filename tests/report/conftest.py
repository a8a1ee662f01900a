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
    try:
        opened = Browser(path)
    except (OSError, TimeoutError) as error:  # such as a stub that only says how to install one
        pytest.skip(f"{path} does not start: {error}")
    with opened:
        yield opened
