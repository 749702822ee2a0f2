"""Hostile graphs: mutants of graphs as files hold them, run compiled and by the interpreter.

    python -m tests.runtime.hostile --minutes 20 --seed 1         # in processes of their own; findings go to standard output

A mutant is a function of its seed. Whatever passes the file reader must run within its buffers and end: the result is the
interpreter's, or a GraphnnError. Memory is guarded (guard_pages.py), processes have limits of memory and time, and one that dies
is a finding.
"""

from __future__ import annotations

import argparse
import copy
import errno
import faulthandler
import json
import math
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, PassError
from graphnn.files.graph_tree import GraphReader, GraphWriter
from graphnn.ir.attrs import Array, bodies_of
from graphnn.ir.dims import bind_size
from graphnn.ir.graph import Graph, Value
from graphnn.ir.interpret import run_nodes
from graphnn.ir.modes import resolve_modes, trains
from graphnn.ir.op import Op
from graphnn.ir.types import TensorType, bind_sizes
from graphnn.passes.check_ids import check_ids
from graphnn.passes.pipeline import DEFAULT
from graphnn.runtime.compile import compile_graph, open_ops
from graphnn.runtime.state import State
from tests.files.corpus import mutate as mutate_anyhow
from tests.helpers import all_ops, in_float32, one_op_graph
from tests.runtime.cases import CASES, as_tuple
from tests.runtime.guard_pages import guarded

MOST_ELEMENTS = 200_000             # of all values of a mutant that is run, not only compiled
MOST_STEPS = 2_000                  # of a scan
MOST_SECONDS = 120                  # of a mutant, kernels compiled anew included
MOST_MEMORY = 12 << 30              # address space of a process


# ------------------------------------------------------------------------------------------------ what is mutated

@dataclass(frozen=True)
class Base:
    """A right graph, as files hold it, with arrays that fit it."""

    name: str
    graph: Graph
    arrays: Mapping[str, np.ndarray]

    @cached_property
    def stored(self) -> tuple[dict[str, Any], list[Array]]:
        writer = GraphWriter()
        tree = writer.tree({"g": self.graph})
        return tree, writer.arrays

    @cached_property
    def types(self) -> list[TensorType]:
        return [v.type for v in self.graph.inputs] + [v.type for node in self.graph.nodes for v in node.outputs]


def samples() -> Iterator[Base]:
    """One op each: every sample, with numbers and with names for sizes, in float64 and float32."""
    for op in all_ops():
        for i, sample in enumerate(op.samples()):
            for variant in (sample, in_float32(sample)):
                for symbolic in (False, True) if sample.symbolic else (False,):
                    try:
                        graph = one_op_graph(variant, symbolic=symbolic)
                    except GraphnnError:
                        continue
                    arrays = {value.name: array for value, array in zip(graph.inputs, variant.inputs, strict=True)}
                    yield Base(f"{op.name}-{i}", graph, arrays)


def with_state(name: str, graph: Graph, arrays: Mapping[str, np.ndarray]) -> Base:
    state = State(3)
    state.add(graph)
    return Base(name, graph, {**arrays, **state.arrays()})


def cases() -> Iterator[Base]:
    """Small training steps."""
    rng = np.random.default_rng(4)
    for name, make in CASES.items():
        case = make()
        given = case.graph.by_role("input")
        yield with_state(name, case.graph, {v.name: a for v, a in zip(given, case.arrays(rng, 5), strict=True)})


def layers() -> Iterator[Base]:
    """Every layer, with its gradients and updates."""
    from tests.nn.test_layer_family import FAMILY, applied, data

    for name in FAMILY:
        _, values, outputs = applied(name)
        loss = outputs[0].node and sum((gnn.mean(y * y) for y in outputs[1:]), start=gnn.mean(outputs[0] * outputs[0]))
        graph = Graph.of("layer", values, [loss, *outputs])
        params = [p for p in graph.by_role("param") if p.dtype.is_float]
        updates = nn.SGD(0.01, momentum=0.5).updates(params, gnn.gradients(loss, params)) if params else []
        graph = Graph.of("layer", values, [loss, *outputs], updates=updates)
        yield with_state(name, graph, {v.name: a for v, a in zip(values, data(values), strict=True)})


