"""Ops that graphnn has no kernel for: written in others by their decomposition, or refused by name and line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from graphnn.errors import UnsupportedError, VerifyError
from graphnn.ir import exp, placeholder, scan
from graphnn.ir.graph import Graph, Value
from graphnn.ir.op import Op, Types
from graphnn.ir.types import TensorType
from graphnn.runtime.compile import compile_graph


@dataclass(frozen=True)
class Twice(Op):
    """2 x."""

    kind: str = "right"

    def infer(self, x: TensorType) -> Types:
        return (x,)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return x + x

    def decompose(self, *inputs: Value) -> tuple[Value, ...] | None:
        (x,) = inputs
        return {"right": (x + x,), "wrong": (x[:1],), "none": None}[self.kind]


# Named after the class is made, so that it is not registered: files and the conformance suite go by the registry.
Twice.name = "twice_of_a_test"


def run(kind: str) -> np.ndarray:
    x = placeholder("x", "f32[N]")
    graph = Graph.of("g", [x], [exp(Twice(kind).one(x))])
    return compile_graph(graph)(np.arange(5, dtype=np.float32))


def test_a_decomposition_takes_the_place_of_a_kernel() -> None:
    np.testing.assert_allclose(run("right"), np.exp(2 * np.arange(5)), rtol=1e-6)


def test_it_does_so_in_the_body_of_a_scan() -> None:
    xs, init = placeholder("xs", "f32[T,3]"), placeholder("init", "f32[3]")
    final, _ = scan(lambda carry, x: (Twice().one(carry) + x, carry), init, xs)
    graph = Graph.of("g", [xs, init], [final])
    result = compile_graph(graph)(np.ones((3, 3), np.float32), np.zeros(3, np.float32))
    np.testing.assert_array_equal(result, np.full(3, 7, np.float32))


def test_one_of_another_type_is_refused() -> None:
    with pytest.raises(VerifyError, match="decompose gives"):
        run("wrong")


def test_without_one_the_error_names_the_op_and_the_line() -> None:
    with pytest.raises(UnsupportedError, match="twice_of_a_test") as caught:
        run("none")
    assert any("test_users_ops.py" in note for note in caught.value.__notes__)
