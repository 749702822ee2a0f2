"""The machine that kernels are generated for: vector width, registers, LLVM's names for it, and the register tile.

`current()` is the host's best instruction set, or the one that `GRAPHNN_ISA` asks for (avx512, avx2, neon, generic).
Nothing here imports Numba; llvmlite is loaded when the host must be looked at. To add an instruction set: one entry in
`_TILES`, one function that returns it if the host can run it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from graphnn.errors import UnsupportedError

_BYTES = {"f32": 4, "f64": 8, "i32": 4, "i64": 8, "bool": 1}


@dataclass(frozen=True)
class InstructionSet:
    """What a kernel may use, and the tile of `C` that the contraction kernel keeps in registers."""

    name: str
    vector_bytes: int
    registers: int
    fused_multiply_add: bool
    llvm_triple: str
    llvm_cpu: str
    llvm_features: str
    tiles: tuple[tuple[str, tuple[int, int]], ...]

    def tile(self, dtype: str) -> tuple[int, int]:
        """Rows and columns of the register tile for float32 or float64."""
        return dict(self.tiles)[dtype]

    def lanes(self, dtype: str) -> int:
        """How many elements of `dtype` fit one vector register."""
        return self.vector_bytes // _BYTES[dtype]


# Rows times vectors, a row of B and a broadcast of A fill the registers: 14 * 2 + 2 + 1 of 32, 6 * 2 + 2 + 1 of 16.
_TILES = {
    "avx512": (("f32", (14, 32)), ("f64", (14, 16))),
    "avx2": (("f32", (6, 16)), ("f64", (6, 8))),
    "neon": (("f32", (8, 8)), ("f64", (8, 4))),
    "generic": (("f32", (4, 8)), ("f64", (4, 4))),
}
_AVX2 = {"avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe", "popcnt", "sse4.2"}
_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} | _AVX2


def current() -> InstructionSet:
    """The instruction set that kernels are built for now; reads `GRAPHNN_ISA` at every call."""
    return named(os.environ.get("GRAPHNN_ISA", ""))


@cache
def named(name: str) -> InstructionSet:
    """The instruction set of that name, or the host's best for an empty name. Refuses one that the host cannot run."""
    if not name:
        return next(found for make in _MAKERS.values() if (found := make()) is not None)
    if name not in _MAKERS:
        raise UnsupportedError(f"GRAPHNN_ISA={name}: unknown instruction set; choose one of {', '.join(_MAKERS)}")
    found = _MAKERS[name]()
    if found is None:
        best = named("").name
        raise UnsupportedError(f"GRAPHNN_ISA={name}: this machine ({platform.machine()}) cannot run it; its best is {best}")
    return found


@cache
def _host() -> tuple[str, str, frozenset[str], str]:
    """LLVM's triple and CPU name, the features that are on, and all of them in LLVM's notation."""
    import llvmlite.binding as llvm

    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # llvmlite on some ARM hosts: the CPU name alone then implies the features
        features = llvm.FeatureMap()
    on = frozenset(name for name, has in features.items() if has)
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), on, features.flatten()


def _is_x86(triple: str) -> bool:
    return triple.startswith(("x86_64", "amd64"))


def _is_arm(triple: str) -> bool:
    return triple.startswith(("aarch64", "arm64"))


def _avx512() -> InstructionSet | None:
    triple, cpu, on, features = _host()
    if not _is_x86(triple) or not on >= _AVX512:
        return None
    # LLVM tunes some Intel CPUs for 256-bit vectors, which halves what a vectorised loop does in an instruction.
    return InstructionSet("avx512", 64, 32, True, triple, cpu, features + ",-prefer-256-bit", _TILES["avx512"])


def _avx2() -> InstructionSet | None:
    triple, cpu, on, features = _host()
    if not _is_x86(triple) or not on >= _AVX2:
        return None
    if on >= _AVX512:  # forced below what the host has: a plain AVX2 machine, so that no wider instruction can slip in
        cpu, features = "x86-64-v3", ""
    return InstructionSet("avx2", 32, 16, True, triple, cpu, features, _TILES["avx2"])


def _neon() -> InstructionSet | None:
    triple, cpu, _, features = _host()
    if not _is_arm(triple):
        return None
    return InstructionSet("neon", 16, 32, True, triple, cpu, features, _TILES["neon"])


def _generic() -> InstructionSet:
    triple = _host()[0]
    cpu = "x86-64" if _is_x86(triple) else "generic"
    return InstructionSet("generic", 16, 16, _is_arm(triple), triple, cpu, "", _TILES["generic"])


# Best first: `named("")` takes the first that the host can run.
_MAKERS: dict[str, Callable[[], InstructionSet | None]] = {
    "avx512": _avx512,
    "avx2": _avx2,
    "neon": _neon,
    "generic": _generic,
}
