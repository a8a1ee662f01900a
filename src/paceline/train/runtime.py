"""What surrounds the training of a run: device, numerics, noise, autocast. No state of the user's process is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from paceline import noise
from paceline.errors import ConfigError
from paceline.models.keyed import noise_sites, signed32, site_stream
from paceline.train.augment import SITE
from paceline.train.config import AmpConfig, NumericsConfig
from paceline.types import Member


def resolve_device(name: str) -> torch.device:
    """Return the device of a config value: `auto` prefers CUDA, then MPS, then the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("unknown device", where="device", got=name, hint="auto, cpu, cuda, cuda:0 or mps") from None
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present.get(device.type, 0):
        raise ConfigError("this machine has no such device", where="device", got=name, hint="device=auto or device=cpu")
    return device


def amp_enabled(config: AmpConfig, device: torch.device) -> bool:
    """`auto` means: on with CUDA, off elsewhere. float16 exists on CUDA only."""
    if config.enabled == "auto":
        return device.type == "cuda"
    if config.enabled and config.dtype == "float16" and device.type != "cuda":
        raise ConfigError("float16 needs CUDA", where="training.amp.dtype", got=config.dtype, hint="bfloat16")
    return config.enabled


def autocast(config: AmpConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context for forward passes in mixed precision, or one that does nothing. It can be entered again."""
    if not amp_enabled(config, device):
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, config.dtype))


@contextmanager
def session(numerics: NumericsConfig, threads: int) -> Iterator[None]:
    """Set threads, precision and determinism for a run; put everything, torch's random state too, back afterwards."""
    before = (torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.get_rng_state())
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(numerics.matmul_precision)
    torch.set_flush_denormal(numerics.flush_denormal)
    if numerics.deterministic and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.set_rng_state(before[2])
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        if numerics.flush_denormal:
            torch.set_flush_denormal(False)


@contextmanager
def initialisation(member: Member) -> Iterator[None]:
    """Build a member's model inside: torch's random state is the member's own, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.stream(member.seed, member.fold, "init"))
        yield


class Noise:
    """Sets a member's keys, and torch's own generator for foreign modules, before each forward pass.

    `samples` is the key of the augmentation, int32 ().
    """

    def __init__(self, model: nn.Module, member: Member, device: torch.device, *, augmented: bool = False) -> None:
        self._sites = [
            (site.key, site_stream(path, seed=member.seed, fold=member.fold)) for path, site in noise_sites(model)
        ]
        self.samples = torch.zeros((), dtype=torch.int32, device=device)
        if augmented:
            self._sites.append((self.samples, site_stream(SITE, seed=member.seed, fold=member.fold)))
        self._torch = noise.stream(member.seed, member.fold, "torch")
        self._cuda = device.type == "cuda"

    def set(self, step: int, micro_batch: int) -> None:
        """Make the noise that of (seed, fold, purpose, step, micro-batch), whatever was drawn before."""
        for key, stream in self._sites:
            key.fill_(signed32(noise.key(noise.key(stream, step), micro_batch)))
        seed = noise.key(noise.key(self._torch, step), micro_batch)
        torch.default_generator.manual_seed(seed)
        if self._cuda:
            torch.cuda.manual_seed(seed)
