"""Estimators: what scikit-learn checks of every estimator, and what it cannot know of these."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from graphnn.sklearn import GraphnnClassifier, GraphnnRegressor


@parametrize_with_checks([GraphnnClassifier(epochs=60), GraphnnRegressor(epochs=60)])
def test_what_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
NAMES = np.array(["setosa", "versicolor", "virginica"])
rng = np.random.default_rng(0)
REAL = X @ rng.normal(size=(4, 2)) + 0.1 * rng.normal(size=(150, 2))


def classifier(**more: Any) -> GraphnnClassifier:
    return GraphnnClassifier(**{"hidden_layers": (8,), "optimizer": "adam(lr=0.02)", "epochs": 20, "batch_size": 32,
                                "random_state": 3, "backend": "numpy", **more})


def regressor(**more: Any) -> GraphnnRegressor:
    return GraphnnRegressor(**{"hidden_layers": (8,), "optimizer": "adam(lr=0.02)", "epochs": 20, "batch_size": 32,
                               "random_state": 3, "backend": "numpy", **more})


def same(a: Any, b: Any) -> bool:
    """Whether two fitted estimators have the same bits."""
    first, second = a.model_.state.arrays(), b.model_.state.arrays()
    return first.keys() == second.keys() and all(first[n].tobytes() == second[n].tobytes() for n in first)


def test_it_is_the_model_written_by_hand() -> None:
    fitted = classifier(epochs=5).fit(X, NAMES[Y])
    x = gnn.Input((4,), name="x", dtype="f64")
    h = nn.FullyConnected(8, activation="relu")(x)
    model = gnn.Model(x, nn.FullyConnected(3)(h), seed=fitted.model_.state.seed, backend="numpy")
    model.compile("adam(lr=0.02)", "cross_entropy").fit(X, Y, epochs=5, batch_size=32, verbose=False)
    assert model.history.columns == fitted.history_.columns
    logits = model.predict(X)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(X), shares, rtol=1e-12)
    np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(shares), rtol=1e-10)
    np.testing.assert_array_equal(fitted.predict(X), NAMES[logits.argmax(1)])
    assert fitted.score(X, NAMES[Y]) == (logits.argmax(1) == Y).mean()
    assert (list(fitted.classes_), fitted.n_iter_, fitted.n_features_in_) == (list(NAMES), 5, 4)


def test_in_pipelines_searches_and_cross_validation() -> None:
    pipe = make_pipeline(StandardScaler(), classifier(epochs=30))
    assert cross_val_score(pipe, X, Y, cv=3).mean() > 0.9
    search = GridSearchCV(classifier(epochs=3), {"hidden_layers": [(4,), (8, 4), ()], "activation": ["tanh", "elu(alpha=0.5)"]},
                          cv=2).fit(X, Y)
    assert search.best_estimator_.model_.parameters
    assert len(search.cv_results_["params"]) == 6


@pytest.mark.parametrize("make", [classifier, regressor])
def test_seeds(make: Any) -> None:
    target = Y if make is classifier else REAL
    assert same(make().fit(X, target), make().fit(X, target))
    assert same(make(dropout=0.2, epochs=2).fit(X, target), make(dropout=0.2, epochs=2).fit(X, target))
    assert not same(make().fit(X, target), make(random_state=4).fit(X, target))
    generator = np.random.RandomState(0)
    assert not same(make(random_state=generator, epochs=1).fit(X, target), make(random_state=generator, epochs=1).fit(X, target))


@pytest.mark.parametrize("make", [classifier, regressor])
def test_pickles_go_on_as_if_uninterrupted(make: Any) -> None:
    target = Y if make is classifier else REAL
    fitted = make(epochs=3, warm_start=True).fit(X, target)
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert same(fitted, other)
        assert other.history_.columns == fitted.history_.columns
        np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
        going_on = pickle.loads(pickle.dumps(fitted)).fit(X, target)
        assert same(going_on, other.fit(X, target))
        assert going_on.n_iter_ == 6


def test_pickles_are_read_in_another_process(tmp_path: Path) -> None:
    fitted = regressor(epochs=1).fit(X, REAL)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(fitted))
    np.save(tmp_path / "x.npy", X)
    code = ("import pickle, sys, numpy as np; m = pickle.load(open(sys.argv[1] + '/model.pickle', 'rb')); "
            "np.save(sys.argv[1] + '/y.npy', m.predict(np.load(sys.argv[1] + '/x.npy')))")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(gnn.__file__).parent.parent)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), fitted.predict(X))


def test_clones_are_not_fitted() -> None:
    fitted = classifier(optimizer=nn.SGD(0.1, momentum=0.9), epochs=1).fit(X, Y)
    again = clone(fitted)
    with pytest.raises(NotFittedError):
        again.predict(X)
    assert again.get_params()["optimizer"] == fitted.optimizer
    assert same(again.fit(X, Y), fitted)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_partial_fit_and_warm_start_are_fit_in_parts(make: Any) -> None:
    target = Y if make is classifier else REAL
    whole = make(epochs=4).fit(X, target)
    parts = make()
    for _ in range(4):
        parts.partial_fit(X, target)
    assert same(whole, parts)
    assert (parts.n_iter_, len(parts.history_)) == (4, 4)
    warm = make(epochs=2, warm_start=True).fit(X, target)
    assert same(warm.fit(X, target), whole)
    assert same(make(epochs=2).fit(X, target).fit(X, target), make(epochs=2).fit(X, target))        # without it, anew


def test_partial_fit_of_classes_that_come_later() -> None:
    model = classifier(warm_start=True).partial_fit(X[:50], Y[:50], classes=[0, 1, 2])
    model.partial_fit(X[50:], Y[50:])
    assert model.predict_proba(X).shape == (150, 3)
    for call, words in ((lambda: model.partial_fit(X, Y + 1), "y has the class 3"),
                        (lambda: model.partial_fit(X, Y, classes=[0, 1]), r"first call of partial_fit said \[0 1 2\]"),
                        (lambda: model.fit(X[:, :2], Y), "2 features"),
                        (lambda: classifier(class_weight="balanced").partial_fit(X, Y), "class_weight='balanced'"),
                        (lambda: regressor(warm_start=True).fit(X, REAL).fit(X, REAL[:, 0]), "had 2 outputs, 2 axes")):
        with pytest.raises(ValueError, match=words):
            call()


def test_weights_of_examples_are_repetitions() -> None:
    """A whole batch a step: each example w times, or once with the weight w."""
    weight = rng.integers(0, 4, 150)
    for make, target in ((classifier, Y), (regressor, REAL[:, 0])):
        weighted = make(batch_size=1000).fit(X, target, sample_weight=weight)
        repeated = make(batch_size=1000).fit(np.repeat(X, weight, 0), np.repeat(target, weight, 0))
        for name, array in weighted.model_.get_weights().items():
            np.testing.assert_allclose(array, repeated.model_.get_weights()[name], rtol=1e-7, atol=1e-9)


def test_class_weights_multiply_sample_weights() -> None:
    x, y = make_classification(300, weights=[0.9], class_sep=0.3, random_state=1)
    sample = rng.uniform(0.5, 2, 300)
    both = classifier(class_weight={0: 1, 1: 5}, epochs=3).fit(x, y, sample)
    assert same(both, classifier(epochs=3).fit(x, y, sample * np.where(y == 1, 5, 1)))
    shares = np.bincount(y) / 300
    assert same(classifier(class_weight="balanced", epochs=3).fit(x, y), classifier(epochs=3).fit(x, y, 0.5 / shares[y]))
    plain, balanced = classifier(epochs=10).fit(x, y), classifier(epochs=10, class_weight="balanced").fit(x, y)
    assert balanced.predict(x).mean() > plain.predict(x).mean()


@pytest.mark.parametrize("weight", [None, np.linspace(0.5, 2, 150)])
def test_early_stopping_brings_back_the_best(weight: Any) -> None:
    for make, target in ((classifier, Y), (regressor, REAL)):
        model = make(early_stopping=True, patience=2, epochs=200, optimizer="adam(lr=0.1)", validation_fraction=0.3)
        model.fit(X, target, sample_weight=weight)
        epoch, _ = model.history_.best("val_loss")
        assert model.n_iter_ == epoch + 2 < 200
    assert "val_loss" not in classifier(epochs=1).fit(X, Y).history_


def test_one_number_or_several() -> None:
    assert regressor().fit(X, REAL[:, 0]).predict(X).shape == (150,)
    assert regressor().fit(X, REAL[:, :1]).predict(X).shape == (150, 1)
    several = regressor(epochs=60).fit(X, REAL)
    assert several.predict(X).shape == (150, 2)
    assert several.score(X, REAL) > 0.9
    assert regressor(loss="huber", epochs=60).fit(X, REAL).score(X, REAL) > 0.9


def test_dtypes() -> None:
    for given, dtype, expected in ((X, "auto", "f64"), (X.astype(np.float32), "auto", "f32"), (X, "f32", "f32"),
                                   (X.astype(np.float32), "f64", "f64"), (np.round(X).astype(int), "auto", "f64")):
        model = classifier(dtype=dtype, epochs=1).fit(given, Y)
        assert str(model.model_.inputs[0].type.dtype) == expected
        assert str(model.predict_proba(given).dtype) == {"f32": "float32", "f64": "float64"}[expected]


def network(n_features: int, n_outputs: int, seed: int) -> gnn.Model:
    x = gnn.Input((n_features,), name="features")
    h = nn.BatchNorm1D()(nn.FullyConnected(6)(x))
    return gnn.Model(x, nn.FullyConnected(n_outputs)(gnn.tanh(h)), seed=seed, backend="numpy")


def test_a_network_of_ones_own() -> None:
    model = classifier(build=network, epochs=30).fit(X, Y)
    assert any("batch_norm" in name for name in model.model_.state.names)
    assert model.score(X, Y) > 0.9
    assert same(model, pickle.loads(pickle.dumps(model)))
    assert same(model, clone(model).fit(X, Y))
    assert regressor(build=network, epochs=60).fit(X, REAL).score(X, REAL) > 0.8


def test_one_class_is_always_that() -> None:
    model = classifier(epochs=1).fit(X, np.full(150, "only"))
    assert set(model.predict(X)) == {"only"}
    np.testing.assert_array_equal(model.predict_proba(X), 1)


def test_scores_of_any_size_are_probabilities() -> None:
    model = classifier(epochs=1).fit(X, Y)
    model.model_.set_weights({name: 1e3 * array for name, array in model.model_.get_weights().items()})
    shares = model.predict_proba(100 * X)
    assert np.all(np.isfinite(shares))
    np.testing.assert_allclose(shares.sum(1), 1)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"hidden_layers": (8, 0)}, r"hidden_layers\[1\] is 0"), ({"hidden_layers": 8}, "hidden_layers is 8"),
    ({"activation": "swoosh"}, "swoosh"), ({"optimizer": "adam(rate=1)"}, "rate"), ({"loss": "least"}, "least"),
    ({"epochs": 0}, "epochs is 0"), ({"batch_size": 0}, "batch_size is 0"), ({"batch_size": "all"}, "batch_size is 'all'"),
    ({"dropout": 1.5}, "1.5"), ({"dtype": "f16"}, "dtype is 'f16'"), ({"backend": "gpu"}, "gpu"),
    ({"build": lambda **_: 3}, "build gives a int"), ({"patience": 0, "early_stopping": True}, "patience is 0"),
    ({"build": lambda **_: network(3, 3, 0)}, r"one input \(N, 4\) and one output \(N, 3\)"),
    ({"validation_fraction": 2.0, "early_stopping": True}, "test_size"), ({"class_weight": "heavy"}, "class_weight"),
])
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, NotImplementedError), match=words):
        classifier(**arguments).fit(X, Y)


def test_training_that_runs_away() -> None:
    with pytest.raises(gnn.errors.NumericsError, match="not finite"):
        regressor(optimizer="sgd(lr=1e30)").fit(X, REAL)


def test_without_scikit_learn() -> None:
    code = "import sys; sys.modules['sklearn'] = None\nimport graphnn.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(gnn.__file__).parent.parent)
    assert "ImportError: graphnn.sklearn needs scikit-learn 1.6 or later: pip install 'graphnn[sklearn]'" in done.stderr
