"""What the tests of recipes share."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch


@pytest.fixture
def seeds_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put everything back that `set_seed` sets for good."""
    for name in ("PYTHONHASHSEED", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "0")  # remembered, whatever it was
        monkeypatch.delenv(name)
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
