"""x[...] means what NumPy means, for sizes that are numbers and for names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.errors import NumericsError, ShapeError, UnsupportedError
from graphnn.ir.dims import dim
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import TensorType
from graphnn.ir.verify import verify
from tests.helpers import run

N = dim("N")
X = np.arange(5 * 4 * 3, dtype=np.float64).reshape(5, 4, 3)


def apply(key: Any, declared: str = "f64[5,4,3]") -> np.ndarray:
    x = placeholder("x", declared)
    graph = Graph.of("g", [x], [x[key]])
    verify(graph)
    (y,) = interpret(graph, [X]).outputs
    assert graph.outputs[0].type.bind({"N": 5}) == TensorType.of(y)
    return y


bounds = st.one_of(st.none(), st.integers(-7, 7))
slices = st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, 3, -1, -2]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(slices, st.integers(-3, 2), st.just(None), st.just(Ellipsis)), max_size=5))
def test_any_index_is_numpys(items: list[Any]) -> None:
    key = tuple(items)
    try:
        expected = X[key]
    except IndexError:
        with pytest.raises(ShapeError):
            apply(key)
        return
    np.testing.assert_array_equal(apply(key), expected)


@pytest.mark.parametrize("key", [np.s_[1:], np.s_[:-1], np.s_[-3:], np.s_[1:-1], np.s_[2:4], np.s_[::2], np.s_[1::3], np.s_[::-1],
                                 np.s_[::-2], np.s_[0], np.s_[-1], np.s_[..., 0], np.s_[:, None, 1], np.s_[-4:-1:2]])
def test_a_symbolic_axis_is_indexed_as_numpy_does(key: Any) -> None:
    np.testing.assert_array_equal(apply(key, "f64[N,4,3]"), X[key])


def test_types_of_symbolic_slices() -> None:
    x = placeholder("x", "f32[N,4]")
    assert [str(x[k].type) for k in (np.s_[1:], np.s_[-3:], np.s_[:5], np.s_[::2], np.s_[: N // 2])] == \
        ["f32[N-1,4]", "f32[3,4]", "f32[5,4]", "f32[(N+1)//2,4]", "f32[N//2,4]"]


@pytest.mark.parametrize("key", [np.s_[[4, 0, 0]], np.s_[:, [1, 3]], np.s_[1:3, :, [[2, 0], [1, 1]]], np.s_[..., [0]],
                                 np.s_[None, [1, 2]], np.s_[np.array(2)]])
def test_one_array_of_ids_gathers(key: Any) -> None:
    np.testing.assert_array_equal(apply(key), X[key])


def test_ids_from_the_graph() -> None:
    x, ids = placeholder("x", "f64[N,3]"), placeholder("ids", "i32[T]")
    y = x[ids]
    assert str(y.type) == "f64[T,3]"
    assert run(y, x=X[0], ids=np.array([3, 3], np.int32)).tolist() == X[0][[3, 3]].tolist()
    with pytest.raises(NumericsError, match="the id -1 is out of range"):
        run(y, x=X[0], ids=np.array([-1], np.int32))


def test_what_is_no_index() -> None:
    x, mask = placeholder("x", "f64[5,4,3]"), placeholder("m", "bool[5]")
    for key, message in [((0, 0, 0, 0), "4 indices for the 3 axes"), (5, "index 5 is out of range for an axis of size 5"),
                         (1.5, "is no index"), ("a", "is no index"), (True, "is no index"), ((..., ...), "stands twice"),
                         (np.s_[::0], "step cannot be 0")]:
        with pytest.raises(ShapeError, match=message):
            x[key]
    with pytest.raises(UnsupportedError, match="one tensor of ids"):
        x[[0], [1]]
    with pytest.raises(UnsupportedError, match="takes no bounds"):
        placeholder("y", "f64[N]")[3::-1]
    with pytest.raises(TypeError, match="would depend on data"):
        x[mask]


def test_a_slice_beyond_a_symbolic_axis_is_an_error_when_sizes_are_known() -> None:
    x = placeholder("x", "f64[N]")
    with pytest.raises(ShapeError, match="axis 0 of size 3"):
        run(x[:5], x=np.zeros(3))
    with pytest.raises(ShapeError):
        run(x[-5:], x=np.zeros(3))
