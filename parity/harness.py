"""The registry of comparisons, how one is run, and the table of worst errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import graphnn as gnn

Arrays = dict[str, np.ndarray]
Comparison = Callable[["Draw"], tuple[Arrays, Arrays]]
"""Draws a problem and returns our arrays and PyTorch's, by name."""

RUNS = 20
TOLERANCE = {"f64": 1e-10, "f32": 1e-5}


@dataclass(frozen=True)
class Case:
    """A building block against its counterpart. `why` says why a tolerance is other than the usual one."""

    family: str
    name: str
    compare: Comparison
    tolerance: Mapping[str, float]
    why: str


CASES: list[Case] = []


def parity(family: str, name: str, *, why: str = "", **tolerance: float) -> Callable[[Comparison], Comparison]:
    """Register a comparison."""

    def register(compare: Comparison) -> Comparison:
        assert not tolerance or why, "a tolerance of its own has a reason"
        CASES.append(Case(family, name, compare, {**TOLERANCE, **tolerance}, why))
        return compare

    return register


@dataclass(frozen=True)
class Draw:
    """What a comparison draws its problem from: random sizes, choices and numbers of one dtype."""

    rng: np.random.Generator
    dtype: str

    @property
    def real(self) -> np.dtype:
        return np.dtype(np.float64 if self.dtype == "f64" else np.float32)

    @property
    def torch_real(self) -> torch.dtype:
        return torch.float64 if self.dtype == "f64" else torch.float32

    def size(self, low: int, high: int) -> int:
        """A size in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def choice(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def normal(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
        return (self.rng.normal(size=shape) * scale + shift).astype(self.real)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return self.rng.uniform(low, high, shape).astype(self.real)

    def ids(self, below: int, *shape: int) -> np.ndarray:
        return self.rng.integers(0, below, shape)


def tensor(array: np.ndarray, *, grad: bool = True) -> torch.Tensor:
    """A leaf of PyTorch with a copy of the array."""
    made = torch.tensor(array.copy())
    return made.requires_grad_(grad) if made.is_floating_point() else made


def numpy(value: torch.Tensor | None, like: np.ndarray | None = None) -> np.ndarray:
    """The array of a tensor; zeros like `like` for a gradient that PyTorch left out."""
    if value is None:
        assert like is not None
        return np.zeros_like(like)
    return value.detach().numpy()


def graphnn_results(
    build: Callable[..., gnn.Value | Sequence[gnn.Value]], arrays: Mapping[str, np.ndarray], d_outputs: Sequence[np.ndarray],
    params: Mapping[str, np.ndarray] | None = None, *, training: bool = False, states: Sequence[str] = (),
) -> Arrays:
    """Outputs `y0`..., gradients `d <input>` and `d <parameter>` and states after the call, compiled, for upstream gradients
    `d_outputs`. `params` are set by the last part of their names, or as much of the end as tells them apart.

    Batch sizes are symbolic (the first axis of every input).
    """
    values = [gnn.Input(a.shape[1:], name=name, dtype=str(gnn.TensorType.of(a).dtype)) if a.ndim
              else gnn.placeholder(name, gnn.TensorType.of(a)) for name, a in arrays.items()]
    made = build(*values)
    outputs = [made] if isinstance(made, gnn.Value) else list(made)
    ups = [gnn.placeholder(f"d_output{i}", y.type) for i, y in enumerate(outputs)]
    total = gnn.sum(outputs[0] * ups[0])
    for y, up in zip(outputs[1:], ups[1:], strict=True):
        total = total + gnn.sum(y * up)
    weights = gnn.Graph.of("probe", values, outputs).by_role("param")
    wrt = [v for v in values if v.dtype.is_float] + list(weights)
    found = gnn.gradients(total, wrt)
    exe = gnn.compile(gnn.Graph.of("parity", [*values, *ups], [*outputs, *found]), training=training)
    for name, array in (params or {}).items():
        exe.state[full_name(exe.state.names, name)] = array
    results = exe(*arrays.values(), *d_outputs)
    results = results if isinstance(results, tuple) else (results,)
    labels = [f"y{i}" for i in range(len(outputs))] + [f"d {short_name(v.name, params or {})}" for v in wrt]
    return {**dict(zip(labels, results, strict=True)), **{name: exe.state[full_name(exe.state.names, name)] for name in states}}


def full_name(names: Sequence[str], ending: str) -> str:
    """The one name that ends so."""
    found = [name for name in names if name == ending or name.endswith(f"/{ending}")]
    assert len(found) == 1, f"{ending!r} names {found} among {names}"
    return found[0]


def short_name(name: str, endings: Mapping[str, np.ndarray]) -> str:
    """The ending of `name` by which it was set."""
    found = [ending for ending in endings if name == ending or name.endswith(f"/{ending}")]
    return found[0] if found else name


def error(ours: Arrays, theirs: Arrays) -> tuple[float, str]:
    """The largest difference, relative to the largest number of its array, and whose it is."""
    assert set(ours) == set(theirs), f"we have {sorted(ours)}, PyTorch has {sorted(theirs)}"
    worst, whose = 0.0, ""
    for name, expected in theirs.items():
        actual = ours[name]
        assert actual.shape == expected.shape, f"{name}: {actual.shape} and {expected.shape}"
        if not expected.size:
            continue
        # Gradients that are 0 but for rounding have no size of their own: they are measured against 1e-3.
        scale = max(float(np.abs(expected).max()), 1e-3)
        difference = float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max()) / scale
        if not difference <= worst:                      # NaN too
            worst, whose = difference, name
    return worst, whose


def run(case: Case, dtype: str, runs: int = RUNS) -> tuple[float, str]:
    """The worst error of a case over its runs, and where it was."""
    worst, where = 0.0, ""
    for seed in range(runs):
        ours, theirs = case.compare(Draw(np.random.default_rng([seed, dtype == "f64"]), dtype))
        found, whose = error(ours, theirs)
        if not found <= worst:
            worst, where = found, f"{whose} (run {seed})"
    return worst, where
