"""What a comparison is: the registry of cases, the problems that they draw, and how one is run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

import graphnn as gnn

Arrays = dict[str, np.ndarray]
Values = gnn.Value | Sequence[gnn.Value]
Tensors = torch.Tensor | Sequence[torch.Tensor]

RUNS = 20
TOLERANCE = {"f64": 1e-10, "f32": 1e-5}

# A problem that PyTorch in float32 solves worse, with its numbers as they are or rounded otherwise, is drawn again: where terms
# cancel, an error tells of float32 and not of a building block. What we make of a problem has no say in this.
CARRIED = 3e-6
TRIES = 50
# A gradient whose largest number is this part of the steepest one's, in float64, is 0 but for rounding: as those by the queries
# and keys of an attention in which each query sees one key. It cannot be measured by its own size.
VANISHED = 1e-12


class Problem:
    """One problem, solved by graphnn and by PyTorch in a precision of its own: arrays of the same names.

    `vanishing` names gradients that are 0 but for rounding, which cannot be measured by their own size.
    """

    vanishing: Collection[str] = ()

    def ours(self) -> Arrays:
        raise NotImplementedError

    def theirs(self, real: torch.dtype) -> Arrays:
        raise NotImplementedError

    def rounded_otherwise(self) -> Sequence[Problem]:
        """The same with other last digits of its numbers; none, where another problem it would be."""
        return ()


P = TypeVar("P", bound=Problem)


@dataclass(frozen=True)
class Case:
    """A building block against its counterpart. Errors are relative to the largest number of an array; with a floor to each
    number by itself, where that is above the floor."""

    family: str
    name: str
    draw: Callable[[Draw], Problem]
    floor: float | None


CASES: list[Case] = []


def parity(family: str, name: str, *, floor: float | None = None) -> Callable[[Callable[[Draw], P]], Callable[[Draw], P]]:
    """Register what draws a problem of `name`, a class of graphnn.nn, perhaps with words in brackets after it."""

    def register(draw: Callable[[Draw], P]) -> Callable[[Draw], P]:
        CASES.append(Case(family, name, draw, floor))
        return draw

    return register


@dataclass(frozen=True)
class Draw:
    """What problems are drawn from: random sizes, choices and numbers of one dtype."""

    rng: np.random.Generator
    dtype: str

    @property
    def real(self) -> np.dtype:
        return np.dtype(np.float64 if self.dtype == "f64" else np.float32)

    def size(self, low: int, high: int) -> int:
        """A size in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def number(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def choice(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def flag(self) -> bool:
        return bool(self.rng.integers(2))

    def normal(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
        return (self.rng.normal(size=shape) * scale + shift).astype(self.real)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return self.rng.uniform(low, high, shape).astype(self.real)

    def ids(self, below: int, *shape: int) -> np.ndarray:
        return self.rng.integers(0, below, shape)


@dataclass
class Call(Problem):
    """`build`, called on symbolic inputs, beside `reference`, called on tensors of the inputs, by position, and of parameters
    and states, by name. Outputs, gradients by every real input and parameter for random upstream gradients, and the states
    afterwards are compared.

    `params` and `states` are set by the last part of their names, or as much of the end as tells them apart. The first axis of
    every input is a symbolic batch, unless `fixed`.
    """

    build: Callable[..., Values]
    reference: Callable[..., Tensors]
    inputs: Mapping[str, np.ndarray]
    params: Mapping[str, np.ndarray] = field(default_factory=dict)
    states: Mapping[str, np.ndarray] = field(default_factory=dict)
    training: bool = False
    fixed: bool = False
    vanishing: Collection[str] = ()

    @cached_property
    def d_outputs(self) -> list[np.ndarray]:
        """Random upstream gradients."""
        rng = np.random.default_rng(0)
        real = next(a.dtype for a in (*self.inputs.values(), *self.params.values()) if a.dtype.kind == "f")
        return [np.asarray(rng.normal(size=y.shape), real) for y in self._called(torch.float64)[0]]

    def ours(self) -> Arrays:
        types = {name: gnn.TensorType.of(array) for name, array in self.inputs.items()}
        values = [gnn.placeholder(name, of) if self.fixed or not of.rank
                  else gnn.Input(of.shape[1:], name=name, dtype=str(of.dtype)) for name, of in types.items()]
        outputs = _listed(self.build(*values))
        ups = [gnn.placeholder(f"d_output{i}", y.type) for i, y in enumerate(outputs)]
        total = gnn.sum(outputs[0] * ups[0])
        for y, up in zip(outputs[1:], ups[1:], strict=True):
            total = total + gnn.sum(y * up)
        wrt = [v for v in values if v.dtype.is_float] + list(gnn.Graph.of("probe", values, outputs).by_role("param"))
        graph = gnn.Graph.of("parity", [*values, *ups], [*outputs, *gnn.gradients(total, wrt)])
        exe = gnn.compile(graph, training=self.training)
        for name, array in {**self.params, **self.states}.items():
            exe.state[full_name(exe.state.names, name)] = array
        found = exe(*self.inputs.values(), *self.d_outputs)
        labels = [f"y{i}" for i in range(len(outputs))] + [f"d {short_name(v.name, self.params)}" for v in wrt]
        results = dict(zip(labels, found if isinstance(found, tuple) else (found,), strict=True))
        return {**results, **{name: exe.state[full_name(exe.state.names, name)] for name in self.states}}

    def theirs(self, real: torch.dtype) -> Arrays:
        outputs, leaves, states = self._called(real)
        ups = [torch.tensor(up, dtype=real) for up in self.d_outputs]
        pairs = [(y, up) for y, up in zip(outputs, ups, strict=True) if y.requires_grad]
        if pairs:
            torch.autograd.backward([y for y, _ in pairs], [up for _, up in pairs])
        return {**{f"y{i}": y.detach().numpy() for i, y in enumerate(outputs)},
                **{f"d {name}": (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).numpy()
                   for name, leaf in leaves.items() if leaf.requires_grad},
                **{name: value.numpy() for name, value in states.items()}}

    def rounded_otherwise(self) -> Sequence[Problem]:
        return [replace(self, **{kind: {name: _jittered(array, phase) for name, array in getattr(self, kind).items()}
                                 for kind in ("inputs", "params", "states")}) for phase in (1.0, 2.0)]

    def _called(self, real: torch.dtype) -> tuple[list[torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        inputs = {name: leaf(a, real) for name, a in self.inputs.items()}
        params = {name: leaf(a, real) for name, a in self.params.items()}
        states = {name: leaf(a, real).detach() for name, a in self.states.items()}
        return _listed(self.reference(*inputs.values(), **params, **states)), {**inputs, **params}, states


def leaf(array: np.ndarray, real: torch.dtype) -> torch.Tensor:
    """A tensor with a copy of the array; real numbers in the precision `real`, with a gradient."""
    made = torch.tensor(array)
    return made.to(real).requires_grad_() if made.is_floating_point() else made


def _jittered(array: np.ndarray, phase: float) -> np.ndarray:
    """Real numbers off by some 2^-20; equal ones stay equal, and 0 stays 0: both are often meant."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1.0 + 2.0**-20 * np.cos(1e5 * array.astype(np.float64) + phase)), array.dtype)


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, (tuple, list)) else [made]


def full_name(names: Sequence[str], ending: str) -> str:
    """The one name that ends so."""
    found = [name for name in names if name == ending or name.endswith(f"/{ending}")]
    assert len(found) == 1, f"{ending!r} names {found} among {names}"
    return found[0]


def short_name(name: str, endings: Mapping[str, np.ndarray]) -> str:
    """The ending of `name` by which it was set."""
    found = [ending for ending in endings if name == ending or name.endswith(f"/{ending}")]
    return found[0] if found else name


def error(ours: Arrays, theirs: Arrays, floor: float | None, vanishing: Collection[str]) -> tuple[float, str]:
    """The largest relative difference and whose it is; see Case for the floor and Problem for what is vanishing."""
    assert set(ours) == set(theirs), f"we have {sorted(ours)}, PyTorch has {sorted(theirs)}"
    largest = {name: float(np.abs(array).max()) for name, array in theirs.items() if array.size}
    steepest = max((size for name, size in largest.items() if name.startswith("d ")), default=0.0)
    worst, whose = 0.0, ""
    for name, expected in theirs.items():
        actual, expected = ours[name].astype(np.float64), expected.astype(np.float64)
        assert actual.shape == expected.shape, f"{name}: {actual.shape} and {expected.shape}"
        if not expected.size:
            continue
        vanished = name in vanishing or (name.startswith("d ") and largest[name] <= VANISHED * steepest)
        scale: Any = steepest if vanished else max(largest[name], 1e-3)
        if floor is not None:
            scale = np.maximum(np.abs(expected), floor)
        difference = float((np.abs(actual - expected) / scale).max())
        if not difference <= worst:                      # NaN too
            worst, whose = difference, name
    return worst, whose


@dataclass(frozen=True)
class Verdict:
    """The worst error of a case over its runs, where it was, the worst of PyTorch's own float32, and how many problems were
    drawn again."""

    worst: float
    where: str
    their_worst: float
    again: int


def run(case: Case, dtype: str, runs: int = RUNS) -> Verdict:
    """Compare. The truth is PyTorch's in float64, on the same numbers: what float32 is off from it is our error alone."""
    worst, where, their_worst, again = 0.0, "", 0.0, 0
    for seed in range(runs):
        problem, truth, theirs, tries = _drawn(case, dtype, seed)
        found, whose = error(problem.ours(), truth, case.floor, problem.vanishing)
        if not found <= worst:
            worst, where = found, f"{whose} (run {seed})"
        their_worst, again = max(their_worst, theirs), again + tries
    return Verdict(worst, where, their_worst, again)


def _drawn(case: Case, dtype: str, seed: int) -> tuple[Problem, Arrays, float, int]:
    """(a problem, the truth, the error of PyTorch's own float32, the number of problems before that float32 does not carry)."""
    for tries in range(TRIES):
        problem = case.draw(Draw(np.random.default_rng([seed, dtype == "f64", tries]), dtype))
        truth = problem.theirs(torch.float64)
        if dtype == "f64":
            return problem, truth, 0.0, 0
        # Functions of single numbers, which have a floor, are meant for these numbers.
        others = problem.rounded_otherwise() if case.floor is None else ()
        theirs = error(problem.theirs(torch.float32), truth, case.floor, problem.vanishing)[0]
        if theirs <= CARRIED and all(error(other.theirs(torch.float32), other.theirs(torch.float64), None, other.vanishing)[0]
                                     <= CARRIED for other in others):
            return problem, truth, theirs, tries
    raise AssertionError(f"PyTorch's float32 solves none of {TRIES} problems to {CARRIED:.0e}")
