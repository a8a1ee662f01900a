"""The scope of exactness: what has to be the same for a resumed run to give the same bits."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paceline.types import Plan

Scope = dict[str, Any]
# Of the processor's: a virtual machine may hide some, and libraries then take other kernels on the same model.
EXTENSIONS = (
    "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8",
    "asimd", "sve", "sve2", "bf16", "i8mm",
)  # fmt: skip
# They choose kernels, or the order in which these add up; recorded where they are set.
SETTINGS = (
    "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_DYNAMIC", "MKL_ENABLE_INSTRUCTIONS", "OMP_DYNAMIC", "OMP_THREAD_LIMIT",
    "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA",
)  # fmt: skip
CUDA_SETTINGS = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # and what a deterministic run sets where it is not set


def scope_of(plan: Plan) -> Scope:
    """Return the scope of training by a plan in this process's environment, as plain values.

    processor and the instructions that torch uses on it; builds of torch, its libraries, numpy and paceline; device,
    threads, worker processes; environment variables that choose kernels; the compiler, where a step is compiled.
    """
    import torch

    found: Scope = {
        "processor": processor(),
        "instructions": " ".join([torch.backends.cpu.get_cpu_capability(), *_extensions()]),
        "torch": torch.__version__,
        "libraries": libraries(torch.__config__.show()),
        "numpy": importlib.metadata.version("numpy"),
        "paceline": importlib.metadata.version("paceline"),
        "device": _device(plan.device),
        "threads": plan.threads,
        "processes": plan.processes,
    }
    cuda = plan.device.startswith("cuda")
    settings = (*SETTINGS, *CUDA_SETTINGS) if cuda else SETTINGS
    found |= {name: os.environ[name] for name in settings if name in os.environ}
    found |= {WORKSPACE[0]: os.environ.get(*WORKSPACE)} if cuda else {}
    given_up = any("compile" in change for change in plan.changes)
    if given_up or any(cohort.compile for cohort in plan.cohorts):
        found["compiler"] = _compiler()
    return found


def processor() -> str:
    """Return the model of the processor."""
    return _cpu_line("model name") or platform.processor() or platform.machine()


def libraries(build: str) -> str:
    """Return the versions of the linear-algebra libraries in what `torch.__config__.show()` says of the build."""
    found = {
        "MKL": re.search(r"Math Kernel Library Version (\S+ Build \d+|\S+)", build),
        "oneDNN": re.search(r"MKL-DNN v(\S+)", build),
        "BLAS": re.search(r"BLAS_INFO=(\w+)", build),
        "commit": re.search(r"COMMIT_SHA=(\w{1,12})", build),
    }
    return ", ".join(f"{name} {match[1]}" for name, match in found.items() if match) or "not known"


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return [before, now] of everything in which two scopes differ; None stands for what is not set."""
    keys = dict.fromkeys([*before, *now])
    return {key: [before.get(key), now.get(key)] for key in keys if before.get(key) != now.get(key)}


def in_words(scope: Mapping[str, Any]) -> str:
    """Return the scope in one line, as a person would say it."""
    threads, processes = scope.get("threads"), scope.get("processes")
    parts = [
        str(scope.get("processor")), str(scope.get("instructions")).partition(" ")[0], f"torch {scope.get('torch')}",
        f"on {scope.get('device')}", "one thread" if threads == 1 else f"{threads} threads",
        "one process" if processes == 1 else f"{processes} processes",
    ]  # fmt: skip
    return ", ".join(parts)


def _extensions() -> list[str]:
    """The instruction sets of EXTENSIONS that this processor shows; none where the system has no such list."""
    shown = set((_cpu_line("flags") or _cpu_line("Features")).split())
    return [name for name in EXTENSIONS if name in shown]


def _cpu_line(name: str) -> str:
    """The value of the first line of that name in Linux's description of its processors; empty without one."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
    except OSError:
        return ""


def _device(name: str) -> str:
    """`cpu`, or a kind of accelerator with its model and libraries; which of several equal ones does not count."""
    import torch

    kind = name.partition(":")[0]
    if kind != "cuda" or not torch.cuda.is_available():
        return kind
    index = int(name.partition(":")[2] or 0)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"cuda {torch.version.cuda}, {torch.cuda.get_device_name(index)}, cuDNN {cudnn}"


def _compiler() -> str:
    """The first line of what the C++ compiler says of itself."""
    name = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or "c++"
    try:
        found = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "none"
    return found.stdout.partition("\n")[0].strip() or "none"
