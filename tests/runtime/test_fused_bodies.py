"""Fused bodies: what the kernel computes is what the body means, over shapes, dtypes, forms and orders of tiles."""

import numpy as np
import pytest

from graphnn import ir
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.iteration_space import iteration_space
from graphnn.ir.op import make_node
from graphnn.ir.ops import reduce as r
from graphnn.ir.ops.fused import Fused
from graphnn.ir.ops.inputs import placeholder
from tests.runtime.rows_by_hand import Bench

TOLERANCE = {"float32": 3e-5, "float64": 1e-11}


def fused(outputs, inputs):
    """A node of the body that computes `outputs` from `inputs`."""
    body = Graph.of("body", inputs, outputs)
    assert iteration_space(body) is not None
    return make_node(Fused(body), tuple(placeholder(f"a{i}", v.type) for i, v in enumerate(inputs)))


def check(node, arrays, **options):
    expected = interpret(Graph.of("whole", node.inputs, node.outputs), arrays).outputs
    bench = Bench(node, arrays, **options)
    if not options:                                     # the order of tiles, and so the number of threads, changes no bit
        first = [array.copy() for array in bench.run()]
        for a, b in zip(first, bench.run(lambda tiles: reversed(tiles)), strict=True):
            np.testing.assert_array_equal(a, b)
    for actual, wanted in zip(bench.run(lambda tiles: reversed(tiles)), expected, strict=True):
        assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
        if actual.dtype.kind == "f":
            tolerance = TOLERANCE[actual.dtype.name]
            largest = np.max(np.abs(wanted), initial=1, where=np.isfinite(wanted))
            np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance * largest)
        else:
            np.testing.assert_array_equal(actual, wanted)
    return bench


def softmax(x, axis):
    exp = ir.exp(x - r.max(x, axis, True))
    return exp / r.sum(exp, axis, True)


def normalise(x, axis):
    mean = r.mean(x, axis, True)
    return (x - mean) * ir.rsqrt(r.mean((x - mean) * (x - mean), axis, True) + 1e-5)


def normal(shape, dtype="f32"):
    return np.random.default_rng(7).standard_normal(shape).astype({"f32": "f4", "f64": "f8"}[dtype])


SIZES = ((1, 1), (3, 10), (5, 64), (7, 65), (2, 300), (70, 3), (130, 129), (0, 4), (3, 20_000))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("shape", SIZES)
def test_elementwise_work_on_operands_that_broadcast(shape, dtype):
    x, row, column, one = (placeholder(n, f"{dtype}[{s}]") for n, s in (("x", "N,C"), ("r", "C"), ("c", "N,1"), ("s", "")))
    node = fused([ir.tanh(x * column + row) * one, ir.less(x, row)], [x, row, column, one])
    n, c = shape
    check(node, [normal(s, dtype) for s in (shape, c, (n, 1), ())])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", SIZES[:-2])
def test_softmax_and_normalisation_along_either_axis(shape, axis):
    x = placeholder("x", "f32[N,C]")
    check(fused([softmax(x, axis)], [x]), [normal(shape)])
    check(fused([normalise(x, axis), r.mean(x, axis)], [x]), [normal(shape)])


@pytest.mark.parametrize("shape", [(2500, 40), (40_000, 3), (3, 40_000), (300, 700)])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_much_folded_to_little_is_split_into_chunks(shape, axis):
    x = placeholder("x", "f32[N,C]")
    for output in (r.sum(x * x, axis), r.logsumexp(x, axis), normalise(x, axis), softmax(x, axis)):
        check(fused([output], [x]), [normal(shape)])


def test_results_that_follow_from_no_reduction_stand_beside_chunks():
    x, row = placeholder("x", "f32[N,C]"), placeholder("r", "f32[C]")
    bench = check(fused([r.sum(x * row, 0), ir.tanh(row), x - row], [x, row]), [normal((5000, 70)), normal(70)])
    assert len(bench.rows) == 4, "a partial sum, its end, the row, the full-size result"


