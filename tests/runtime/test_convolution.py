"""Convolution and its gradients against sums over taps in float64."""

import numpy as np
import pytest

from graphnn.runtime import instruction_set
from graphnn.runtime.kernels.convolution import (
    Convolution,
    conv2d_input_grad_rows,
    conv2d_rows,
    conv2d_weight_grad_rows,
)
from graphnn.runtime.row import Kernel
from tests.runtime.rows_on_arrays import DTYPE, Rows, address, aligned, fenced

TOLERANCE = {"f32": 1e-5, "f64": 1e-13}
Part = tuple[np.ndarray, np.ndarray, np.ndarray]


def by_taps(v: Convolution, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> Part:
    """y, dx and dw in float64, one tap of the kernel after the other."""
    top, bottom, left, right = v.padding
    xp = np.pad(x.astype("f8"), ((0, 0), (top, bottom), (left, right), (0, 0)))
    y, dxp, dw = np.zeros((v.n, v.oh, v.ow, v.cout)), np.zeros_like(xp), np.zeros(w.shape)
    for g in range(v.groups):
        ci, co = (slice(g * size, (g + 1) * size) for size in (v.cin_g, v.cout_g))
        for i in range(v.kh):
            for j in range(v.kw):
                h0, w0 = i * v.dilation[0], j * v.dilation[1]
                at = (
                    slice(None),
                    slice(h0, h0 + v.stride[0] * (v.oh - 1) + 1, v.stride[0]),
                    slice(w0, w0 + v.stride[1] * (v.ow - 1) + 1, v.stride[1]),
                    ci,
                )
                tap = w[i, j][:, co].astype("f8")
                y[..., co] += xp[at] @ tap
                dxp[at] += dy[..., co] @ tap.T
                dw[i, j][:, co] += np.tensordot(xp[at], dy[..., co].astype("f8"), ([0, 1, 2], [0, 1, 2]))
    return y, dxp[:, top : top + v.h, left : left + v.w], dw


PLANS = (conv2d_rows, conv2d_input_grad_rows, conv2d_weight_grad_rows)
OPERANDS = ((0, 1), (2, 1), (0, 2))          # of (x, w, dy), which two a plan takes


def arrays(v: Convolution, dtype: str, make) -> Part:
    return (
        make((v.n, v.h, v.w, v.cin), dtype),
        make((v.kh, v.kw, v.cin_g, v.cout), dtype),
        make((v.n, v.oh, v.ow, v.cout), dtype),
    )


def check(v: Convolution, dtype: str, make, run) -> None:
    given = arrays(v, dtype, make)
    expected = by_taps(v, *given)
    depths = (v.kh * v.kw * v.cin_g, v.kh * v.kw * v.cout_g, v.n * v.oh * v.ow)
    for plan, (a, b), right, depth in zip(PLANS, OPERANDS, expected, depths, strict=True):
        out = fenced(np.full(right.shape, np.nan, DTYPE[dtype]))
        isa = instruction_set.current()
        run(Rows(plan(dtype, isa, v, address(given[a]), address(given[b]), address(out), owner="test")))
        assert np.all(np.abs(out - right) <= TOLERANCE[dtype] * (1 + depth**0.5)), (plan.__name__, v)


def random_convolutions(count: int) -> list[Convolution]:
    rng = np.random.default_rng(11)
    found: list[Convolution] = []
    while len(found) < count:
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        v = Convolution(
            n=int(rng.integers(1, 4)), h=int(rng.integers(1, 13)), w=int(rng.integers(1, 18)),
            cin=groups * int(rng.choice([1, 2, 3, 16])), kh=int(rng.integers(1, 5)), kw=int(rng.integers(1, 5)),
            cout=groups * int(rng.choice([1, 3, 16, 33, 40])),
            stride=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
            dilation=(int(rng.integers(1, 4)), int(rng.integers(1, 3))),
            padding=tuple(int(p) for p in rng.integers(0, 4, 4)), groups=groups,
        )  # fmt: skip
        if v.oh and v.ow:
            found.append(v)
    return found


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_any_stride_dilation_padding_and_groups(dtype):
    rng = np.random.default_rng(12)
    for v in random_convolutions(120):
        check(v, dtype, lambda shape, kind: aligned(shape, kind, rng), Rows.run_tiles)


@pytest.mark.parametrize(
    "v",
    [
        Convolution(2, 5, 6, 3, 3, 3, 4, padding=(1, 1, 1, 1)),
        Convolution(1, 1, 1, 1, 1, 1, 1),
        Convolution(2, 9, 7, 5, 1, 1, 33),
        Convolution(1, 20, 21, 3, 7, 7, 64, (2, 2), (1, 1), (3, 3, 3, 3)),
        Convolution(2, 6, 5, 40, 2, 3, 33, (2, 1), (1, 2), (0, 1, 2, 0)),
        Convolution(1, 7, 7, 2048, 3, 3, 16, padding=(1, 1, 1, 1)),
        Convolution(1, 9, 9, 4, 2, 2, 4, stride=(3, 3)),
        Convolution(2, 8, 8, 6, 3, 3, 6, padding=(1, 1, 1, 1), groups=6),
        Convolution(1, 2, 2, 3, 3, 3, 5, padding=(4, 4, 4, 4)),
        Convolution(2, 21, 33, 19, 3, 3, 1, padding=(1, 1, 1, 1)),
        Convolution(1, 9, 40, 34, 3, 2, 2, dilation=(2, 5), padding=(2, 0, 9, 1)),
        Convolution(2, 12, 20, 6, 3, 3, 4, padding=(1, 2, 0, 1), groups=2),
        Convolution(1, 1, 300, 16, 1, 3, 1, dilation=(1, 30), padding=(0, 0, 60, 0)),
        Convolution(2, 18, 17, 1, 4, 4, 33, (2, 2), padding=(1, 1, 1, 1)),
        Convolution(3, 20, 17, 24, 3, 4, 2, (2, 3), (2, 1), (3, 0, 2, 5)),
        Convolution(1, 300, 40, 64, 3, 3, 1, padding=(1, 1, 1, 1)),
        Convolution(19, 5, 4, 40, 3, 3, 35, padding=(1, 1, 1, 1)),
        Convolution(30, 7, 6, 17, 4, 4, 40, (2, 2), padding=(1, 2, 2, 1)),
        Convolution(9, 4, 5, 64, 2, 3, 32, (1, 2), (3, 2), (3, 3, 4, 4), groups=2),
        Convolution(17, 1, 1, 16, 3, 3, 16, padding=(1, 1, 1, 1)),
    ],
    ids=str,
)
def test_nothing_is_read_or_written_beyond_the_images(v):
    rng = np.random.default_rng(13)
    check(v, "f32", lambda shape, kind: fenced(rng.standard_normal(shape).astype(DTYPE[kind])), Rows.run_tiles)


DEPTHWISE = [
    Convolution(2, 8, 9, 6, 3, 3, 6, padding=(1, 1, 1, 1), groups=6),
    Convolution(1, 9, 11, 33, 3, 2, 33, (2, 3), (1, 2), (0, 2, 1, 1), groups=33),
    Convolution(3, 1, 1, 2, 5, 5, 2, padding=(2, 2, 2, 2), groups=2),
    Convolution(1, 4, 4, 17, 2, 2, 17, (3, 3), groups=17),
    Convolution(2, 6, 6, 4, 3, 3, 4, (2, 2), (3, 3), (3, 3, 3, 3), groups=4),
    Convolution(2, 3, 40, 5, 2, 4, 5, (1, 2), (1, 4), (0, 0, 9, 0), groups=5),
]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("v", DEPTHWISE, ids=str)
def test_each_channel_on_its_own(v, dtype):
    rng = np.random.default_rng(16)
    check(v, dtype, lambda shape, kind: fenced(rng.standard_normal(shape).astype(DTYPE[kind])), Rows.run_tiles)


THREADED = [
    Convolution(2, 30, 30, 48, 3, 3, 48, padding=(1, 1, 1, 1), groups=48),
    Convolution(6, 20, 20, 16, 3, 3, 40, padding=(1, 1, 1, 1)),
    Convolution(2, 30, 41, 8, 5, 5, 48, (2, 2), groups=2),
    Convolution(8, 60, 60, 40, 3, 3, 2, padding=(1, 1, 1, 1)),
    Convolution(40, 7, 7, 64, 3, 3, 48, padding=(1, 1, 1, 1)),
]


@pytest.mark.parametrize("v", THREADED, ids=str)
def test_any_number_of_threads_gives_the_same_bits(v):
    rng = np.random.default_rng(14)
    given = arrays(v, "f32", lambda shape, kind: aligned(shape, kind, rng))
    shapes = [given[2].shape, given[0].shape, given[1].shape]
    for plan, (a, b), shape in zip(PLANS, OPERANDS, shapes, strict=True):
        results = []
        for threads in (1, 2, 3, 4):
            out = aligned(shape, "f32", np.nan)
            isa = instruction_set.current()
            rows = Rows(plan("f32", isa, v, address(given[a]), address(given[b]), address(out), owner="test"))
            assert any(row.tiles > 1 for row in rows.rows)
            rows.run(threads)
            results.append(out)
        for other in results[1:]:
            assert np.array_equal(results[0], other), plan.__name__
        assert not np.isnan(results[0]).any()


EPILOGUES = [
    Convolution(2, 6, 7, 3, 3, 3, 35, padding=(1, 1, 1, 1)),
    Convolution(3, 9, 8, 4, 3, 2, 6, (2, 2), groups=2),
    Convolution(2, 5, 5, 3, 1, 1, 7),
    Convolution(1, 7, 6, 4, 2, 2, 4, (3, 3)),
    Convolution(6, 20, 20, 16, 3, 3, 40, padding=(1, 1, 1, 1)),
    Convolution(2, 9, 9, 3, 2, 2, 5, dilation=(2, 2)),
    Convolution(2, 7, 8, 5, 3, 3, 5, (2, 1), groups=5),
    Convolution(3, 9, 23, 17, 3, 3, 1, padding=(1, 1, 1, 1)),
    Convolution(2, 10, 21, 9, 2, 2, 3, padding=(1, 0, 1, 0), groups=3),
    Convolution(18, 4, 3, 64, 3, 3, 40, padding=(1, 1, 1, 1), groups=2),
    Convolution(31, 12, 5, 64, 5, 3, 20, padding=(2, 2, 1, 1)),
]


def test_few_channels_and_many_images_have_kernels_of_their_own():
    isa = instruction_set.current()
    few = Convolution(1, 40, 40, 16, 3, 3, 1, padding=(1, 1, 1, 1))
    many = Convolution(40, 5, 5, 64, 3, 3, 64, padding=(1, 1, 1, 1))
    for v, plan, kernel in ((few, conv2d_rows, "few_channels"), (few, conv2d_weight_grad_rows, "few_channels_grad"),
                            (many, conv2d_rows, "many_images"), (many, conv2d_input_grad_rows, "many_images")):
        rows = plan("f32", isa, v, *(address(aligned((1,), "f32", 0.0)) for _ in range(3)), owner="test")
        assert rows[0].kernel.builder.endswith(f":{kernel}")


@pytest.mark.parametrize("v", EPILOGUES, ids=str)
def test_the_epilogue_sees_every_finished_element_once(v):
    rng = np.random.default_rng(15)
    given = arrays(v, "f64", lambda shape, kind: aligned(shape, kind, rng))
    for plan, (a, b), right in zip(PLANS, OPERANDS, by_taps(v, *given), strict=True):
        cols = right.shape[-1]
        out = aligned(right.shape, "f64", np.nan)
        mark = Kernel.of("tests.runtime.epilogue_kernels:mark", signature="epilogue", dtype="f64")
        epilogue = (mark, (address(out), cols, 0))
        isa = instruction_set.current()
        a, b = address(given[a]), address(given[b])
        Rows(plan("f64", isa, v, a, b, address(out), epilogue=epilogue, owner="test")).run_tiles()
        rows = np.arange(right.size // cols).reshape(*right.shape[:-1], 1)
        assert np.allclose(out, right + 1000 * rows + np.arange(cols) + 1, atol=1e-9), plan.__name__
