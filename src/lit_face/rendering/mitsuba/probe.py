"""Is there what ray tracing needs? Tried once, in a child process, because a wrong LLVM kills.

Mitsuba compiles its kernels with LLVM on a CPU and with the driver on CUDA. Dr.Jit 1.5 emits float
minima that LLVM 15 and 16 cannot translate on x86: the whole process aborts. So the library is
chosen by its version and tried in a child process before this one touches it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "DRJIT_LIBLLVM_PATH"
FIRST_USABLE_LLVM = 17

CPU_VARIANT, CUDA_VARIANT = "llvm_ad_rgb", "cuda_ad_rgb"

_FOLDERS = (
    "{prefix}/lib",
    "/usr/lib/*-linux-gnu*",
    "/usr/lib/llvm*/lib",
    "/usr/lib/llvm/*/lib*",
    "/usr/lib64",
    "/usr/lib64/llvm*/lib*",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/llvm*/lib",
    "/opt/homebrew/opt/llvm*/lib",
    "/usr/local/opt/llvm*/lib",
)
_TRIAL = """
import sys
import mitsuba as mi
mi.set_variant(sys.argv[1])
import drjit as dr
value = dr.clip(dr.arange(mi.Float, 4), 1, 2)
dr.eval(value)
sys.exit(0 if dr.all(value == mi.Float(1, 1, 2, 2)) else 3)
"""
_TRIAL_SECONDS = 120

_PACKAGE = (
    "ray tracing needs the package mitsuba, which is not installed: "
    'pip install "lit_face[raytrace]"'
)
_LLVM = (
    "on Debian and Ubuntu install the package libllvm19 (apt-get install libllvm19); elsewhere "
    f"install LLVM {FIRST_USABLE_LLVM} or later and set {VARIABLE} to its libLLVM.so. "
    "LLVM 15 and 16 abort the process."
)


class RayTracingUnavailableError(ImportError):
    """A package or library of the ray tracer is absent or unusable; says which and what to do."""


def require_ray_tracing(device_type: str = "cpu") -> str:
    """Return Mitsuba's variant for tensors of a device, after it has been tried.

    Args:
        device_type: 'cuda' prefers Mitsuba's CUDA variant and falls back to the CPU's.

    Returns:
        'cuda_ad_rgb' or 'llvm_ad_rgb'. For the latter `DRJIT_LIBLLVM_PATH` is set in this process
        where it was not.

    Raises:
        RayTracingUnavailableError: nothing works; names what is missing and how to get it.
    """
    if importlib.util.find_spec("mitsuba") is None:
        raise RayTracingUnavailableError(_PACKAGE)
    if device_type == "cuda" and _try_variant(CUDA_VARIANT, None) is None:
        return CUDA_VARIANT
    os.environ[VARIABLE] = str(_usable_llvm(os.environ.get(VARIABLE) or None))
    return CPU_VARIANT


def what_is_missing(device_type: str = "cpu") -> str | None:
    """Return why there is no ray tracing here, or None where there is."""
    try:
        require_ray_tracing(device_type)
    except RayTracingUnavailableError as error:
        return str(error)
    return None


def llvm_version(path: Path) -> int | None:
    """Read the major version from the name of a libLLVM, or of the file that it links to."""
    for name in (path.name, path.resolve().name):
        found = re.match(r"libLLVM(?:-|\.so\.|\.)(\d+)", name)
        if found:
            return int(found.group(1))
    return None


def find_llvm(folders: Iterable[str] = _FOLDERS) -> list[Path]:
    """List the libLLVM files that could work, newest first; never 15, 16 or older.

    Args:
        folders: patterns of folders; `{prefix}` is that of Python's environment. Files whose name
            tells no version come last.
    """
    found: dict[Path, int] = {}
    for pattern in folders:
        pattern = pattern.format(prefix=sys.prefix)
        for folder in sorted(Path("/").glob(pattern.lstrip("/"))):
            for path in [*folder.glob("libLLVM*.so*"), *folder.glob("libLLVM*.dylib")]:
                version = llvm_version(path)
                if version is None or version >= FIRST_USABLE_LLVM:
                    found.setdefault(path.resolve(), version or 0)
    return sorted(found, key=lambda path: (-found[path], str(path)))


@functools.cache
def _usable_llvm(chosen: str | None) -> Path:
    """Return the library to use.

    Raises:
        RayTracingUnavailableError: the one of the variable, or every one found, fails.
    """
    if chosen is not None:
        return _check_chosen(Path(chosen))
    failures = []
    for path in find_llvm():
        failure = _try_variant(CPU_VARIANT, str(path))
        if failure is None:
            return path
        failures.append(f"{path} ({failure})")
    tried = f" Tried and failed: {'; '.join(failures)}." if failures else ""
    raise RayTracingUnavailableError(
        f"ray tracing on a CPU needs LLVM {FIRST_USABLE_LLVM} or later, and none was found: "
        f"{_LLVM}{tried}"
    )


def _check_chosen(path: Path) -> Path:
    if not path.is_file():
        raise RayTracingUnavailableError(
            f"{VARIABLE} points at {path}, which is no file. Unset it to let lit_face search, or "
            f"correct it: {_LLVM}"
        )
    version = llvm_version(path)
    if version is not None and version < FIRST_USABLE_LLVM:
        raise RayTracingUnavailableError(
            f"{VARIABLE} points at LLVM {version} ({path}), ray tracing needs "
            f"{FIRST_USABLE_LLVM} or later: {_LLVM}"
        )
    failure = _try_variant(CPU_VARIANT, str(path))
    if failure is not None:
        raise RayTracingUnavailableError(
            f"{VARIABLE} points at {path}, with which Mitsuba fails ({failure}): {_LLVM}"
        )
    return path


@functools.cache
def _try_variant(variant: str, llvm: str | None) -> str | None:
    """Compile and run one kernel in a child process; return what went wrong, None if nothing."""
    environment = dict(os.environ)
    if llvm is not None:
        environment[VARIABLE] = llvm
    try:
        child = subprocess.run(
            [sys.executable, "-c", _TRIAL, variant],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TRIAL_SECONDS} s"
    if child.returncode == 0:
        return None
    if child.returncode < 0:
        return f"the process was killed by {signal.Signals(-child.returncode).name}"
    lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {child.returncode}"
