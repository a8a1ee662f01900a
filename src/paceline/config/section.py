"""The base of every config section: frozen, keyword-only, no unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One part of the configuration, declared beside the code that it configures.

    A section that stands for a choice (a model, a data source, a loss, a tracker) also builds its owner: it has a
    method `build` or `load` that imports what it needs when it is called, so that reading a config needs no torch.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )
