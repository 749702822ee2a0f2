"""Attention against its formula in NumPy float64: masks, causality, heads; gradients, training, files, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.ops.inputs import placeholder
from tests.nn.networks import notes

FORMS = [("numpy", "f64"), ("numba", "f32")]
NAMES = ("query", "key", "value", "output")


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, *, scale: float | None = None, mask: np.ndarray | None = None,
              causal: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(Y, weights), where a query that may see nothing has weights 0."""
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    most = scores.max(-1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(most), most, 0))
    total = e.sum(-1, keepdims=True)
    weights = e / np.where(total == 0, 1, total)
    return weights @ v, weights


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 1e-5 if actual.dtype == np.float32 else 1e-12
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def arrays(dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.normal(size=shape).astype("float32" if dtype == "f32" else "float64") for shape in shapes]


def some_mask(kind: str, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
    """Bools, of which one query's are all False, or numbers, or numbers and -inf, one query's all; or none."""
    if kind == "none":
        return None
    rng = np.random.default_rng(4)
    if kind == "bool":
        mask = rng.random(shape) < 0.6
        mask[..., 0, :] = False
        return mask
    mask = rng.normal(size=shape).astype("float32" if dtype == "f32" else "float64")
    if kind == "hiding":
        mask[rng.random(shape) < 0.4] = -np.inf
        mask[..., 0, :] = -np.inf
    return mask


def types(*given: np.ndarray) -> list[gnn.Value]:
    return [placeholder(f"x{i}", gnn.TensorType.of(a)) for i, a in enumerate(given)]


SHAPES = [((3, 4), (5, 4), (5, 2), (3, 5)), ((2, 3, 4), (2, 5, 4), (2, 5, 3), (2, 3, 5)),       # q, k, v, mask
          ((2, 3, 1, 4), (2, 3, 7, 4), (2, 3, 7, 1), (1, 7)),
          ((2, 3, 5, 1), (2, 3, 5, 1), (2, 3, 5, 6), (2, 1, 1, 5)), ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1))]


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "bool", "added", "hiding"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_attention_is_its_formula(shapes: Any, kind: str, causal: bool, backend: str, dtype: str) -> None:
    given = arrays(dtype, *shapes[:3])
    mask = some_mask(kind, shapes[3], dtype)
    fed = given if mask is None else [*given, mask]
    values = types(*fed)
    layer = nn.DotProductAttention(causal=causal, return_weights=True)
    y, weights = layer(*values)
    grads = gnn.gradients(gnn.sum(y * y), values[:3])
    exe = gnn.compile(gnn.Graph.of("attention", values, [y, weights, *grads]), backend=backend)
    wide = [a.astype(np.float64) for a in given]
    y_now, weights_now, *slopes = exe(*fed)
    for actual, expected in zip((y_now, weights_now), attention(*wide, mask=mask, causal=causal), strict=True):
        close(actual, expected)
    assert all(np.isfinite(a).all() for a in slopes)     # of a query that may see nothing too


@pytest.mark.parametrize(("scale", "factor"), [(True, 0.5), (False, 1.0), (0.25, 0.25), (2, 2.0)])
def test_scale(scale: Any, factor: float) -> None:
    given = arrays("f64", (2, 3, 4), (2, 3, 4), (2, 3, 4))
    values = types(*given)
    exe = gnn.compile(gnn.Graph.of("attention", values, [nn.DotProductAttention(scale)(*values)]), backend="numpy")
    close(exe(*given), attention(*given, scale=factor)[0])


@pytest.mark.parametrize(("kind", "causal"), [("none", False), ("none", True), ("bool", False), ("added", True)])
def test_gradients_of_attention(kind: str, causal: bool) -> None:
    given = arrays("f64", (2, 2, 3, 2), (2, 2, 4, 2), (2, 2, 4, 3))
    mask = some_mask(kind, (3, 4), "f64")
    layer = nn.DotProductAttention(causal=causal)
    gnn.check_gradients(lambda *x: layer.call(*x), given if mask is None else [*given, mask], order=2)


