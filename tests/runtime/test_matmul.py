"""Matrix products against NumPy in float64: odd sizes, all transposes, batches, edges of memory, any thread count."""

import os
import subprocess
import sys

import numpy as np
import pytest

from graphnn.runtime import instruction_set
from graphnn.runtime.kernels.matmul import (
    Matrix,
    matmul_prepacked_rows,
    matmul_rows,
    pack_row,
    prepacked_nbytes,
)
from graphnn.runtime.row import Address, Kernel
from tests.runtime.rows_on_arrays import DTYPE, Rows, address, aligned, fenced

TOLERANCE = {"f32": 2e-6, "f64": 4e-15}
SIZES = [
    (1, 1, 1), (1, 5, 33), (2, 1, 17), (3, 3, 10), (4, 7, 200), (5, 64, 31), (7, 2, 129), (13, 33, 64), (14, 100, 32),
    (15, 20, 1), (16, 16, 16), (17, 700, 40), (29, 9, 65), (33, 1, 33), (64, 64, 64), (100, 1100, 48), (200, 3, 16),
    (3, 4096, 5), (9, 0, 12), (300, 20, 96), (37, 1024, 150), (1024, 29, 129),   # the last two: rows a multiple of 4 KB apart
]  # fmt: skip
TRANSPOSES = [(False, False), (True, False), (False, True), (True, True)]


