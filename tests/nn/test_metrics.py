"""Metrics against NumPy written out, and against scikit-learn: over batches of unequal size, weighted and not."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.nn.described import DescriptionError, describe, to_dict
from graphnn.nn.metrics import BY_NAME, FunctionMetric, LossMetric, Metric, as_metric, as_metrics
from tests.nn.networks import BACKENDS

PARTS = (slice(0, 7), slice(7, 8), slice(8, 23))                    # 7, 1 and 15 examples
rng = np.random.default_rng(4)
IDS = rng.integers(0, 4, 23)
LOGITS = rng.normal(size=(23, 4)) + 1.5 * np.eye(4)[IDS]
SCORES = rng.normal(size=(23, 1))
YES = (SCORES + rng.normal(size=(23, 1)) > 0).astype(float)
WEIGHTS = rng.uniform(0.1, 3, 23)
WEIGHTS[[2, 7]] = 0


def measure(metric: Any, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, *,
            backend: str = "numpy", parts: Sequence[slice] = PARTS) -> float:
    """The metric over batches, as fit and evaluate compute it."""
    metric = as_metric(metric)
    p, y = (gnn.Input(a.shape[1:], name=n, dtype=str(gnn.TensorType.of(a).dtype))
            for n, a in (("p", prediction), ("y", target)))
    arrays, inputs = [prediction, target], [p, y]
    w = None
    if weight is not None:
        w = gnn.Input(weight.shape[1:], name="w", dtype=p.dtype)
        arrays, inputs = [*arrays, weight.astype(prediction.dtype)], [*inputs, w]
    values = (metric.collected if metric.collects else metric.sums)(p, y, w)
    exe = gnn.compile(gnn.Graph.of("metric", inputs, values), backend=backend)
    batches = [exe(*(a[part] for a in arrays)) for part in parts]
    batches = [b if isinstance(b, tuple) else (b,) for b in batches]
    join = np.concatenate if metric.collects else lambda arrays: sum(np.asarray(a, np.float64) for a in arrays)
    return metric.value(*(join(columns) for columns in zip(*batches, strict=True)))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    each = np.ones(23) if weight is None else weight
    return float(np.average(values, weights=np.broadcast_to(each.reshape(-1, *[1] * (values.ndim - 1)), values.shape)))


def pairs(scores: np.ndarray, yes: np.ndarray, weight: np.ndarray) -> float:
    """The area under the ROC curve by its meaning: over all pairs of a yes and a no."""
    good, bad = np.flatnonzero(yes), np.flatnonzero(~yes)
    wins = (scores[good][:, None] > scores[bad]) + 0.5 * (scores[good][:, None] == scores[bad])
    both = weight[good][:, None] * weight[bad]
    return float((wins * both).sum() / both.sum())


def counted(kind: str, average: str, guess: np.ndarray, true: np.ndarray, weight: np.ndarray, classes: int) -> float:
    def of(right: float, guessed: float, real: float) -> float:
        top, bottom = {"precision": (right, guessed), "recall": (right, real), "f1": (2 * right, guessed + real)}[kind]
        return top / bottom if bottom else 0.0

    sums = [(weight[(guess == c) & (true == c)].sum(), weight[guess == c].sum(), weight[true == c].sum()) for c in range(classes)]
    if average == "binary":
        return of(*sums[1])
    if average == "micro":
        return of(*np.sum(sums, 0))
    each = np.array([of(*s) for s in sums])
    real = np.array([s[2] for s in sums])
    seen = np.array([s[1] + s[2] > 0 for s in sums])
    return float((each * real).sum() / real.sum() if average == "weighted" else each[seen].mean())


def ones(weight: np.ndarray | None) -> np.ndarray:
    return np.ones(23) if weight is None else weight


# (the metric, prediction, target, NumPy written out for weights, the function of scikit-learn)
def sk(name: str, *before: Any, **more: Any) -> Any:
    def call(weight: np.ndarray | None) -> float:
        return getattr(pytest.importorskip("sklearn.metrics"), name)(*before, sample_weight=weight, **more)

    return call


RANKS = (LOGITS[np.arange(23), IDS][:, None] < LOGITS).sum(1)
GUESS = LOGITS.argmax(1)
Y2 = rng.normal(size=(23, 2)) + 3
P2 = Y2 + 0.5 * rng.normal(size=(23, 2))
YES1, TIED = YES[:, 0] > 0, np.round(SCORES, 0)

CASES: list[tuple[Any, np.ndarray, np.ndarray, Any, Any]] = [
    ("accuracy", LOGITS, IDS, lambda w: mean(GUESS == IDS, w), sk("accuracy_score", IDS, GUESS)),
    ("accuracy", LOGITS, np.eye(4)[IDS], lambda w: mean(GUESS == IDS, w), sk("accuracy_score", IDS, GUESS)),
    ("accuracy", softmax(LOGITS), np.eye(4, dtype=bool)[IDS], lambda w: mean(GUESS == IDS, w), sk("accuracy_score", IDS, GUESS)),
    ("top_k_accuracy(k=2)", LOGITS, IDS, lambda w: mean(RANKS < 2, w), sk("top_k_accuracy_score", IDS, LOGITS, k=2)),
    ("top_k_accuracy(k=3)", LOGITS, np.eye(4, dtype=np.int32)[IDS], lambda w: mean(RANKS < 3, w),
     sk("top_k_accuracy_score", IDS, LOGITS, k=3)),
    ("binary_accuracy", SCORES, YES, lambda w: mean((SCORES > 0)[:, 0] == YES1, w), sk("accuracy_score", YES1, SCORES[:, 0] > 0)),
    ("binary_accuracy(from_logits=False)", 1 / (1 + np.exp(-SCORES[:, 0])), YES1.astype(np.int64),
     lambda w: mean((SCORES > 0)[:, 0] == YES1, w), sk("accuracy_score", YES1, SCORES[:, 0] > 0)),
    (nn.BinaryAccuracy(threshold=0.3), SCORES, YES[:, 0], lambda w: mean((SCORES > 0.3)[:, 0] == YES1, w),
     sk("accuracy_score", YES1, SCORES[:, 0] > 0.3)),
    ("mean_squared_error", P2, Y2, lambda w: mean((P2 - Y2) ** 2, w), sk("mean_squared_error", Y2, P2)),
    ("mean_absolute_error", P2, Y2, lambda w: mean(abs(P2 - Y2), w), sk("mean_absolute_error", Y2, P2)),
    ("mean_squared_error", P2[:, :1], Y2[:, 0], lambda w: mean((P2 - Y2)[:, 0] ** 2, w),
     sk("mean_squared_error", Y2[:, 0], P2[:, 0])),
    ("r2", P2, Y2, lambda w: float(np.mean([1 - mean((P2 - Y2)[:, i] ** 2, w) / mean((Y2[:, i] - mean(Y2[:, i], w)) ** 2, w)
                                            for i in (0, 1)])), sk("r2_score", Y2, P2)),
    ("r2", P2[:, 0], Y2[:, 0], lambda w: 1 - mean((P2 - Y2)[:, 0] ** 2, w) / mean((Y2[:, 0] - mean(Y2[:, 0], w)) ** 2, w),
     sk("r2_score", Y2[:, 0], P2[:, 0])),
    ("perplexity", LOGITS, IDS, lambda w: math.exp(mean(-np.log(softmax(LOGITS)[np.arange(23), IDS]), w)),
     lambda w: math.exp(sk("log_loss", IDS, softmax(LOGITS))(w))),
    ("perplexity(from_logits=False)", softmax(LOGITS), np.eye(4)[IDS],
     lambda w: math.exp(mean(-np.log(softmax(LOGITS)[np.arange(23), IDS]), w)),
     lambda w: math.exp(sk("log_loss", IDS, softmax(LOGITS))(w))),
    ("auc", SCORES, YES, lambda w: pairs(SCORES[:, 0], YES1, ones(w)), sk("roc_auc_score", YES1, SCORES)),
    ("auc", TIED[:, 0], YES1.astype(np.int64), lambda w: pairs(TIED[:, 0], YES1, ones(w)), sk("roc_auc_score", YES1, TIED)),
    ("auc", np.concatenate([-SCORES, SCORES], 1), YES1.astype(np.int64), lambda w: pairs(SCORES[:, 0], YES1, ones(w)),
     sk("roc_auc_score", YES1, SCORES)),
    ("auc", LOGITS, IDS, lambda w: float(np.mean([pairs(softmax(LOGITS)[:, c], c == IDS, ones(w)) for c in range(4)])),
     lambda w: sk("roc_auc_score", IDS, softmax(LOGITS), multi_class="ovr")(w)),
    ("auc(average='weighted', from_logits=False)", softmax(LOGITS), np.eye(4)[IDS],
     lambda w: float(np.average([pairs(softmax(LOGITS)[:, c], c == IDS, ones(w)) for c in range(4)],
                                weights=[ones(w)[c == IDS].sum() for c in range(4)])),
     lambda w: sk("roc_auc_score", IDS, softmax(LOGITS), multi_class="ovr", average="weighted")(w)),
]
for _kind in ("precision", "recall", "f1"):
    for _average in ("macro", "micro", "weighted"):
        CASES.append((f"{_kind}(average={_average!r})", LOGITS, IDS,
                      lambda w, k=_kind, a=_average: counted(k, a, GUESS, IDS, ones(w), 4),
                      sk(f"{_kind}_score", IDS, GUESS, average=_average)))
    CASES += [
        (_kind, SCORES, YES, lambda w, k=_kind: counted(k, "binary", SCORES[:, 0] > 0, YES1, ones(w), 2),
         sk(f"{_kind}_score", YES1, SCORES[:, 0] > 0)),
        (f"{_kind}(average='macro', threshold=0.2)", SCORES[:, 0], YES1.astype(np.int32),
         lambda w, k=_kind: counted(k, "macro", SCORES[:, 0] > 0.2, YES1, ones(w), 2),
         sk(f"{_kind}_score", YES1, SCORES[:, 0] > 0.2, average="macro")),
        (_kind, np.concatenate([0 * SCORES, SCORES], 1), YES1.astype(np.int64),
         lambda w, k=_kind: counted(k, "binary", SCORES[:, 0] > 0, YES1, ones(w), 2),
         sk(f"{_kind}_score", YES1, SCORES[:, 0] > 0)),
    ]


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["all_alike", "weighted"])
@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_against_numpy_and_scikit_learn(case: Any, weight: np.ndarray | None) -> None:
    metric, prediction, target, written_out, sklearn = case
    actual = measure(metric, prediction, target, weight)
    assert isinstance(actual, float)
    assert actual == pytest.approx(written_out(weight), rel=1e-12)
    assert actual == pytest.approx(sklearn(weight), rel=1e-9)


@pytest.mark.parametrize("spec", ["accuracy", "top_k_accuracy(k=2)", "f1(average='macro')", "auc", "perplexity", "r2"])
def test_compiled_in_float32(spec: str) -> None:
    prediction, target = (P2, Y2) if spec == "r2" else (LOGITS, IDS)
    data = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in (prediction, target)]
    for weight in (None, WEIGHTS):
        expected = measure(spec, prediction, target, weight)
        assert measure(spec, *data, weight, backend="numba") == pytest.approx(expected, rel=1e-5)


def test_equal_scores_count_for_the_first_class() -> None:
    flat, ids = np.zeros((23, 4)), IDS
    for k in (1, 2, 3, 4, 9):
        assert measure(nn.TopKAccuracy(k), flat, ids) == pytest.approx((ids < k).mean())
    assert measure("accuracy", flat, ids) == pytest.approx((ids == 0).mean())


def test_ignored_ids_count_for_nothing() -> None:
    ids = IDS.copy()
    ids[[0, 9, 10]] = -100
    kept = ids >= 0
    for spec in ("accuracy", "top_k_accuracy(k=2)", "precision(average='macro')", "perplexity", "auc"):
        expected = measure(spec, LOGITS[kept], ids[kept], WEIGHTS[kept], parts=[slice(0, 20)])
        assert measure(spec, LOGITS, ids, WEIGHTS) == pytest.approx(expected, rel=1e-12), spec
    other = np.where(kept, ids, 7)
    assert measure("accuracy(ignore_index=7)", LOGITS, other) == pytest.approx((LOGITS.argmax(1) == ids)[kept].mean())
    assert measure("accuracy(ignore_index=None)", LOGITS, ids) == pytest.approx((LOGITS.argmax(1) == ids).mean())


def test_sequences_have_weights_of_sequences_or_of_steps() -> None:
    logits, ids = LOGITS[:20].reshape(5, 4, 4), IDS[:20].reshape(5, 4)
    w = WEIGHTS[:5]
    parts = [slice(0, 2), slice(2, 5)]
    for spec in ("accuracy", "f1(average='micro')", "perplexity", "auc"):
        expected = measure(spec, LOGITS[:20], IDS[:20], np.repeat(w, 4), parts=[slice(0, 20)])
        assert measure(spec, logits, ids, w, parts=parts) == pytest.approx(expected, rel=1e-12)
        assert measure(spec, logits, ids, np.repeat(w, 4).reshape(5, 4), parts=parts) == pytest.approx(expected, rel=1e-12)


def test_one_example_and_nothing() -> None:
    one = [slice(0, 1)]
    assert measure("accuracy", LOGITS[:1], IDS[:1], parts=one) in (0.0, 1.0)
    assert measure("r2", P2[:1], P2[:1], parts=one) == 1.0
    assert measure("r2", P2[:1], Y2[:1], parts=one) == 0.0
    assert math.isnan(measure("auc", SCORES[:1], YES[:1], parts=one))
    for metric in BY_NAME:
        if metric == "loss_metric":
            continue
        spec = f"{metric}(average='macro')" if metric in ("precision", "recall", "f1") else metric
        single = metric == "binary_accuracy"
        real = metric in ("r2", "mean_squared_error", "mean_absolute_error")
        data = (P2, Y2) if real else (SCORES, YES) if single else (LOGITS, IDS)
        assert math.isnan(measure(spec, *data, np.zeros(23))), metric


def test_r2_of_constant_and_of_far_targets() -> None:
    flat = np.full((23, 1), 0.1)
    assert measure("r2", flat, flat) == 1.0
    assert measure("r2", flat + 0.5, flat) == 0.0
    far, guess = 1e4 + P2, 1e4 + Y2
    assert measure("r2", guess, far) == pytest.approx(measure("r2", guess - 1e4, far - 1e4), rel=1e-6)


def test_perplexity_without_bounds() -> None:
    assert measure("perplexity", np.array([[-3000.0, 3000.0]] * 23), np.zeros(23, np.int64)) == math.inf
    assert measure("perplexity", np.zeros((23, 4)), IDS) == pytest.approx(4)


def test_never_guessed_classes_are_0() -> None:
    target = np.ones(23)
    assert measure("precision", np.full(23, -1.0), target) == 0.0
    assert measure("recall", np.full(23, 1.0), 0 * target) == 0.0
    assert measure("f1", np.full(23, -1.0), 0 * target) == 0.0


def test_a_function_of_ones_own() -> None:
    def bias(prediction: gnn.Value, target: gnn.Value) -> gnn.Value:
        return gnn.mean(prediction - target)

    metric = as_metric(bias)
    assert (type(metric), metric.label) == (FunctionMetric, "bias")
    assert measure(bias, P2, Y2) == pytest.approx((P2 - Y2).mean())
    with pytest.raises(gnn.errors.ShapeError, match=r"metric <lambda> gives f64\[N,2\]"):
        measure(lambda p, y: p - y, P2, Y2)
    with pytest.raises(gnn.errors.ShapeError, match="gives int"):
        measure(lambda p, y: 3, P2, Y2)


def test_a_loss_is_a_metric() -> None:
    loss = nn.CrossEntropy(weight=(1, 2, 3, 4))
    metric = as_metric(loss)
    assert (type(metric), metric.label) == (LossMetric, "cross_entropy")
    logs = -np.log(softmax(LOGITS)[np.arange(23), IDS])
    assert measure(loss, LOGITS, IDS) == pytest.approx(np.average(logs, weights=IDS + 1))
    assert measure(loss, LOGITS, IDS, WEIGHTS) == pytest.approx(np.average(logs, weights=(IDS + 1) * WEIGHTS))
    assert as_metric(describe(metric)) == metric
    assert as_metric(to_dict(metric)) == metric


def test_a_mean_metric_is_a_value_of_the_graph() -> None:
    p, y = gnn.Input((2,), name="p", dtype="f64"), gnn.Input((2,), name="y", dtype="f64")
    exe = gnn.compile(gnn.Graph.of("error", [p, y], [nn.metrics.MeanAbsoluteError()(p, y)]), backend="numpy")
    assert float(exe(P2, Y2)) == pytest.approx(abs(P2 - Y2).mean())


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_a_model(backend: str) -> None:
    x = gnn.Input((4,), name="x", dtype="f64")
    model = gnn.Model(x, nn.FullyConnected(3)(x), backend=backend, seed=2)
    features, ids = rng.normal(size=(31, 4)), rng.integers(0, 3, 31)
    model.compile("sgd(lr=0.0)", "cross_entropy", ["accuracy", "f1(average='macro')", "auc", "perplexity", "top_k_accuracy(k=2)"])
    history = model.fit(features, ids, epochs=1, batch_size=7, validation_data=(features, ids), verbose=False)
    logits = model.predict(features)
    whole = [slice(0, 31)]
    for spec in ("accuracy", "f1(average='macro')", "auc", "perplexity", "top_k_accuracy(k=2)"):
        name = spec.split("(")[0]
        expected = measure(spec, logits, ids, parts=whole)
        assert history[name][0] == pytest.approx(expected, rel=1e-6)
        assert history[f"val_{name}"][0] == pytest.approx(expected, rel=1e-6)
        assert model.evaluate(features, ids, batch_size=10)[name] == pytest.approx(expected, rel=1e-6)


def test_weights_of_examples_reach_the_metrics_of_a_model() -> None:
    x = gnn.Input((4,), name="x", dtype="f64")
    model = gnn.Model(x, nn.FullyConnected(4)(x), backend="numpy").compile("sgd(lr=0.0)", "cross_entropy", ["accuracy", "auc"])
    measured = model.evaluate(LOGITS, IDS, sample_weight=WEIGHTS, batch_size=9)
    history = model.fit(LOGITS, IDS, sample_weight=WEIGHTS, batch_size=9, verbose=False)
    for name in ("accuracy", "auc"):
        expected = measure(name, model.predict(LOGITS), IDS, WEIGHTS)
        assert measured[name] == pytest.approx(expected)
        assert history[name][0] == pytest.approx(expected)


def test_metrics_of_a_file(tmp_path: Path) -> None:
    x = gnn.Input((4,), name="x")
    model = gnn.Model(x, nn.FullyConnected(4)(x), backend="numpy")
    model.compile("sgd", "cross_entropy", ["f1(average='macro', name='all')", nn.TopKAccuracy(2), {"name": "auc"},
                                           nn.CrossEntropy(label_smoothing=0.1), nn.Precision("micro", ignore_index=3)])
    model.save(tmp_path / "m.gnn")
    again = gnn.load(tmp_path / "m.gnn", backend="numpy")
    measured = model.evaluate(LOGITS, IDS)
    assert list(measured) == ["loss", "all", "top_k_accuracy", "auc", "cross_entropy", "precision"]
    assert again.evaluate(LOGITS, IDS) == measured
    model.compile("sgd", "cross_entropy", [lambda p, y: gnn.mean(p)])
    with pytest.raises(gnn.errors.UnsupportedError, match="holds no code"):
        model.save(tmp_path / "m.gnn")


def test_descriptions() -> None:
    for name, kind in BY_NAME.items():
        spec = f"{name}(loss=cross_entropy)" if kind is LossMetric else name
        metric = as_metric(spec)
        assert type(metric) is kind
        assert as_metric(describe(metric)) == metric
        assert as_metric(to_dict(metric)) == metric
        if kind is not LossMetric:
            assert metric.label == name
    named = nn.F1("macro", name="all")
    assert (named.label, as_metric(describe(named)), as_metric(to_dict(named))) == ("all", named, named)
    assert as_metrics("accuracy") == as_metrics(["accuracy"]) == (nn.Accuracy(),)
    assert as_metrics({"name": "auc"}) == as_metrics([nn.AUC()])
    assert as_metrics(()) == ()


@pytest.mark.parametrize(("spec", "words"), [
    ("speed", "no metric 'speed'.*accuracy"), (None, "no metric None"), (3, "int 3 is no metric"),
    ("accuracy(k=3)", "accuracy has no argument 'k'"), ("top_k_accuracy(k=0)", "k is 0"), ("top_k_accuracy(k=True)", "k is True"),
    ("f1(average='all')", "average is 'all'.*macro"), ("auc(average='binary')", "average is 'binary'"),
    ("precision(threshold='x')", "threshold is 'x'"), ("accuracy(ignore_index=0.5)", "ignore_index is 0.5"),
    ("binary_accuracy(from_logits=3)", "from_logits is 3"), ("auc(name=3)", "name is 3"), (nn.Accuracy, "class Accuracy"),
])
def test_bad_arguments(spec: Any, words: str) -> None:
    with pytest.raises(DescriptionError, match=words):
        as_metric(spec)


@pytest.mark.parametrize(("spec", "prediction", "target", "words"), [
    ("accuracy", SCORES, YES, "score of one class.*binary_accuracy"),
    ("accuracy", LOGITS, IDS[:, None, None], "do not go together"),
    ("accuracy", LOGITS, np.eye(3)[IDS % 3], "differ"), ("accuracy", LOGITS, IDS.astype(float), "must be integers"),
    ("f1", LOGITS, IDS, "average='binary' takes one score or two classes.*macro"),
    ("f1(average='macro', threshold=0.5)", LOGITS, IDS, "threshold=0.5 is for one score"),
    ("binary_accuracy", SCORES, np.concatenate([YES, YES], 1), "differ"), ("r2", P2, Y2[:, :1], "differ"),
    ("mean_squared_error", LOGITS, IDS, "of one dtype"),
])
def test_predictions_and_targets_that_do_not_fit(spec: str, prediction: np.ndarray, target: np.ndarray, words: str) -> None:
    with pytest.raises((gnn.errors.ShapeError, gnn.errors.DTypeError)) as caught:
        measure(spec, prediction, target)
    assert re.search(words, str(caught.value) + "".join(getattr(caught.value, "__notes__", [])), re.DOTALL), caught.value


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(gnn.errors.ShapeError, match="sample weights are f64"):
        measure("accuracy", LOGITS, IDS, LOGITS)


def test_names_are_needed_once_each() -> None:
    with pytest.raises(gnn.errors.VerifyError, match=r"two columns.*'f1'"):
        as_metrics(["f1", "f1(average='macro')"])
    assert [m.label for m in as_metrics(["f1", "f1(average='macro', name='macro_f1')"])] == ["f1", "macro_f1"]
    with pytest.raises(gnn.errors.VerifyError, match="'loss'"):
        as_metrics("accuracy(name='loss')")


def test_the_base_says_what_is_missing() -> None:
    p = gnn.Input((2,), name="p")
    for call in (lambda: Metric().sums(p, p), lambda: Metric().collected(p, p), lambda: Metric().value(1)):
        with pytest.raises(NotImplementedError, match="Metric"):
            call()


@pytest.mark.parametrize("bad", [None, 3, [None], ["accuracy", 3]])
def test_what_is_no_metric_is_an_error(bad: Any) -> None:
    with pytest.raises(DescriptionError, match="no metric"):
        as_metrics(bad)
