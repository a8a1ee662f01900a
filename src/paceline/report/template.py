"""Filling a page's template."""

from __future__ import annotations

from pathlib import Path


def render_page(template: str, page: object) -> str:
    """Fill a template of this folder; every value is escaped."""
    # jinja2 is imported here: 30 ms that only a page needs.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(page=page)
