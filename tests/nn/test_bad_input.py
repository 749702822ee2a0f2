"""What users get wrong: each a clear error that says what, where and what to do, and nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, GraphnnError, NumericsError, ShapeError, VerifyError
from tests.nn.networks import BACKENDS, bits, dense, examples, images, notes

X, Y = examples()


def compiled(backend: str = "numpy") -> gnn.Model:
    return dense(backend).compile("adam", "cross_entropy", ["accuracy"])


def says(caught: Any, *words: str) -> None:
    text = notes(caught.value)
    for word in words:
        assert word in text, text


def replaced(array: np.ndarray, at: Any, value: float) -> np.ndarray:
    copy = array.astype(np.float64)
    copy[at] = value
    return copy


BAD_EXAMPLES: dict[str, tuple[Any, Any, type[GraphnnError], tuple[str, ...]]] = {
    "rank": (X[0], Y, ShapeError, ("input 'x'", "1 axes", "f32[N,4]", "x[None]")),
    "rank-too-high": (X[None], Y, ShapeError, ("input 'x'", "3 axes", "f32[N,4]")),
    "size": (X[:, :3], Y, ShapeError, ("input 'x'", "(23, 3)", "axis 1 is 3", "f32[N,4]")),
    "strings": (X.astype(str), Y, DTypeError, ("input 'x'", "<U", "real or integer numbers")),
    "objects": (np.array([[None] * 4] * 23), Y, DTypeError, ("input 'x'", "object")),
    "complex": (X + 1j, Y, DTypeError, ("input 'x'", "complex128")),
    "dates": (np.zeros((23, 4), "datetime64[s]"), Y, DTypeError, ("input 'x'", "datetime64")),
    "ragged": ([[1, 2, 3, 4], [1, 2]], Y[:2], ShapeError, ("input 'x'", "different lengths")),
    "too-large": (replaced(X, (3, 1), 1e300), Y, NumericsError, ("input 'x'", "f32", "cannot hold")),
    "empty": (X[:0], Y[:0], ShapeError, ("empty",)),
    "none": (None, Y, DTypeError, ("input 'x'", "object")),
    "lengths": (X, Y[:22], ShapeError, ("different numbers of examples", "x 23", "targets 22")),
    "extra-input": ({"x": X, "z": X}, Y, VerifyError, ("the inputs are x", "'z' is none of them")),
    "missing-input": ({"z": X}, Y, VerifyError, ("'x' is missing",)),
    "nan-label": (X, replaced(Y, 7, np.nan), NumericsError, ("targets", "nan", "[7]", "remove or replace")),
    "infinite-label": (X, replaced(Y, 0, np.inf), NumericsError, ("targets", "inf", "[0]")),
    "class-too-high": (X, replaced(Y, 22, 3), NumericsError, ("class 3", "[22]", "f32[N,3]", "0 to 2")),
    "class-negative": (X, np.where(np.arange(23) == 21, -1, Y), NumericsError, ("class -1", "[21]", "0 to 2")),
    "class-huge": (X, replaced(Y, 2, 1e30), NumericsError, ("targets", "i64 cannot hold")),
    "class-fraction": (X, replaced(Y, 2, 0.5), NumericsError, ("targets", "no whole numbers", "i64[N]")),
    "label-strings": (X, Y.astype(str), DTypeError, ("targets", "<U", "class ids or real numbers")),
    "label-objects": (X, [None] * 23, DTypeError, ("targets", "object")),
    "label-complex": (X, Y + 1j, DTypeError, ("targets", "complex")),
    "label-ragged": (X, [[1, 2], [3]], ShapeError, ("targets", "different lengths")),
    "label-columns": (X, np.zeros((23, 2)), ShapeError, ("targets", "(23, 2)", "axis 1 is 2", "f32[N,3]")),
    "label-rank": (X, np.zeros((23, 3, 2)), ShapeError, ("targets", "3 axes", "f32[N,3]")),
    "masked": (np.ma.array(X, mask=X > 0), Y, DTypeError, ("input 'x'", "masked array", "filled")),
    "label-masked": (X, np.ma.array(Y, mask=Y == 1), DTypeError, ("targets", "masked array", "filled")),
    "label-number": (X, 3, ShapeError, ("targets", "0 axes")),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", BAD_EXAMPLES)
def test_fit_and_evaluate_refuse_it_and_train_nothing(case: str, backend: str) -> None:
    x, y, kind, words = BAD_EXAMPLES[case]
    model = compiled(backend)
    before = bits(model)
    for call in (lambda: model.fit(x, y, batch_size=5, verbose=False), lambda: model.evaluate(x, y),
                 lambda: model.fit(X, Y, validation_data=(x, y), verbose=False)):
        with pytest.raises(kind) as caught:
            call()
        says(caught, *words)
    assert bits(model) == before
    assert (model.epoch, len(model.history)) == (0, 0)


OF_TARGETS = ("class", "label", "nan", "inf", "lengths")


@pytest.mark.parametrize("case", [name for name in BAD_EXAMPLES if not name.startswith(OF_TARGETS)])
def test_predict_refuses_it(case: str) -> None:
    x, _, kind, words = BAD_EXAMPLES[case]
    with pytest.raises(kind) as caught:
        dense().predict(x)
    says(caught, *words)


@pytest.mark.parametrize("backend", BACKENDS)
def test_predict_refuses_wrong_sizes_of_the_right_dtype(backend: str) -> None:
    for x in (np.zeros((2, 5), np.float32), np.zeros((2, 3), np.float32)):
        with pytest.raises(ShapeError) as caught:
            dense(backend).predict(x)
        says(caught, "input 'x'", str(x.shape), "f32[N,4]")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_with_a_bad_class_leaves_every_state_as_it_was(backend: str) -> None:
    """Below fit, where nothing looks at the targets beforehand."""
    model = compiled(backend)
    model.fit(X, Y, verbose=False)
    step = model.training_step(X, Y)
    before = bits(model)
    wrong = Y.copy()
    wrong[-1] = 3
    with pytest.raises(NumericsError) as caught:
        step(X.astype(np.float32), wrong)
    says(caught, "class", "3")
    assert bits(model) == before
    step(X.astype(np.float32), Y)


@pytest.mark.parametrize("backend", BACKENDS)
def test_real_numbers_are_converted(backend: str) -> None:
    model = dense(backend)
    x = np.arange(8).reshape(2, 4)
    expected = model.predict(x.astype(np.float32))
    for given in (x, x.tolist(), x.astype(np.float64), x.astype(np.int8), x.astype(np.uint64), x.astype(np.float16),
                  x.astype(">f4"), x.astype(">i2"), [tuple(row) for row in x.tolist()], np.ma.array(x)):
        np.testing.assert_array_equal(model.predict(given), expected)
    assert model.predict(np.ones((1, 4), bool)).shape == (1, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts_of_memory_do_not_matter(backend: str) -> None:
    model = dense(backend)
    x = X.astype(np.float32)
    expected = model.predict(x)
    wide = np.zeros((46, 8), np.float32)
    wide[::2, ::2] = x
    odd = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    odd[...] = x
    fixed = x.copy()
    fixed.flags.writeable = False
    for given in (np.asfortranarray(x), wide[::2, ::2], x[::-1][::-1], odd, fixed, np.broadcast_to(x, x.shape)):
        np.testing.assert_array_equal(model.predict(given), expected)
    one, other = compiled(backend), compiled(backend)
    one.fit(x, Y, batch_size=5, verbose=False)
    labels = np.repeat(Y, 2)[::2]
    labels.flags.writeable = False
    other.fit(wide[::2, ::2], labels, batch_size=5, verbose=False)
    assert bits(one) == bits(other)
    assert (wide[::2, ::2] == x).all()


def test_several_inputs() -> None:
    a, b = gnn.Input((3,), name="a"), gnn.Input((3,), name="b")
    model = gnn.Model([a, b], a + b, backend="numpy")
    x = np.ones((2, 3))
    for given, words in ((x, "2 inputs (a, b)"), ((x,), "2 inputs (a, b)"), ((x, x, x), "2 inputs (a, b)"),
                         ({"a": x}, "'b' is missing"), ({"a": x, "b": x, "c": x}, "'c' is none of them")):
        with pytest.raises(VerifyError) as caught:
            model.predict(given)
        says(caught, words)
    with pytest.raises(ShapeError, match="a 2, b 1"):
        model.predict((x, x[:1]))


def test_calls_before_compile() -> None:
    model = dense()
    for call in (lambda: model.fit(X, Y), lambda: model.evaluate(X, Y), lambda: model.training_step(X, Y)):
        with pytest.raises(VerifyError, match="before compile") as caught:
            call()
        says(caught, "'dense'", "model.compile(")
    assert model.predict(X).shape == (23, 3)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"loss": None}, ["needs a loss", "CrossEntropy"]), ({"loss": "hinge"}, ["loss 'hinge'", "cross_entropy"]),
    ({"loss": 3}, ["int 3 is no loss"]), ({"loss": nn.CrossEntropy("none")}, ["CrossEntropy", "reduction='none'"]),
    ({"optimizer": "lion"}, ["optimizer 'lion'", "adam"]), ({"optimizer": nn.Adam}, ["class Adam is no optimizer", "adam"]),
    ({"metrics": ["speed"]}, ["metric 'speed'", "accuracy"]), ({"metrics": [None]}, ["metric None"]),
], ids=str)
def test_compile(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        dense().compile(**({"optimizer": "adam", "loss": "cross_entropy"} | arguments))
    says(caught, *words)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"batch_size": 0}, ["batch_size is 0"]), ({"batch_size": "all"}, ["batch_size is 'all'"]),
    ({"batch_size": 2.5}, ["batch_size is 2.5"]),
    ({"shuffle": "no"}, ["fit: shuffle is 'no'"]), ({"drop_last": 1}, ["fit: drop_last is 1"]),
    ({"epochs": -1}, ["epochs is -1"]), ({"epochs": 1.5}, ["epochs is 1.5"]),
    ({"validation_data": X}, ["validation_data", "pair (x, y)"]),
], ids=str)
def test_arguments_of_fit(arguments: dict[str, Any], words: list[str]) -> None:
    model = compiled()
    before = bits(model)
    with pytest.raises(GraphnnError) as caught:
        model.fit(X, Y, verbose=False, **arguments)
    says(caught, *words)
    assert bits(model) == before


def test_batch_size_of_predict_and_evaluate() -> None:
    model = compiled()
    for size in (0, -3, "all", 1.5, True):
        for call in (lambda size=size: model.predict(X, batch_size=size), lambda size=size: model.evaluate(X, Y, batch_size=size),
                     lambda size=size: model.predict(X.astype(np.float32), batch_size=size)):
            with pytest.raises(ShapeError, match="batch_size is"):
                call()


BAD_LAYERS: list[tuple[Any, list[str]]] = [
    *((lambda n=n: nn.FullyConnected(n), ["FullyConnected: out_features", repr(n)]) for n in (0, -1, 2.5, "3", None, True)),
    *((lambda n=n: nn.Conv2D(n, 3), ["Conv2D: out_channels", repr(n)]) for n in (0, 1.0, "3")),
    *((lambda k=k: nn.Conv2D(4, k), ["Conv2D: kernel_size", repr(k)])
      for k in (0, 2.5, (3,), (3, 3, 3), (3, "3"), None, (3, 0))),
    *((lambda s=s: nn.Conv2D(4, 3, stride=s), ["Conv2D: stride", repr(s)]) for s in (0, -1, 1.5, (1, 0))),
    *((lambda d=d: nn.Conv2D(4, 3, dilation=d), ["Conv2D: dilation", repr(d)]) for d in (0, "2")),
    *((lambda p=p: nn.Conv2D(4, 3, padding=p), ["Conv2D: padding", repr(p)])
      for p in (-1, "full", (1, 2, 3), 1.5, (1, -1), None)),
    *((lambda g=g: nn.Conv2D(4, 3, groups=g), ["Conv2D: groups", repr(g)]) for g in (0, 3, 2.0)),
    *((lambda k=k: nn.Pool2D(k), ["Pool2D: kernel_size", repr(k)]) for k in (0, "2", (2,))),
    (lambda: nn.Pool2D(2, stride=0), ["Pool2D: stride", "0"]),
    (lambda: nn.Pool2D(2, padding="full"), ["Pool2D: padding", "'full'"]),
    (lambda: nn.Pool2D(2, mode="median"), ["Pool2D: mode", "'median'", "'max' or 'average'"]),
    (lambda: nn.Softmax(1.5), ["Softmax: axis", "1.5"]),
    (lambda: nn.FullyConnected(3, activation="gelo"), ["activation 'gelo'", "relu", "tanh"]),
    (lambda: nn.Conv2D(3, 3, activation=3), ["3 is no activation"]),
    (lambda: nn.FullyConnected(3, init="xavier"), ["initialiser 'xavier'", "glorot_uniform"]),
    (lambda: nn.Conv2D(3, 3, init=0.5), ["0.5 is no initialiser"]),
    (lambda: nn.CrossEntropy("median"), ["CrossEntropy: reduction", "'median'", "mean, sum, none"]),
    (lambda: nn.SquaredError(None), ["SquaredError: reduction", "None"]),
]


@pytest.mark.parametrize(("make", "words"), BAD_LAYERS, ids=[" ".join(words[:2]) for _, words in BAD_LAYERS])
def test_arguments_of_layers_are_checked_when_given(make: Any, words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    says(caught, *words)


@pytest.mark.parametrize(("layer", "shape", "kind", "words"), [
    (nn.FullyConnected(3), ("T",), ShapeError, ["size T", "axis 0", "weight", "fully_connected (FullyConnected)"]),
    (nn.Conv2D(4, 3), (8, 8), ShapeError, ["images (N, H, W, C)", "f32[N,8,8]", "conv2d (Conv2D)"]),
    (nn.Conv2D(4, 3, groups=2), (8, 8, 3), ShapeError, ["groups is 2", "3 channels", "conv2d (Conv2D)"]),
    (nn.Conv2D(4, 9), (8, 8, 3), ShapeError, ["spans 9", "does not fit in 8", "conv2d (Conv2D)"]),
    (nn.Pool2D(2), (8, 8), ShapeError, ["images (N, H, W, C)", "f32[N,8,8]", "pool2d (Pool2D)"]),
    (nn.Pool2D(9, name="stem/pool"), (8, 8, 1), ShapeError, ["does not fit", "stem/pool (Pool2D)"]),
    (nn.Softmax(2), (3,), ShapeError, ["axis 2", "softmax (Softmax)"]),
], ids=str)
def test_types_that_do_not_fit_a_layer(layer: nn.Layer, shape: Any, kind: type[GraphnnError], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        layer(gnn.Input(shape, name="x"))
    says(caught, *words, "operands  f32[N", "called at ", "test_bad_input.py:")


@pytest.mark.parametrize("layer", [nn.FullyConnected(3), nn.Conv2D(3, 3)], ids=["dense", "conv"])
def test_layers_with_parameters_take_real_numbers(layer: nn.Layer) -> None:
    with pytest.raises(DTypeError, match=r"takes real numbers, not i64\[N,8,8,3\]") as caught:
        layer(gnn.Input((8, 8, 3), name="x", dtype="i64"))
    says(caught, 'gnn.cast(x, "f32")')


def test_a_layer_called_on_an_array() -> None:
    with pytest.raises(VerifyError, match="FullyConnected is called on a ndarray") as caught:
        nn.FullyConnected(3)(X)  # type: ignore[arg-type]
    says(caught, "gnn.Input")


@pytest.mark.parametrize(("make", "words"), [
    (lambda: gnn.Input(784), ["shape is 784", "(784,)"]),
    (lambda: gnn.Input((-1,)), ["-1"]), (lambda: gnn.Input((2.5,)), ["2.5"]),
    (lambda: gnn.Input((3,), name="a b"), ["'a b'"]), (lambda: gnn.Input((3,), dtype="f16"), ["f16"]),
    (lambda: gnn.Model(gnn.Input((3,)), gnn.Input((3,), name="y")), ["'y'", "not among its inputs"]),
    (lambda: dense("tpu"), ["backend 'tpu'", "numba, numpy"]), (lambda: dense(seed=-1), ["-1 is no seed"]),
    (lambda: dense().state["x"], ["no 'x'", "fully_connected/weight"])], ids=range(9))
def test_inputs_and_models(make: Any, words: list[str]) -> None:
    with pytest.raises(GraphnnError) as caught:
        make()
    says(caught, *words)


def test_profile_needs_compiled_kernels() -> None:
    with pytest.raises(GraphnnError, match='backend="numpy"'):
        dense().profile(X)


def test_models_that_take_images_say_how_to_add_channels() -> None:
    from tests.nn.networks import convolutional

    x, _ = images(3)
    with pytest.raises(ShapeError) as caught:
        convolutional("numpy").predict(x[..., 0])
    says(caught, "3 axes", "f32[N,9,9,1]", "x[..., None]")


@pytest.mark.parametrize(("layer", "first", "second", "words"), [
    (nn.LayerNorm1D(), (3,), (1,), ["last axes of 3, not for f32[N,1]", "layer_norm1d (LayerNorm1D)"]),
    (nn.LayerNorm2D(), (5, 4, 3), (1, 1, 3), ["last axes of 5, 4, 3"]), (nn.GroupNorm(1), (3,), (1,), ["last axes of 3"]),
    (nn.BatchNorm1D(), (3,), (1,), ["last axes of 3"]), (nn.BatchNorm1D(affine=False), (1,), (3,), ["last axes of 1"]),
    (nn.BatchNorm1D(), (3,), (4, 4, 3), ["(N, C) or (N, T, C)"]), (nn.SparseEvolution(2), (3,), (5,), ["last axes of 3"]),
    (nn.Conv1D(2, 3), (5, 4), (6, 5, 4), ["sequences (N, T, C), not f32[N,6,5,4]"]),
    (nn.GRU(2), (5, 4), (4,), ["GRU takes x as (N, T, C)"]), (nn.TransformerEncoderBlock(2, 4), (5, 4), (4,), ["(N, T, C)"]),
], ids=str)
def test_a_second_call_on_what_the_parameters_are_not_for(layer: nn.Layer, first: Any, second: Any, words: list[str]) -> None:
    """Sizes of 1 would broadcast, and the pattern of a sparse layer fits a wider x: without a word, the wrong result."""
    layer(gnn.Input(first, name="x"))
    with pytest.raises(ShapeError) as caught:
        layer(gnn.Input(second, name="y"))
    says(caught, *words, "called at ", "test_bad_input.py:")


@pytest.mark.parametrize("layer", [nn.LayerNorm1D(affine=False), nn.GroupNorm(1, affine=False)], ids=str)
def test_without_parameters_a_second_call_may_be_on_other_sizes(layer: nn.Layer) -> None:
    layer(gnn.Input((3,), name="x"))
    assert str(layer(gnn.Input((1,), name="y")).type) == "f32[N,1]"


@pytest.mark.parametrize(("call", "words"), [
    (lambda x: nn.FullyConnected(3)(x, x), ["FullyConnected is called on f32[N,4], f32[N,4]", "too many"]),
    (lambda x: nn.FullyConnected(3)(), ["FullyConnected is called on nothing", "'x'"]),
    (lambda x: nn.Softmax()(x, mask=x), ["Softmax is called on", "'mask'"]),
    (lambda x: nn.FullyConnected(3)([x, x]), ["called on a list", "one by one"]),
    (lambda x: nn.LSTMCell(3)(x, (x, x)), ["called on a tuple", "one by one"]),
])
def test_a_layer_called_on_too_few_or_too_many(call: Any, words: list[str]) -> None:
    with pytest.raises(VerifyError) as caught:
        call(gnn.Input((4,), name="x"))
    says(caught, *words)


class Init(nn.Layer):
    def __init__(self, size: int) -> None:
        self.size = size


class Post(nn.Layer):
    def __post_init__(self) -> None:
        self.size = 3


@pytest.mark.parametrize("layer", [Init(3), Post()], ids=["init", "post-init"])
def test_a_layer_of_ones_own_that_leaves_out_what_layers_begin_with(layer: nn.Layer) -> None:
    with pytest.raises(VerifyError, match="was not made as a layer is") as caught:
        layer(gnn.Input((4,), name="x"))
    says(caught, "super().__init__()", "super().__post_init__()")
