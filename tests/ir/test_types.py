"""Types: text reads back, broadcasting is NumPy's, sizes are found from shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.errors import DTypeError, GraphnnError, ShapeError, UnsupportedError
from graphnn.ir.dims import dim, dim_max
from graphnn.ir.types import DType, TensorType, as_dtype, as_shape, bind_sizes, boolean, broadcast_shapes, f32, f64, i32, i64

N, T = dim("N"), dim("T")


@pytest.mark.parametrize("text", ["f32[]", "f64[N,784]", "i64[2*N+1,3]", "bool[max(N,3),T]", "i32[0]"])
def test_text_reads_back(text: str) -> None:
    assert str(TensorType.parse(text)) == text


def test_parse_of_nested_calls() -> None:
    t = TensorType(f32, (dim_max(N - 3, 0), (N + T) // 2, 5))
    assert TensorType.parse(str(t)) == t


@pytest.mark.parametrize("text", ["f32", "f32[", "f32[N", "f33[N]", "f32[-1]", "f32[N,,3]", "f32[1.5]", "[3]"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(GraphnnError):
        TensorType.parse(text)


@pytest.mark.parametrize(("given", "meant"), [("f32", f32), ("float32", f32), (np.float64, f64), (np.dtype("i4"), i32),
                                              (int, i64), (bool, boolean), (DType.f64, f64), (np.array(1).dtype, i64)])
def test_names_of_dtypes(given: object, meant: DType) -> None:
    assert as_dtype(given) is meant  # pyright: ignore[reportArgumentType]
    assert meant.itemsize == meant.numpy.itemsize


def test_dtypes_that_are_none() -> None:
    for wrong in ("f16", "bf16", np.float16):
        with pytest.raises((UnsupportedError, DTypeError)):
            as_dtype(wrong)
    for wrong in ("complex64", "u8", object, "banana"):
        with pytest.raises(DTypeError, match="is not a dtype of graphnn"):
            as_dtype(wrong)


shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@settings(max_examples=200, deadline=None)
@given(shapes, shapes)
def test_broadcasting_is_numpys(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ShapeError):
            broadcast_shapes(a, b)
        return
    assert broadcast_shapes(a, b) == expected


def test_symbolic_sizes_broadcast_only_when_equal_or_one() -> None:
    assert broadcast_shapes((N, 1), (1, T)) == (N, T)
    assert broadcast_shapes((2 * N,), (N + N,)) == (2 * N,)
    with pytest.raises(ShapeError, match="axis -1 is N on one side and T on the other"):
        broadcast_shapes((N,), (T,))
    with pytest.raises(ShapeError, match="axis -1 is N on one side and 3 on the other"):
        broadcast_shapes((N,), (3,))


def test_sizes_are_found_from_shapes_and_checked() -> None:
    types = [TensorType.parse("f32[2*N,T]"), TensorType.parse("f32[N]")]
    assert bind_sizes(types, [(6, 5), (3,)], ["x", "y"]) == {"N": 3, "T": 5}
    with pytest.raises(ShapeError, match=r"input 'x' has shape \(7, 5\): axis 0 is 7"):
        bind_sizes(types, [(7, 5), (3,)], ["x", "y"])
    with pytest.raises(ShapeError, match="has 1 axes"):
        bind_sizes(types, [(6,), (3,)], ["x", "y"])
    with pytest.raises(ShapeError, match="N is not known"):
        bind_sizes(types[:1], [(6, 5)], ["x"])


def test_limits() -> None:
    with pytest.raises(ShapeError, match="cannot be negative"):
        TensorType(f32, (-1,))
    with pytest.raises(ShapeError, match="at most 16"):
        TensorType(f32, (1,) * 17)
    with pytest.raises(ShapeError, match="elements"):
        TensorType.parse("f32[N,N,N]").bind({"N": 1 << 20})


def test_what_a_type_knows() -> None:
    t = TensorType.parse("f64[N,3]")
    assert (t.rank, t.elements, t.nbytes, t.is_static) == (2, 3 * N, 24 * N, False)
    assert t.bind({"N": 4}) == TensorType.of(np.zeros((4, 3)))
    assert t.of_dtype(i32).of_shape((N,)) == TensorType.parse("i32[N]")


def test_shapes_from_names_and_numpy_integers() -> None:
    assert as_shape((28, "N", np.int32(3), T)) == (28, N, 3, T)
    for wrong in (1.5, True, None):
        with pytest.raises(ShapeError, match="is not a size"):
            as_shape((wrong,))  # pyright: ignore[reportArgumentType]