def matrix(array: np.ndarray) -> Matrix:
    """A view of an array, with batch axes before the last two; an axis of size 1 repeats."""
    steps = [step // array.itemsize if size > 1 else 0 for step, size in zip(array.strides, array.shape, strict=True)]
    base = array
    while isinstance(base.base, np.ndarray) and base.base.dtype == array.dtype:
        base = base.base
    offset = array.ctypes.data - base.ctypes.data
    row, col = (step // array.itemsize for step in array.strides[-2:])
    return Matrix(address(base) + offset, row, col, tuple(steps[:-2]))


def plan(a: np.ndarray, b: np.ndarray, c: np.ndarray, **options) -> Rows:
    dtype = {"float32": "f32", "float64": "f64"}[str(c.dtype)]
    batch = c.shape[:-2]
    a, b = a.reshape((1,) * (c.ndim - a.ndim) + a.shape), b.reshape((1,) * (c.ndim - b.ndim) + b.shape)
    sizes = (a.shape[-2], a.shape[-1], b.shape[-1])
    left, right, out = matrix(a), matrix(b), matrix(c)
    return Rows(
        matmul_rows(dtype, instruction_set.current(), sizes, left, right, out, batch=batch, owner="test", **options)
    )


def assert_product(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    dtype = {"float32": "f32", "float64": "f64"}[str(c.dtype)]
    a, b = a.astype("f8"), b.astype("f8")
    assert np.all(np.abs(c - a @ b) <= TOLERANCE[dtype] * (1 + np.abs(a) @ np.abs(b)))


def operand(rng, shape: tuple[int, ...], dtype: str, transpose: bool) -> np.ndarray:
    array = aligned((*shape[:-2], shape[-1], shape[-2]) if transpose else shape, dtype, rng)
    return array.swapaxes(-1, -2) if transpose else array


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("transposed", TRANSPOSES)
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "x".join(map(str, sizes)))
def test_a_product_of_any_sizes_and_transposes(sizes, transposed, dtype):
    rng = np.random.default_rng(1)
    m, k, n = sizes
    a, b = operand(rng, (m, k), dtype, transposed[0]), operand(rng, (k, n), dtype, transposed[1])
    c = aligned((m, n), dtype, np.nan)
    plan(a, b, c).run_tiles()
    assert_product(c, a, b)


@pytest.mark.parametrize("sizes", [(0, 3, 4), (3, 4, 0), (0, 0, 0)])
def test_an_empty_result_needs_no_rows(sizes):
    m, k, n = sizes
    a, b, c = (aligned(shape, "f32", 0.0) for shape in ((m, k), (k, n), (m, n)))
    assert plan(a, b, c).rows == []


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("transposed", TRANSPOSES)
@pytest.mark.parametrize("sizes", [(1, 33, 50), (5, 17, 10), (31, 40, 33), (60, 600, 37), (90, 5, 1), (2, 3000, 7),
                                   (21, 1024, 131)])
def test_nothing_is_read_or_written_beyond_the_arrays(sizes, transposed, dtype):
    rng = np.random.default_rng(2)
    m, k, n = sizes
    a = fenced(rng.standard_normal((k, m) if transposed[0] else (m, k)).astype(DTYPE[dtype]))
    b = fenced(rng.standard_normal((n, k) if transposed[1] else (k, n)).astype(DTYPE[dtype]))
    a, b = a.T if transposed[0] else a, b.T if transposed[1] else b
    c = fenced(np.full((m, n), np.nan, DTYPE[dtype]))
    plan(a, b, c).run_tiles()
    assert_product(c, a, b)


def test_rows_of_c_may_lie_apart_and_what_lies_between_stays():
    rng = np.random.default_rng(3)
    a, b = aligned((20, 30), "f32", rng), aligned((30, 41), "f32", rng)
    whole = aligned((20, 60), "f32", -7.0)
    c = whole[:, 5:46]
    plan(a, b, c).run_tiles()
    assert_product(c, a, b)
    assert np.all(whole[:, :5] == -7)
    assert np.all(whole[:, 46:] == -7)


def test_any_strides_are_read():
    rng = np.random.default_rng(4)
    a, b = aligned((60, 90), "f32", rng)[::3, ::2], aligned((90, 80), "f32", rng)[::2, ::2]
    c = aligned((20, 40), "f32", np.nan)
    plan(a, b, c).run_tiles()
    assert_product(c, a, b)


BATCHES = [
    ((3,), (3,)), ((3,), (1,)), ((1,), (3,)), ((2, 3), (2, 3)), ((2, 1), (1, 3)), ((2, 3), (1, 3)), ((4, 1, 3), (1, 2, 3)),
    ((2, 1, 3, 1), (1, 2, 1, 2)), ((70,), (70,)),
]  # fmt: skip


@pytest.mark.parametrize("batches", BATCHES, ids=str)
@pytest.mark.parametrize("transposed", TRANSPOSES)
@pytest.mark.parametrize("sizes", [(1, 4, 5), (6, 7, 33), (17, 20, 40), (20, 6, 3)])
def test_batches_that_broadcast(sizes, transposed, batches):
    rng = np.random.default_rng(5)
    m, k, n = sizes
    a = operand(rng, (*batches[0], m, k), "f32", transposed[0])
    b = operand(rng, (*batches[1], k, n), "f32", transposed[1])
    c = aligned((*np.broadcast_shapes(*batches), m, n), "f32", np.nan)
    args = (address(c), n, m)
    mark = Kernel.of("tests.runtime.epilogue_kernels:mark", signature="epilogue", dtype="f32")
    plan(a, b, c, epilogue=(mark, args)).run_tiles()
    rows = np.arange(c.size // n).reshape(*c.shape[:-1], 1)
    expected = a.astype("f8") @ b + 1000 * rows + np.arange(n) + 1
    assert np.allclose(c, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("sizes", [(1, 4, 5), (40, 33, 70), (300, 20, 96), (6, 9000, 10), (5, 0, 7), (500, 500, 90)])
def test_the_epilogue_sees_every_finished_element_once(sizes, dtype):
    rng = np.random.default_rng(6)
    m, k, n = sizes
    a, b, c = aligned((m, k), dtype, rng), aligned((k, n), dtype, rng), aligned((m, n), dtype, np.nan)
    mark = Kernel.of("tests.runtime.epilogue_kernels:mark", signature="epilogue", dtype=dtype)
    plan(a, b, c, epilogue=(mark, (address(c), n, m))).run_tiles()
    expected = a.astype("f8") @ b + 1000 * np.arange(m)[:, None] + np.arange(n) + 1
    assert np.allclose(c, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("sizes", [(300, 200, 300), (6, 90000, 33), (1, 4000, 3000), (7000, 70, 10)])
@pytest.mark.parametrize("transposed", TRANSPOSES)
def test_any_number_of_threads_gives_the_same_bits(sizes, transposed):
    rng = np.random.default_rng(7)
    m, k, n = sizes
    a, b = operand(rng, (m, k), "f32", transposed[0]), operand(rng, (k, n), "f32", transposed[1])
    results = []
    for threads in (1, 2, 3, 4):
        c = aligned((m, n), "f32", np.nan)
        rows = plan(a, b, c)
        assert any(row.tiles > 1 for row in rows.rows)
        rows.run(threads)
        results.append(c)
    assert_product(results[0], a, b)
    for other in results[1:]:
        assert np.array_equal(results[0], other)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("sizes", [(1, 5, 33), (9, 40, 10), (50, 700, 100), (64, 64, 64), (3, 0, 5)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_right_operand_packed_once_serves_many_products(sizes, dtype, turned):
    rng = np.random.default_rng(8)
    isa = instruction_set.current()
    m, k, n = sizes
    b = aligned((n, k), dtype, rng) if turned else aligned((k, n), dtype, rng)
    right, b = (matrix(b).mT, b.T) if turned else (matrix(b), b)
    packed = fenced(np.full(prepacked_nbytes(dtype, isa, k, n) // DTYPE[dtype].itemsize, np.nan, DTYPE[dtype]))
    Rows([pack_row(dtype, isa, k, n, right, address(packed))]).run_tiles()
    for seed in range(2):
        a, c = aligned((m, k), dtype, np.random.default_rng(seed)), aligned((m, n), dtype, np.nan)
        Rows(matmul_prepacked_rows(dtype, isa, sizes, matrix(a), address(packed), matrix(c), owner="test")).run_tiles()
        assert_product(c, a, b)


def test_infinities_and_nans_stay_in_their_rows_and_columns():
    rng = np.random.default_rng(9)
    a, b, c = aligned((40, 50), "f32", rng), aligned((50, 37), "f32", rng), aligned((40, 37), "f32", 0.0)
    a[3, 7], b[2, 36] = np.nan, np.inf
    plan(a, b, c).run_tiles()
    assert np.array_equal(np.isnan(c), np.isnan(a @ b))
    assert np.array_equal(np.isinf(c), np.isinf(a @ b))


def test_plans_depend_on_sizes_alone():
    rng = np.random.default_rng(10)
    a, b = Address("a"), Address("b")
    isa = instruction_set.current()
    sizes = tuple(int(n) for n in rng.integers(1, 3000, 3))
    m, k, n = sizes
    plans = [
        matmul_rows("f32", isa, (m, k, n), Matrix(a, k, 1), Matrix(b, n, 1), Matrix(Address("c"), n, 1), owner="o")
        for _ in range(2)
    ]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("isa", ["avx2", "neon", "generic"])
def test_other_instruction_sets_give_the_same_meaning(isa):
    """The tests of this file and of convolutions again, for an instruction set forced from outside."""
    if "GRAPHNN_ISA" in os.environ:
        pytest.skip("forced already")
    here = os.path.dirname(__file__)
    probe = "import graphnn.runtime.instruction_set as i, sys; sys.exit(0 if i.current().name else 1)"
    environment = os.environ | {"GRAPHNN_ISA": isa}
    if subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True).returncode:
        pytest.skip(f"this machine cannot run {isa}")
    files = [os.path.join(here, name) for name in ("test_contraction.py", "test_matmul.py", "test_convolution.py")]
    run = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, cwd=os.path.join(here, "..", ".."))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