def test_scores_of_any_size_do_not_overflow() -> None:
    given = [1e3 * a for a in arrays("f32", (2, 3, 4), (2, 5, 4), (2, 5, 4))]
    values = types(*given)
    y = nn.DotProductAttention(causal=True)(*values)
    exe = gnn.compile(gnn.Graph.of("attention", values, [y, *gnn.gradients(gnn.sum(y), values)]))
    assert all(np.isfinite(a).all() for a in exe(*given))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_mask_of_minus_infinity_hides_and_empty_batches_are_fine(backend: str) -> None:
    x, mask = gnn.Input(("T", 4), name="x"), placeholder("mask", "f32[T,T]")
    y = nn.MultiHeadedAttentionModule(2, name="added")(x, mask=mask)
    causal = nn.MultiHeadedAttentionModule(2, causal=True, name="causal")(x)
    exe = gnn.compile(gnn.Graph.of("attend", [x, mask], [y, causal, *gnn.gradients(gnn.sum(y * y), [x])]), backend=backend)
    for name in NAMES:
        exe.state[f"added/{name}/weight"] = exe.state[f"causal/{name}/weight"]
    data, = arrays("f32", (2, 3, 4))
    added, wanted, grad = exe(data, np.where(np.tril(np.ones((3, 3))), 0, -np.inf).astype(np.float32))
    close(added, wanted.astype(np.float64))
    assert np.isfinite(grad).all()
    for n, steps in ((0, 3), (2, 0)):
        found = exe(np.ones((n, steps, 4), np.float32), np.zeros((steps, steps), np.float32))
        assert [a.shape for a in found] == [(n, steps, 4)] * 3


def heads_apart(q: np.ndarray, k: np.ndarray, v: np.ndarray, p: dict[str, np.ndarray], heads: int, **options: Any) -> np.ndarray:
    """Multi-head attention, a head after the other; a mask has no axis of heads here."""
    found = []
    size = q.shape[-1] // heads
    for i in range(heads):
        part = slice(i * size, (i + 1) * size)
        sliced = (x @ p[f"{name}/weight"][:, part] + p[f"{name}/bias"][part]
                  for x, name in ((q, "query"), (k, "key"), (v, "value")))
        found.append(attention(*sliced, **options)[0])
    return np.concatenate(found, -1) @ p["output/weight"] + p["output/bias"]


def filled(exe: gnn.Executable) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    for name in exe.state.names:
        exe.state[name] = rng.normal(size=exe.state[name].shape) * 0.5
    return {name.partition("/")[2]: exe.state[name].astype(np.float64) for name in exe.state.names}


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
@pytest.mark.parametrize(("heads", "causal", "kind"), [(1, False, "none"), (2, True, "none"), (3, False, "bool"),
                                                       (6, False, "added")])
def test_self_attention_at_any_n_and_t(heads: int, causal: bool, kind: str, backend: str, dtype: str) -> None:
    x = gnn.Input(("T", 6), name="x", dtype=dtype)
    mask = None if kind == "none" else placeholder("mask", f"{'bool' if kind == 'bool' else dtype}[N,T,T]")
    y = nn.MultiHeadedAttentionModule(heads, causal=causal)(x, mask=mask)
    assert y.type == x.type
    exe = gnn.compile(gnn.Graph.of("attend", [x] if mask is None else [x, mask], [y]), backend=backend)
    p = filled(exe)
    assert sorted(p) == sorted(f"{name}/{part}" for name in NAMES for part in ("weight", "bias"))
    for n, steps in ((2, 5), (3, 1), (1, 4)):
        data, = arrays(dtype, (n, steps, 6))
        m = some_mask(kind, (n, steps, steps), dtype)
        wide = data.astype(np.float64)
        close(exe(data) if m is None else exe(data, m), heads_apart(wide, wide, wide, p, heads, mask=m, causal=causal))


@pytest.mark.parametrize(("backend", "dtype"), FORMS)
def test_cross_attention_of_other_lengths_and_sizes(backend: str, dtype: str) -> None:
    q, k, v = (placeholder(name, f"{dtype}[N,{shape}]") for name, shape in (("q", "T,4"), ("k", "S,3"), ("v", "S,5")))
    padding, each = placeholder("padding", "bool[N,1,S]"), placeholder("each", "bool[N,2,T,S]")
    layer, two = nn.MultiHeadedAttentionModule(2, name="one"), nn.MultiHeadedAttentionModule(2, name="two")
    outputs = [layer(q, k, v), layer(q, k, v, mask=padding), layer(q, k, v, mask=each), two(q, k)]
    exe = gnn.compile(gnn.Graph.of("attend", [q, k, v, padding, each], outputs), backend=backend)
    filled(exe)
    one, other = ({name.removeprefix(start): exe.state[name].astype(np.float64)
                   for name in exe.state.names if name.startswith(start)} for start in ("one/", "two/"))
    data = arrays(dtype, (2, 3, 4), (2, 7, 3), (2, 7, 5))
    open_to = np.arange(7) < np.array([7, 2])[:, None, None]
    by_head = np.broadcast_to(open_to[:, None], (2, 2, 3, 7)).copy()
    a, b, c = (x.astype(np.float64) for x in data)
    masked = heads_apart(a, b, c, one, 2, mask=open_to)
    expected = [heads_apart(a, b, c, one, 2), masked, masked, heads_apart(a, b, b, other, 2)]
    for actual, wanted in zip(exe(*data, open_to, by_head), expected, strict=True):
        close(actual, wanted)