def test_the_backward_of_layer_norm_is_one_kernel():
    x, scale, dy = placeholder("x", "f32[N,T,C]"), placeholder("g", "f32[C]"), placeholder("dy", "f32[N,T,C]")
    mean = r.mean(x, 2, True)
    rstd = ir.rsqrt(r.mean((x - mean) * (x - mean), 2, True) + 1e-5)
    hat, d = (x - mean) * rstd, dy * scale
    dx = rstd * (d - r.mean(d, 2, True) - hat * r.mean(d * hat, 2, True))
    bench = check(fused([dx, hat], [x, scale, dy]), [normal((4, 9, 70)), normal(70), normal((4, 9, 70))])
    assert len(bench.rows) == 1


def test_cross_entropy_by_an_index_along_the_row():
    logits, labels = placeholder("x", "f32[N,C]"), placeholder("t", "i64[N]")
    hot = ir.cast(ir.equal(ir.iota(("N", "C"), 1), ir.reshape(labels, ("N", 1))), "f32")
    log_p = logits - r.logsumexp(logits, 1, True)
    loss = -r.sum(hot * log_p, 1)
    check(fused([loss, ir.exp(log_p) - hot], [logits, labels]), [normal((37, 10)), np.arange(37) % 10])


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_any_axes_are_folded(axes):
    x, w = placeholder("x", "f32[N,T,C]"), placeholder("w", "f32[T,1]")
    for output in (r.sum(x * w, axes), r.max(x * w, axes, True), x - r.mean(x * w, axes, True)):
        check(fused([output], [x, w]), [normal((5, 7, 66)), normal((7, 1))])


def test_several_reductions_of_different_kinds_and_dtypes():
    x, i = placeholder("x", "f64[N,C]"), placeholder("i", "i32[N,C]")
    inputs = [x, i]
    x = x + ir.cast(i, "f64") * 1e-3
    outputs = [r.sum(x, 1), r.max(i, 1), r.min(i, 1), r.prod(ir.cast(x, "f32"), 1), r.sum(i, 1)]
    ids = np.random.default_rng(3).integers(-1000, 1000, (9, 150), np.int32)
    check(fused(outputs, inputs), [normal((9, 150), "f64"), ids])
    check(fused([r.sum(x, 0), r.max(i, 0), r.sum(i, 0)], inputs), [normal((9, 150), "f64"), ids])


def test_integers_and_booleans():
    a, b, mask = placeholder("a", "i64[N,C]"), placeholder("b", "i64[C]"), placeholder("m", "bool[N,1]")
    rng = np.random.default_rng(1)
    outputs = [ir.where(mask, ir.mod(a, b), ir.floordiv(a, b)), ir.logical_and(ir.less(a, b), ir.logical_not(mask))]
    outputs.append(ir.cast(mask, "i64") * a)
    check(fused(outputs, [a, b, mask]), [rng.integers(-50, 50, (5, 70)), rng.integers(-3, 4, 70), rng.random((5, 1)) < 0.5])


def test_a_size_as_a_number_and_an_index_as_a_value():
    x = placeholder("x", "f32[N,C]")
    index = ir.iota(("N", "C"), 0, "f32") / ir.size_of(x.shape[0], "f32")
    check(fused([x + index], [x]), [normal((6, 33))])


def test_nan_and_infinity_propagate():
    x = placeholder("x", "f32[N,C]")
    values = normal((4, 100))
    values[0, 3], values[1, 99], values[2, 0] = np.nan, np.inf, -np.inf
    check(fused([r.max(x, 1), r.min(x, 1), r.sum(x, 1)], [x]), [values])
    check(fused([r.max(x, 0), r.min(x, 0), r.sum(x, 0)], [x]), [values])
    check(fused([ir.relu(x), ir.maximum(x, 0.5), ir.sign(x), ir.is_finite(x)], [x]), [values])