def optimised(bases: Iterator[Base]) -> Iterator[Base]:
    """Graphs as the passes leave them: with fused bodies and epilogues."""
    for base in bases:
        graph = resolve_modes(base.graph, trains(base.graph))
        yield Base(f"{base.name}-optimised", DEFAULT(graph), base.arrays)


def all_bases() -> list[list[Base]]:
    """Families, each as likely as another."""
    by_op: dict[str, list[Base]] = {}
    for base in samples():
        by_op.setdefault(base.name.rpartition("-")[0], []).append(base)
    return [*by_op.values(), *([b] for b in cases()), *([b] for b in layers()), *([b] for b in optimised(cases())),
            *([b] for b in optimised(layers()))]


def few_bases() -> list[list[Base]]:
    """Ops with indices, sizes or bodies, and small training steps: for the tests, as each new kernel takes a moment."""
    chosen = ("gather", "scatter_add", "one_hot", "first_equal", "check_index", "slice", "pad", "concat", "scan", "sum",
              "sparse_matmul")
    found: dict[str, list[Base]] = {}
    for base in samples():
        if (name := base.name.rpartition("-")[0]) in chosen:
            found.setdefault(name, []).append(base)
    steps = [base for base in cases() if base.name in ("embedding", "old_values", "softmaxes")]
    return [*found.values(), *([base] for base in steps), *([base] for base in optimised(iter(steps)))]


def trusting_bases() -> list[list[Base]]:
    """Ops whose kernels follow numbers that are data or attributes."""
    chosen = ("gather", "scatter_add", "one_hot", "first_equal", "check_index", "slice", "pad", "conv2d", "conv2d_input_grad",
              "conv2d_weight_grad", "max_pool2d", "max_pool2d_pick", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad", "rewire",
              "sparse_matmul", "sampled_matmul", "context_windows", "word_vector_steps", "scan", "split", "transpose", "size_of",
              "iota", "random_integers", "random_bernoulli", "random_uniform", "cast", "matmul")
    found: dict[str, list[Base]] = {}
    for base in samples():
        if (name := base.name.rpartition("-")[0]) in chosen:
            found.setdefault(name, []).append(base)
    return list(found.values())


# ------------------------------------------------------------------------------------------------ mutations

INTS = (-1, 0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 63, 64, 65, 255, 1000, 4097, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, -(1 << 31),
        1 << 32, 1 << 40, (1 << 53) + 1, 1 << 62, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-320, 1e-45, 1e300, -1e300, 3e38, float("inf"), float("-inf"), float("nan"), 2.0**31, 2.0**63)
DTYPES = ("f32", "f64", "i32", "i64", "bool")
SIZES = ("N", "chunks__", "T", "2*N", "N+1", "N-1", "N//2", "(N+1)//2", "max(N-3,0)", "min(N,2)", "N*T", "4*N-2")

Tree = Any


def graph_rows(tree: Tree) -> list[Tree]:
    return [*tree["graphs"].values(), *tree["bodies"]]


def leaves(tree: Tree, found: list[tuple[Tree, Any]]) -> list[tuple[Tree, Any]]:
    """Every (container, key) of an attribute tree, whole tuples too."""
    for key, item in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        found.append((tree, key))
        if isinstance(item, (dict, list)):
            leaves(item, found)
    return found