def test_heads_of_other_sizes_for_keys_and_values() -> None:
    q, kv = placeholder("q", "f64[N,T,5]"), placeholder("kv", "f64[N,S,3]")
    y = nn.MultiHeadedAttentionModule(2, head_size=3, value_size=4)(q, kv)
    assert y.type == q.type
    exe = gnn.compile(gnn.Graph.of("attend", [q, kv], [y]), backend="numpy")
    p = filled(exe)
    assert [p[f"{name}/weight"].shape for name in NAMES] == [(5, 6), (3, 6), (3, 8), (8, 5)]
    a, b = arrays("f64", (2, 3, 5), (2, 4, 3))
    found: list[np.ndarray] = []
    for i in range(2):
        at, of = slice(3 * i, 3 * i + 3), slice(4 * i, 4 * i + 4)
        found.append(attention(*(x @ p[f"{name}/weight"][:, part] + p[f"{name}/bias"][part]
                                 for x, name, part in ((a, "query", at), (b, "key", at), (b, "value", of))))[0])
    close(exe(a, b), np.concatenate(found, -1) @ p["output/weight"] + p["output/bias"])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_dropout_is_on_the_weights_and_in_training_alone(backend: str) -> None:
    """With values that tell the keys apart, the weights can be read off the result: each is 0 or 1 / (1 - p) of itself."""
    q, k, v = (placeholder(name, f"f32[N,{shape}]") for name, shape in (("q", "T,4"), ("k", "S,4"), ("v", "S,S2")))
    y, weights = nn.DotProductAttention(dropout_p=0.25, return_weights=True)(q, k, v)
    graph = gnn.Graph.of("attend", [q, k, v], [y, weights])
    a, b = arrays("f32", (50, 6, 4), (50, 8, 4))
    each = np.broadcast_to(np.eye(8, dtype=np.float32), (50, 8, 8)).copy()
    plain, noisy = (gnn.compile(graph, backend=backend, training=training) for training in (False, True))
    expected = attention(a.astype("f8"), b.astype("f8"), each)[1]
    for _ in range(2):
        close(plain(a, b, each)[0], expected)
    first, second = noisy(a, b, each), noisy(a, b, each)
    close(first[1], expected)                            # the weights themselves, before dropout
    assert 0.2 < (first[0] == 0).mean() < 0.3
    kept = first[0] != 0
    np.testing.assert_allclose(first[0][kept], expected[kept] / 0.75, rtol=1e-5)
    assert ((first[0] == 0) != (second[0] == 0)).any()


def test_gradients_pass_the_mask_of_dropout() -> None:
    """In training d(sum y)/dv is the column sums of the dropped weights, which values of one-hot rows show."""
    q, v = placeholder("q", "f64[N,3,2]"), placeholder("v", "f64[N,3,3]")
    y = nn.MultiHeadedAttentionModule(1, dropout_p=0.5)(q)
    assert str(gnn.gradients(gnn.sum(y), [q])[0].type) == "f64[N,3,2]"
    y = nn.DotProductAttention(dropout_p=0.5)(q, q, v)
    exe = gnn.compile(gnn.Graph.of("g", [q, v], [y, *gnn.gradients(gnn.sum(y), [v])]), backend="numpy", training=True)
    x, = arrays("f64", (4, 3, 2))
    weights, dv = exe(x, np.broadcast_to(np.eye(3), (4, 3, 3)).copy())
    assert (weights == 0).any()
    close(dv, np.repeat(weights.sum(1)[:, :, None], 3, axis=2))


def test_sequences_without_a_batch() -> None:
    x = placeholder("x", "f64[T,4]")
    exe = gnn.compile(gnn.Graph.of("attend", [x], [nn.MultiHeadedAttentionModule(2, causal=True)(x)]), backend="numpy")
    p = filled(exe)
    data, = arrays("f64", (5, 4))
    close(exe(data), heads_apart(data, data, data, p, 2, causal=True))


def test_gradients_of_multi_head_attention() -> None:
    weights = arrays("f64", *[(2, 2)] * 4, *[(2,)] * 4)

    def f(q: gnn.Value, kv: gnn.Value, *rest: gnn.Value) -> gnn.Value:
        layer = nn.MultiHeadedAttentionModule(2, causal=True)
        layer(q, kv)
        inside = (layer._query, layer._key, layer._value, layer._output)
        for dense, weight, offset in zip(inside, rest[:4], rest[4:], strict=True):
            dense.weight, dense.offset = weight, offset
        return layer(q, kv)

    gnn.check_gradients(f, [*arrays("f64", (2, 3, 2), (2, 4, 2)), *weights], order=1)
    gnn.check_gradients(lambda q, kv: f(q, kv, *map(gnn.constant, weights)), arrays("f64", (1, 3, 2), (1, 2, 2)), order=2)