@pytest.mark.parametrize("axis", [0, 1, None])
def test_any_number_of_threads_gives_the_same_bits(axis):
    x = placeholder("x", "f32[N,C]")
    for output in (r.sum(x, axis), softmax(x, axis), ir.tanh(x) * x):
        bench = Bench(fused([output], [x]), [normal((700, 311))])
        first = bench.run_threads(1)[0]
        for count in (2, 3, 4):
            np.testing.assert_array_equal(bench.run_threads(count)[0], first)


def test_an_output_takes_the_memory_of_an_input():
    x, y = placeholder("x", "f32[N,C]"), placeholder("y", "f32[N,C]")
    node = fused([ir.tanh(x) + y, x * y], [x, y])
    arrays = [normal((33, 130)), normal((33, 130)) + 1]
    check(node, arrays, in_place=((0, 0), (1, 1)))


def test_an_output_takes_the_memory_of_an_input_that_only_later_outputs_read():
    x, y, z = (placeholder(name, "f32[N,C]") for name in "xyz")
    arrays = [normal((33, 130)), normal((33, 130)) + 1, normal((33, 130)) - 1]
    check(fused([x * x, x + y, ir.tanh(z) * x], [x, y, z]), arrays, in_place=((0, 1), (1, 2)))
    check(fused([y - x, x + y], [x, y]), arrays[:2], in_place=((0, 0), (1, 1)))
    scalar = [placeholder(name, "f32[]") for name in "xy"]
    check(fused([scalar[0] * 2.0, scalar[1] + scalar[0]], scalar), [np.array(3.0, "f4"), np.array(5.0, "f4")],
          in_place=((0, 1),))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_reduced_output_takes_the_memory_of_an_input_that_only_later_outputs_read(axis):
    x, row = placeholder("x", "f32[N,C]"), placeholder("row", "f32[C]" if axis == 0 else "f32[N]")
    values = normal((33, 130))
    check(fused([r.sum(x, axis), r.max(x, axis) * row], [x, row]), [values, normal(130 if axis == 0 else 33)], in_place=((0, 1),))


@pytest.mark.parametrize("shape", [(1, 1), (5, 64), (130, 129), (300, 700)])
@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
def test_outputs_after_a_reduction_take_the_memory_of_inputs(axis, shape):
    """An optimiser's slots and parameter, when the gradient is clipped by its norm."""
    g, p, v = (placeholder(name, "f32[N,C]") for name in "gpv")
    scale = 1.0 / (1.0 + r.sum(g * g, axis, True))
    new_v = v * 0.5 + g * scale
    node = fused([new_v, p - new_v * scale + v], [g, p, v])
    assert {(0, 2), (1, 1)} <= set(node.op.in_place(*(value.type for value in node.inputs)))
    arrays = [normal(shape), normal(shape) + 1, normal(shape) - 1]
    check(node, arrays, in_place=((0, 2), (1, 1)))
    check(node, arrays, in_place=((0, 0), (1, 2)))


def test_outputs_that_may_be_written_in_sweeps_of_their_own_take_no_memory():
    x, y, z = (placeholder(name, "f32[N,C]") for name in "xyz")
    total = r.sum(z * x)
    cases = ([x * 2.0, x - r.sum(x)], [y * total, x * total, (x + y) * total], [x - r.sum(r.sum(x, 1, True) * x, 1, True)])
    for outputs, inputs in zip(cases, ([x], [x, y, z], [x]), strict=True):
        node = fused(outputs, inputs)
        assert node.op.in_place(*(value.type for value in node.inputs)) == ()