def other_int(old: int, rng: random.Random) -> int:
    new = rng.choice((old + 1, old - 1, -old, 2 * old, old // 2, rng.choice(INTS[:12]), rng.choice(INTS)))
    return max(-(1 << 63), min(new, (1 << 64) - 1))


def other_bytes(old: bytes, rng: random.Random) -> bytes:
    """The bytes of an array with some elements replaced by odd ones of any kind."""
    raw = bytearray(old)
    for _ in range(rng.choice((1, 1, 2, 5))):
        odd = rng.choice((struct.pack("<q", rng.choice(INTS[:-1])),
                          struct.pack("<i", rng.choice((-1, 0, 1, 9, 2**31 - 1, -2**31))),
                          struct.pack("<d", rng.choice(FLOATS)), struct.pack("<f", rng.choice((0.0, -1.0, math.inf, math.nan))),
                          bytes([rng.randrange(2)])))
        if len(raw) >= len(odd):
            at = rng.randrange(0, len(raw) - len(odd) + 1, len(odd))
            raw[at : at + len(odd)] = odd
    return bytes(raw)


def change_attribute(tree: Tree, base: Base, rng: random.Random) -> None:
    nodes = [node for row in graph_rows(tree) for node in row[2] if node[1]]
    if not nodes:
        return change_input(tree, base, rng)
    node = rng.choice(nodes)
    container, key = rng.choice(leaves(node[1], []))
    old = container[key]
    if isinstance(container, dict) and key == "dtype":
        container[key] = rng.choice(DTYPES)
    elif isinstance(container, dict) and key == "size":
        container[key] = rng.choice(SIZES)
    elif isinstance(container, dict) and key == "body":
        container[key] = rng.randrange(len(tree["bodies"]))
    elif isinstance(old, bool):
        container[key] = not old
    elif isinstance(old, int):
        container[key] = {"size": rng.choice(SIZES)} if rng.random() < 0.1 else other_int(old, rng)
    elif isinstance(old, float):
        container[key] = rng.choice((*FLOATS, -old, 2 * old))
    elif isinstance(old, bytes):
        container[key] = other_bytes(old, rng)
    elif isinstance(old, list) and old:
        match rng.randrange(4):
            case 0:
                old.pop(rng.randrange(len(old)))
            case 1:
                old.insert(rng.randrange(len(old) + 1), copy.deepcopy(rng.choice(old)))
            case 2:
                rng.shuffle(old)
            case _:
                old[:] = [rng.choice(old)] * len(old)
    elif isinstance(old, dict) and "size" in old:
        container[key] = rng.choice(INTS[:12])
    elif isinstance(old, str):
        container[key] = rng.choice((*DTYPES, "same", "valid", "max", "sum", "mean", ""))
    elif old is None:
        container[key] = rng.choice((0, 1, -1, 1.5, True))
    elif isinstance(container, dict):
        del container[key]


def input_rows(tree: Tree) -> list[Tree]:
    return [*tree["inputs"], *(row for body in tree["bodies"] for row in body[1])]


def change_input(tree: Tree, base: Base, rng: random.Random) -> None:
    rows = input_rows(tree)
    if not rows:
        return change_attribute(tree, base, rng) if any(node[1] for row in graph_rows(tree) for node in row[2]) else None
    row = rng.choice(rows)
    shape = row[3]
    match rng.randrange(5):
        case 0:
            row[2] = rng.choice(DTYPES)
        case 1:
            row[1] = rng.choice(("input", "param", "state"))
        case 2 if shape:
            shape.pop(rng.randrange(len(shape)))
        case 3:
            shape.insert(rng.randrange(len(shape) + 1), rng.choice((0, 1, 2, "N")))
        case _ if shape:
            at = rng.randrange(len(shape))
            old = shape[at]
            shape[at] = rng.choice((0, 1, 2, 3, 17, 64, old, "N", "M", "N+1", "2*N", 1 << 31, 1 << 40) if isinstance(old, str)
                                   else (0, 1, 2, old + 1, max(old - 1, 0), 2 * old, "N", old + 64, 1 << 31))


def change_everywhere(tree: Tree, base: Base, rng: random.Random) -> None:
    """One size, or one dtype, in all places: a graph that still fits together."""
    shapes = [row[3] for row in input_rows(tree)]
    attributes = [spot for row in graph_rows(tree) for node in row[2] if node[1] for spot in leaves(node[1], [])]
    if rng.random() < 0.3:
        old, new = rng.choice(DTYPES), rng.choice(DTYPES)
        for row in input_rows(tree):
            row[2] = new if row[2] == old else row[2]
        for container, key in attributes:
            if container[key] == old:
                container[key] = new
        return
    sizes = sorted({size for shape in shapes for size in shape if isinstance(size, int)})
    if not sizes:
        return change_input(tree, base, rng)
    old = rng.choice(sizes)
    new: Any = rng.choice((0, 0, 1, 2, 3, 5, 17, 33, 64, 100, 257, 1000, old + 1, 2 * old, "K"))
    for shape in shapes:
        shape[:] = [new if size == old else size for size in shape]
    written = {"size": new} if isinstance(new, str) else new
    for container, key in attributes:
        if type(container[key]) is int and container[key] == old and rng.random() < 0.9:
            container[key] = copy.copy(written)


def change_edge(tree: Tree, base: Base, rng: random.Random) -> None:
    row = rng.choice(graph_rows(tree))
    nodes = [node for node in row[2] if node[2]]
    if not nodes:
        return change_attribute(tree, base, rng)
    node = rng.choice(nodes)
    position = rng.randrange(len(node[2]))
    old = node[2][position]
    if row is tree["graphs"]["g"] and rng.random() < 0.8 and old < len(base.types):
        same = [i for i, t in enumerate(base.types[: old + 20]) if t == base.types[old]]
        node[2][position] = rng.choice(same)
    else:
        node[2][position] = rng.randrange(old + 3)


def change_results(tree: Tree, base: Base, rng: random.Random) -> None:
    row = tree["graphs"]["g"] if rng.random() < 0.7 else rng.choice(graph_rows(tree))
    outputs, updates, many = row[3], row[4], len(base.types)
    inputs = [i for i, v in enumerate(base.graph.inputs)]
    match rng.randrange(6):
        case 0:
            outputs.append(rng.randrange(many))
        case 1 if outputs:
            outputs[rng.randrange(len(outputs))] = rng.randrange(many)
        case 2 if outputs:
            outputs.pop(rng.randrange(len(outputs)))
        case 3 if updates:
            pair = rng.choice(updates)
            pair[1] = rng.choice([i for i, t in enumerate(base.types) if t == base.types[pair[1]]])
        case 4 if inputs:
            at = rng.choice(inputs)
            if row is tree["graphs"]["g"] and row[1]:
                tree["inputs"][row[1][at] if at < len(row[1]) else 0][1] = rng.choice(("param", "state"))
                row[4] = [p for p in updates if p[0] != at]
                row[4].append([at, rng.choice([i for i, t in enumerate(base.types) if t == base.types[at]])])
        case _ if updates:
            updates.pop(rng.randrange(len(updates)))


def change_op(tree: Tree, base: Base, rng: random.Random) -> None:
    row = rng.choice(graph_rows(tree))
    if not row[2]:
        return
    node = rng.choice(row[2])
    name = tree["ops"][node[0]]
    like = [other for other, cls in sorted(Op.registry.items())
            if cls.__module__.startswith("graphnn.") and cls.fusion is Op.registry[name].fusion and other != "input"]
    new = rng.choice(like)
    if new not in tree["ops"]:
        tree["ops"].append(new)
    node[0] = tree["ops"].index(new)
    if rng.random() < 0.3:
        node[1] = None


def anyhow(tree: Tree, base: Base, rng: random.Random) -> None:
    mutate_anyhow(tree, rng)


MUTATIONS: tuple[Callable[[Tree, Base, random.Random], None], ...] = (
    change_attribute, change_attribute, change_attribute, change_attribute, change_input, change_everywhere, change_everywhere,
    change_everywhere, change_edge, change_edge, change_results, change_results, change_op, anyhow)


def mutant(base: Base, rng: random.Random) -> Graph | None:
    """A changed graph that the reader of files lets through; None where none was found."""
    tree, arrays = base.stored
    for _ in range(12):
        changed, constants = copy.deepcopy(tree), list(arrays)
        try:
            for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
                rng.choice(MUTATIONS)(changed, base, rng)
            if constants and rng.random() < 0.2:
                at = rng.randrange(len(constants))
                old = constants[at]
                if str(old.type.dtype) != "bool":
                    raw = other_bytes(old.bits, rng)
                    constants[at] = Array(np.frombuffer(raw, old.data.dtype).reshape(old.data.shape))
            return GraphReader(changed, constants).graphs["g"]
        except (GraphnnError, KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, ArithmeticError,
                AssertionError):
            continue                                     # refused; that nothing but an error comes of it, test_damage.py tests
    return None


def hostile_array(t: TensorType, rng: random.Random, like: np.ndarray | None) -> np.ndarray:
    """An array of this bound type: the right one, a random one, either with odd elements."""
    numbers = np.random.default_rng(rng.randrange(1 << 32))
    shape, kind = tuple(int(s) for s in t.shape), t.dtype.numpy  # pyright: ignore[reportArgumentType]
    if like is not None and like.dtype == kind and like.shape == shape:
        array = like.copy()
    elif t.dtype.is_float:
        array = np.asarray(numbers.normal(size=shape)).astype(kind)
    else:
        array = np.asarray(numbers.integers(0, rng.choice((2, 3, 6)), shape)).astype(kind)
    if array.size and rng.random() < 0.35 and kind != np.bool_:
        flat = array.reshape(-1)
        for _ in range(rng.choice((1, 2, 4))):
            at = rng.randrange(flat.size)
            if t.dtype.is_float:
                with np.errstate(all="ignore"):
                    flat[at] = np.float64(rng.choice(FLOATS)).astype(kind)
            else:
                info = np.iinfo(str(kind))
                flat[at] = max(info.min, min(rng.choice(INTS), info.max))
        array = flat.reshape(shape)
    return array


# ------------------------------------------------------------------------------------------------ a run

class NoMemoryError(GraphnnError):
    """Stands for a MemoryError."""


class Finding(Exception):
    """What should not have happened."""


def lengths(graph: Graph, sizes: Mapping[str, int]) -> Iterator[int]:
    for node in graph.nodes:
        length = getattr(node.op, "length", None)
        if length is not None:
            yield length if isinstance(length, int) else length.bind(sizes)
        for body in bodies_of(node.op):
            yield from lengths(body, sizes)


def elements(graph: Graph, sizes: Mapping[str, int]) -> int:
    """Of all values, those of bodies too. Raises GraphnnError where sizes do not fit."""
    total = 0
    for value in (*graph.inputs, *(v for node in graph.nodes for v in node.outputs)):
        total += bind_size(value.type.bind(sizes).elements, {})
    return total + sum(elements(body, sizes) for node in graph.nodes for body in bodies_of(node.op))


def attempt(what: str, action: Callable[[], Any]) -> Any:
    """The result, or the GraphnnError; anything else is a finding."""
    try:
        return action()
    except GraphnnError as error:
        return error
    except (MemoryError, OSError) as error:             # as much as its sizes say (the guards are mapped by the system)
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        return NoMemoryError(str(error))
    except AssertionError as error:
        raise Finding(f"{what}: AssertionError {error} {where(error)}") from error
    except Exception as error:
        raise Finding(f"{what}: {type(error).__name__}: {error} {where(error)}") from error


def where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "graphnn" in f.filename]
    while error.__cause__ is not None:
        error = error.__cause__
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "graphnn" in f.filename] or frames
    return "at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:-4:-1])