def test_attention_trains_is_saved_and_loaded(tmp_path: Path) -> None:
    x = gnn.Input(("T", 4), name="x")
    model = gnn.Model(x, nn.MultiHeadedAttentionModule(2, causal=True)(x), name="attend", seed=1)
    data, = arrays("f32", (10, 6, 4))
    target = np.cumsum(data, axis=1) / np.arange(1, 7)[:, None]
    model.compile(nn.Adam(0.01), "squared_error")
    losses = [model.fit(part, goal, batch_size=10, verbose=False)["loss"][-1]
              for part, goal in ((data, target), (data, target), (data[:7, :3], target[:7, :3]), (data, target), (data, target))]
    assert losses[-1] < losses[1] < losses[0]
    model.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn")
    for steps in (6, 1):
        assert loaded.predict(data[:3, :steps]).tobytes() == model.predict(data[:3, :steps]).tobytes()


def test_a_later_position_does_not_reach_an_earlier_one() -> None:
    x = gnn.Input(("T", 4), name="x")
    model = gnn.Model(x, nn.MultiHeadedAttentionModule(4, causal=True)(x), seed=3)
    data, = arrays("f32", (2, 5, 4))
    before = model.predict(data)
    data[:, 3:] += 1
    after = model.predict(data)
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).any()


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: nn.DotProductAttention(scale="big"), ShapeError, ["scale is 'big'"]),  # type: ignore
    (lambda: nn.DotProductAttention(scale=float("inf")), ShapeError, ["scale is inf"]),
    (lambda: nn.DotProductAttention(causal=1), ShapeError, ["causal is 1"]),  # type: ignore
    (lambda: nn.DotProductAttention(dropout_p=1.0), ShapeError, ["dropout_p is 1.0"]),
    (lambda: nn.MultiHeadedAttentionModule(2, head_size=0), ShapeError, ["head_size is 0"]),
    (lambda: nn.MultiHeadedAttentionModule(0), ShapeError, ["heads is 0"]),
    (lambda: nn.MultiHeadedAttentionModule(2, bias=None), ShapeError, ["bias is None"]),  # type: ignore
    (lambda: nn.MultiHeadedAttentionModule(2, causal="no"), ShapeError, ["causal is 'no'"]),  # type: ignore
    (lambda: nn.MultiHeadedAttentionModule(2, init="nothing"), gnn.GraphnnError, ["nothing"]),
    (lambda: nn.MultiHeadedAttentionModule(2, dropout_p=-0.1), ShapeError, ["dropout_p is -0.1"]),
    (lambda: nn.MultiHeadedAttentionModule(2, value_size=-1), ShapeError, ["value_size is -1"]),
], ids=range(11))
def test_errors_when_built(make: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in notes(caught.value)


Q, K = placeholder("q", "f32[N,T,4]"), placeholder("k", "f32[N,S,4]")


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: nn.DotProductAttention()(Q, placeholder("k", "f32[N,S,3]"), K), ShapeError, ["differ in size: 4 and 3"]),
    (lambda: nn.DotProductAttention()(Q, K, Q), ShapeError, ["differ in number: S and T"]),
    (lambda: nn.DotProductAttention()(placeholder("q", "f32[N]"), K, K), ShapeError, ["queries", "f32[N]"]),
    (lambda: nn.DotProductAttention()(placeholder("q", "i64[N,T,4]"), K, K), DTypeError, ["i64[N,T,4]"]),
    (lambda: nn.DotProductAttention()(Q, K, K, mask=placeholder("m", "bool[S,T]")), ShapeError, ["bool[S,T]", "f32[N,T,S]"]),
    (lambda: nn.DotProductAttention()(Q, K, K, mask=placeholder("m", "i64[T,S]")), DTypeError, ["mask is i64[T,S]"]),
    (lambda: nn.DotProductAttention()(placeholder("q", "f32[N,T,C]"), placeholder("k", "f32[N,T,C]"), K), ShapeError, ["differ"]),
    (lambda: nn.MultiHeadedAttentionModule(3)(Q), ShapeError, ["heads is 3", "f32[N,T,4]"]),
    (lambda: nn.MultiHeadedAttentionModule(2)(Q, v=K), ShapeError, ["values without keys"]),
    (lambda: nn.MultiHeadedAttentionModule(2)(Q, K, Q), ShapeError, ["differ in number"]),
], ids=range(10))
def test_errors_when_called(call: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in notes(caught.value)