@pytest.mark.parametrize("seed", range(24))
def test_random_bodies_in_place(seed):
    rng = np.random.default_rng(seed)
    shape = [(3, 5, 17), (40, 30, 70)][seed % 2]
    inputs = [placeholder(f"x{i}", "f64[N,T,C]") for i in range(4)]
    axes = tuple(sorted(rng.choice(3, rng.integers(1, 4), replace=False).tolist()))
    outputs = []
    while not outputs or iteration_space(Graph.of("body", inputs, outputs)) is None:
        pair = [inputs[i] for i in rng.integers(0, 4, 2)]
        fold = (r.mean, r.max, r.min)[rng.integers(3)](BINARY[rng.integers(5)](*pair), axes, True)
        pool = list(inputs)
        for _ in range(8):
            a, b = (pool[i] for i in rng.integers(0, len(pool), 2))
            pool.append(BINARY[rng.integers(5)](a, b if rng.random() < 0.5 else fold))
        outputs = [v for v in pool[-4:] if rng.random() < 0.7]
    node = fused(outputs, inputs)
    taken: dict[int, int] = {}
    for i, j in node.op.in_place(*(value.type for value in node.inputs)):
        if i not in taken and j not in taken.values():
            taken[i] = j
    check(node, [rng.standard_normal(shape) for _ in inputs], in_place=tuple(taken.items()))


def test_results_too_large_for_the_cache_are_streamed():
    x, row = placeholder("x", "f32[N,C]"), placeholder("r", "f32[C]")
    for outputs in ([x * 2.0 + 1.0], [x + row, x - row]):
        node = fused(outputs, [x, row])
        bench = check(node, [normal((1100, 2003)), normal(2003)])
        assert "nontemporal_store" in dict(bench.rows[0].kernel.params)["source"]


def test_new_sizes_and_numbers_need_no_new_kernel():
    x = placeholder("x", "f32[N,C]")
    kernels = set()
    for shape, factor in (((3, 5), 2.0), ((200, 7), 2.0), ((1, 1), 3.0)):
        kernels |= {row.kernel for row in check(fused([ir.tanh(x) * factor], [x]), [normal(shape)]).rows}
    assert len(kernels) == 1


UNARY = (ir.tanh, ir.sigmoid, ir.relu, lambda x: ir.exp(x * 0.1), ir.sin, lambda x: ir.sqrt(ir.abs(x)), lambda x: x * 0.5 - 1.0)
BINARY = (ir.add, ir.sub, ir.mul, ir.maximum, ir.minimum, lambda a, b: a / (ir.abs(b) + 1.0),
          lambda a, b: ir.where(ir.less(a, b), a, b))


def random_body(rng, levels):
    """Elementwise work with folds over one set of axes in between, on operands of several shapes."""
    shapes = [("N,T,C", (3, 5, 17)), ("T,C", (5, 17)), ("N,1,C", (3, 1, 17)), ("N,1,1", (3, 1, 1)), ("C", (17,)), ("", ())]
    inputs, arrays = [], []
    for i in range(4):
        text, shape = shapes[0 if i == 0 else rng.integers(len(shapes))]
        inputs.append(placeholder(f"x{i}", f"f64[{text}]"))
        arrays.append(rng.standard_normal(shape))
    axes = tuple(sorted(rng.choice(3, rng.integers(1, 4), replace=False).tolist()))
    pool = list(inputs)
    full = inputs[0]
    for level in range(levels + 1):
        for _ in range(rng.integers(1, 5)):
            if rng.random() < 0.5:
                pool.append(UNARY[rng.integers(len(UNARY))](pool[rng.integers(len(pool))]))
            else:
                pool.append(BINARY[rng.integers(len(BINARY))](pool[rng.integers(len(pool))], pool[rng.integers(len(pool))]))
        full = BINARY[rng.integers(3)](full, pool[-1])
        pool.append(full)
        if level < levels:
            pool.append((r.mean, r.max, r.min, r.logsumexp)[rng.integers(4)](full, axes, True))
    outputs = [full] + ([pool[-2 if levels else -1]] if rng.random() < 0.3 else [])
    outputs = [v for v in dict.fromkeys(outputs) if v.rank == 3 and v.shape == inputs[0].shape]
    if levels:
        outputs.append(r.sum(full * full, axes))
    return outputs, inputs, arrays


@pytest.mark.parametrize("seed", range(24))
def test_random_bodies(seed):
    rng = np.random.default_rng(seed)
    outputs, inputs, arrays = random_body(rng, seed % 3)
    check(fused(outputs, inputs), arrays)