def calm(values: Mapping[Value, np.ndarray]) -> bool:
    """Whether all numbers are such that rounding does not decide what comes out."""
    return all(bool(np.isfinite(a).all()) and (a.size == 0 or float(np.abs(a).max()) < 1e6)
               for a in values.values() if a.dtype.kind == "f")


def compare(what: str, actual: np.ndarray, expected: np.ndarray, strict: bool) -> None:
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        raise Finding(f"{what}: {actual.dtype}{actual.shape} for {expected.dtype}{expected.shape}")
    if not strict or not np.isfinite(expected).all() or actual.size == 0:
        return
    if actual.dtype.kind == "f":
        scale = max(1.0, float(np.abs(expected).max()))
        unit = 2e-3 if actual.dtype == np.float32 else 1e-8
        close = np.abs(actual.astype(np.float64) - expected) <= unit * scale
    else:
        close = actual == expected
    if not close.all():
        at = np.unravel_index(int(np.argmin(close)), close.shape)
        raise Finding(f"{what}: other values, {actual[at]} for {expected[at]} at {tuple(map(int, at))}")


def run_mutant(families: list[list[Base]], seed: int) -> str:
    """What became of the mutant with this seed. Raises Finding."""
    rng = random.Random(seed)
    base = rng.choice(rng.choice(families))
    graph = mutant(base, rng)
    if graph is None:
        return "refused"
    try:
        return run_graph(base, graph, rng)
    except Finding as finding:
        finding.args = (f"[{base.name}] {finding}", str(graph))
        raise


