"""Sizes: arithmetic agrees with integers wherever names are bound, equal polynomials are equal, text reads back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.errors import ShapeError
from graphnn.ir.dims import (
    MAX_SIZE,
    Dim,
    Size,
    bind_size,
    ceildiv,
    dim,
    dim_max,
    dim_min,
    floordiv,
    is_size,
    names_of,
    parse_size,
    product,
)

N, T = dim("N"), dim("T")


def expressions() -> st.SearchStrategy[Size]:
    """Sizes that are never negative, of names N and T."""
    leaves = st.one_of(st.integers(0, 9), st.sampled_from([N, T]))

    def extend(inner: st.SearchStrategy[Size]) -> st.SearchStrategy[Size]:
        pair = st.tuples(inner, inner)
        return st.one_of(pair.map(lambda p: p[0] + p[1]), pair.map(lambda p: p[0] * p[1]), pair.map(lambda p: dim_max(*p)),
                         pair.map(lambda p: dim_min(*p)), st.tuples(inner, st.integers(1, 5)).map(lambda p: floordiv(*p)))

    return st.recursive(leaves, extend, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(expressions(), st.integers(0, 12), st.integers(0, 12))
def test_text_reads_back_and_means_the_same(size: Size, n: int, t: int) -> None:
    again = parse_size(str(size))
    assert again == size
    assert bind_size(again, {"N": n, "T": t}) == bind_size(size, {"N": n, "T": t})


@settings(max_examples=100, deadline=None)
@given(expressions(), expressions(), st.integers(0, 12), st.integers(0, 12), st.integers(1, 7))
def test_arithmetic_agrees_with_integers(a: Size, b: Size, n: int, t: int, divisor: int) -> None:
    sizes = {"N": n, "T": t}
    x, y = bind_size(a, sizes), bind_size(b, sizes)
    assert bind_size(a + b, sizes) == x + y
    assert bind_size(a * b, sizes) == x * y
    assert bind_size(dim_max(a - b, 0), sizes) == max(x - y, 0)
    assert bind_size(floordiv(a, divisor), sizes) == x // divisor
    assert bind_size(ceildiv(a, divisor), sizes) == -(-x // divisor)
    assert bind_size(dim_min(a, b), sizes) == min(x, y)


@settings(max_examples=100, deadline=None)
@given(expressions(), expressions(), expressions())
def test_equal_polynomials_are_equal_and_hash_alike(a: Size, b: Size, c: Size) -> None:
    assert a + b == b + a
    assert hash(a * (b + c)) == hash(a * b + a * c)
    assert a * (b + c) == c * a + b * a
    assert a - a == 0


def test_constants_are_integers_never_dims() -> None:
    for size in (N - N, N * 0, (N + 3) - N, (2 * N) // N, dim_min(3, 5)):
        assert type(size) is int


def test_division_is_exact_where_that_can_be_seen() -> None:
    assert (2 * N + 4) // 2 == N + 2
    assert (2 * N + 5) // 2 == N + 2
    assert (N * T) // T == N
    assert (6 * N * T) // (3 * N) == 2 * T
    assert N // N == 1
    assert isinstance(N // 2, Dim)
    assert (N - 3) // 2 * 2 != N - 3


def test_printed_forms() -> None:
    assert [str(s) for s in (2 * N + 1, N * T, (N + 1) // 2, dim_max(N - 3, 0), N - T, -N + 3, (N // 2) * T)] == \
        ["2*N+1", "N*T", "(N+1)//2", "max(N-3,0)", "N-T", "-N+3", str((N // 2) * T)]


def test_binding_refuses_what_is_no_size() -> None:
    with pytest.raises(ShapeError, match="T is not known"):
        (N + T).bind({"N": 1})
    with pytest.raises(ShapeError, match=r"is -2"):
        (N - 3).bind({"N": 1})
    with pytest.raises(ShapeError, match="between 0"):
        (N * N * N).bind({"N": MAX_SIZE})
    with pytest.raises(ShapeError, match="divides by 0"):
        floordiv(N, T).bind({"N": 3, "T": 0})
    with pytest.raises(ShapeError, match="cannot divide"):
        N // 0


@pytest.mark.parametrize("text", ["", "N+", "2**N", "(N", "N)", "max(N)", "N 3", "1.5", "N//0", "9" * 20, "é~",
                                  "(" * 200 + "N" + ")" * 200])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ShapeError):
        parse_size(text)


def test_names_is_size_and_product() -> None:
    assert set(names_of(N * T + N // T)) == {"N", "T"}
    assert list(names_of(3)) == []
    assert is_size(3)
    assert is_size(N)
    assert not is_size(True)
    assert not is_size(np.float64(3))
    assert product([N, 2, T]) == 2 * N * T
    assert product([]) == 1


def test_a_name_is_an_identifier() -> None:
    with pytest.raises(ShapeError, match="cannot name a size"):
        dim("2N")
