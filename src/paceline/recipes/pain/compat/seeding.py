"""One seed for everything that draws."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def set_seed(s: int = 42) -> None:
    """Seed `random`, NumPy and torch (CPU and every CUDA device), and ask CUDA for repeatable kernels.

    `PYTHONHASHSEED` is read when a Python starts: it acts on the processes that this one starts, not on itself.
    `CUBLAS_WORKSPACE_CONFIG` is what recurrent layers on CUDA need besides; it is left alone where it is set, and acts
    if CUDA was not used before. What paceline draws depends on none of this: it is a function of the config's seed.
    """
    random.seed(s)
    os.environ["PYTHONHASHSEED"] = str(s)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    np.random.seed(s)
    torch.manual_seed(s)
    torch.cuda.manual_seed_all(s)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