def run_graph(base: Base, graph: Graph, rng: random.Random) -> str:
    given = graph.by_role("input")
    held = [value for value in graph.inputs if value not in given]
    try:
        known = [v for v in given if v.name in base.arrays and len(v.shape) == base.arrays[v.name].ndim]
        sizes = bind_sizes([v.type for v in known], [base.arrays[v.name].shape for v in known], [v.name for v in known])
    except GraphnnError:
        sizes = {}
    sizes = {name: sizes.get(name, rng.choice((0, 1, 2, 3, 5, 6))) for name in graph.size_names}
    resolved = attempt("resolve", lambda: resolve_modes(graph, trains(graph)))
    if isinstance(resolved, GraphnnError):
        return "not resolved"
    passed = attempt("passes", lambda: DEFAULT(check_ids(open_ops(resolved))))
    if isinstance(passed, GraphnnError):
        if isinstance(passed, PassError):
            raise Finding(f"passes: {passed} {where(passed)}")
        return "not compiled"
    try:
        types = {value: value.type.bind(sizes) for value in graph.inputs}
        if elements(graph, sizes) > MOST_ELEMENTS or any(n > MOST_STEPS for n in lengths(graph, sizes)):
            return "compiled only"
    except GraphnnError:
        return "sizes that do not fit"
    arrays = {value: hostile_array(t, rng, base.arrays.get(value.name)) for value, t in types.items()}
    start = {value.name: arrays[value] for value in held}
    inputs = [arrays[value] for value in given]
    try:
        strict = calm(run_nodes(resolved, arrays, sizes))
    except Exception:
        strict = False

    # A node that no result needs may be left out, and then it cannot fail.
    live = Graph.of(graph.name, graph.inputs, graph.outputs, updates=graph.updates)

    def runs(graph: Graph, state: State, backend: str, place: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
        exe = compile_graph(graph, state=state, backend=backend)
        return [as_tuple(exe(*map(place, inputs))) for _ in range(2)]

    plain = state_of(start)
    expected = attempt("numpy", lambda: runs(live, plain, "numpy", lambda x: x))
    with guarded() as memory:
        mine = state_of(start)
        actual = attempt("guarded", lambda: runs(graph, mine, "numba", memory.copy))
        attempt("guarded", memory.check)
        after = mine.arrays()
        agree("guarded", actual, expected, strict)
    if isinstance(actual, NoMemoryError) or isinstance(expected, NoMemoryError):
        return "out of memory"
    if isinstance(actual, GraphnnError):
        if any(a.tobytes() != start[name].tobytes() for name, a in after.items()) and plain.arrays().keys() == after.keys() \
                and all(a.tobytes() == start[name].tobytes() for name, a in plain.arrays().items()):
            raise Finding(f"a run that failed wrote to its state: {actual}")
        return "failed alike"
    for name, array in plain.arrays().items():
        compare(f"guarded: state {name}", after[name], array, strict)
    poisoned = attempt("poisoned", lambda: [tuple(compile_graph(graph, state=state_of(start)).run_poisoned(*inputs))])
    agree("poisoned", poisoned, expected, strict)
    return "ran strictly" if strict else "ran"


def state_of(arrays: Mapping[str, np.ndarray]) -> State:
    state = State(1)
    state.restore(arrays)
    return state


def agree(what: str, actual: Any, expected: Any, strict: bool) -> None:
    if isinstance(actual, NoMemoryError) or isinstance(expected, NoMemoryError):
        return
    failed = [isinstance(actual, GraphnnError), isinstance(expected, GraphnnError)]
    if any(failed) and not all(failed):
        which, error = (what, actual) if failed[0] else ("numpy", expected)
        if which == "numpy" and "has no largest or smallest element" in str(error):
            return                                       # nor has a result any elements that would follow from it
        raise Finding(f"{which} alone fails: {type(error).__name__}: {error} {where(error)}")
    if any(failed):
        return
    for mine, others in zip(actual, expected, strict=False):
        for i, (a, e) in enumerate(zip(mine, others, strict=True)):
            compare(f"{what}: output {i}", np.asarray(a), np.asarray(e), strict)


# ------------------------------------------------------------------------------------------------ processes

def work(first: int, count: int, families: Callable[[], list[list[Base]]], progress: str) -> None:
    """Run mutants; what is found goes to standard output as lines of JSON, and the seed at hand into the file `progress`."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bases, outcomes = families(), dict[str, int]()
    with open(progress, "r+b", buffering=0) as file:
        for seed in range(first, first + count):
            os.pwrite(file.fileno(), struct.pack("<q", seed), 0)
            try:
                outcome = run_mutant(bases, seed)
            except Finding as finding:
                outcome = "FOUND"
                print(json.dumps({"seed": seed, "found": finding.args[0], "graph": finding.args[-1]}), flush=True)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(json.dumps({"outcomes": outcomes}), flush=True)


def watched(first: int, count: int, families: str = "all_bases") -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The findings among these seeds, and how many mutants came to which end. Goes on after a process that died or hung."""
    findings: list[dict[str, Any]] = []
    outcomes: dict[str, int] = {}
    end = first + count
    with tempfile.TemporaryDirectory() as folder:
        progress = os.path.join(folder, "seed")
        while first < end:
            Path(progress).write_bytes(struct.pack("<q", first))
            with open(os.path.join(folder, "out"), "w+") as out, open(os.path.join(folder, "err"), "w+") as err:
                code = f"from tests.runtime import hostile as h; h.work({first}, {end - first}, h.{families}, {progress!r})"
                process = subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=err)
                at, since, hung = first, time.monotonic(), False
                while process.poll() is None:
                    time.sleep(0.1)
                    (now,) = struct.unpack("<q", Path(progress).read_bytes())
                    if now != at:
                        at, since = now, time.monotonic()
                    elif time.monotonic() - since > MOST_SECONDS:
                        hung = True
                        process.kill()
                        process.wait()
                out.seek(0)
                err.seek(0)
                (at,) = struct.unpack("<q", Path(progress).read_bytes())
                for line in out:
                    row = json.loads(line)
                    if "outcomes" in row:
                        for name, many in row["outcomes"].items():
                            outcomes[name] = outcomes.get(name, 0) + many
                    else:
                        findings.append(row)
                if process.returncode == 0:
                    break
                why = f"hangs for {MOST_SECONDS} s" if hung else f"the process died with {process.returncode}"
                findings.append({"seed": at, "found": why, "graph": err.read()[-3000:]})
                first = at + 1
    return findings, outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--families", default="all_bases", help="the function that makes the right graphs")
    parser.add_argument("--one", type=int, help="run the mutant of this seed here, and show what is found")
    given = parser.parse_args()
    if given.one is not None:
        faulthandler.enable()
        warnings.simplefilter("ignore")
        try:
            print(run_mutant(globals()[given.families](), given.one))
        except Finding as finding:
            traceback.print_exc()
            print(finding.args[-1])
        return
    end, at, total = time.monotonic() + 60 * given.minutes, given.seed * 10_000_000, dict[str, int]()
    while time.monotonic() < end:
        findings, outcomes = watched(at, 1500, given.families)
        at += 1500
        for name, many in outcomes.items():
            total[name] = total.get(name, 0) + many
        for finding in findings:
            print(json.dumps(finding), flush=True)
        print(json.dumps({"until": at, "outcomes": total}), flush=True)


if __name__ == "__main__":
    main()
