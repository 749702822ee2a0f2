"""Weights by name: copies, all or none, and .npz files that NumPy reads and writes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import DTypeError, FileFormatError, NumericsError, ShapeError, VerifyError
from tests.nn.networks import bits, dense, examples, notes


def normed(seed: int = 0) -> gnn.Model:
    x = gnn.Input((4,), name="x")
    h = nn.Dropout(0.1)(nn.BatchNorm1D()(nn.FullyConnected(3)(x)))
    return gnn.Model(x, nn.FullyConnected(2, name="head")(h), seed=seed, backend="numpy")


def test_they_are_parameters_and_statistics_and_copies() -> None:
    model = normed()
    weights = model.get_weights()
    assert list(weights) == [*(v.name for v in model.parameters), "batch_norm1d/running_mean", "batch_norm1d/running_var"]
    weights["head/bias"][:] = 7
    assert not model.state["head/bias"].any()
    model.set_weights(weights)
    weights["head/bias"][:] = 8
    assert (model.state["head/bias"] == 7).all()


@pytest.mark.parametrize("way", ["dict", "npz", "pathlib"])
def test_another_model_predicts_the_same_with_them(way: str, tmp_path: Path) -> None:
    x, _ = examples(6)
    model, other = normed(1), normed(2)
    model.compile("sgd(lr=0.1)", "squared_error").fit(x, x[:, :2], epochs=2, verbose=False)
    if way == "dict":
        other.set_weights(model.get_weights())
    else:
        path = tmp_path / "weights"                                  # the name as it is given, without .npz added
        model.save_weights(str(path) if way == "npz" else path)
        other.set_weights(str(path) if way == "npz" else path)
        assert [p.name for p in tmp_path.iterdir()] == ["weights"]
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_numpy_reads_and_writes_the_files(tmp_path: Path) -> None:
    model = dense(seed=3)
    model.save_weights(tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as arrays:
        assert set(arrays.files) == set(model.get_weights())
        for name, array in model.get_weights().items():
            np.testing.assert_array_equal(arrays[name], array)
    first = (tmp_path / "w.npz").read_bytes()
    model.save_weights(tmp_path / "w.npz")
    assert (tmp_path / "w.npz").read_bytes() == first
    np.savez_compressed(tmp_path / "ones.npz", **{k: np.ones(v.shape) for k, v in model.get_weights().items()})  # type: ignore[arg-type]
    model.set_weights(tmp_path / "ones.npz")
    assert all((array == 1).all() for array in model.get_weights().values())


def test_the_pattern_of_a_sparse_layer_goes_with_its_weights() -> None:
    x_ = np.random.default_rng(0).normal(size=(3, 6))
    models = []
    for seed in (1, 2):
        x = gnn.Input((6,), name="x")
        models.append(gnn.Model(x, nn.SparseEvolution(8, epsilon=2)(x), seed=seed, backend="numpy"))
    assert (models[0].predict(x_) != models[1].predict(x_)).any()
    models[1].set_weights(models[0].get_weights())
    np.testing.assert_array_equal(models[0].predict(x_), models[1].predict(x_))


def test_the_optimiser_goes_on_with_new_weights() -> None:
    x, y = examples()
    model = dense().compile("adam", "cross_entropy")
    model.fit(x, y, verbose=False)
    slots = model.state["adam/m/fully_connected/weight"]
    model.set_weights(dense(seed=5).get_weights())
    np.testing.assert_array_equal(model.state["adam/m/fully_connected/weight"], slots)
    model.fit(x, y, epochs=2, verbose=False)


CHANGES: list[tuple[Any, type[Exception], list[str]]] = [
    (lambda w: {k: v for k, v in w.items() if k != "fully_connected/bias"}, VerifyError, ["'fully_connected/bias' is missing"]),
    (lambda w: {**w, "extra": np.zeros(3)}, VerifyError, ["no weight 'extra'", "fully_connected/weight"]),
    (lambda w: {**w, "fully_connected_1/bias": np.zeros(4)}, ShapeError, ["fully_connected_1/bias", "(4,)", "f32[3]"]),
    (lambda w: {**w, "fully_connected_1/bias": np.zeros((3, 1))}, ShapeError, ["fully_connected_1/bias", "2 axes"]),
    (lambda w: {**w, "fully_connected_1/bias": ["a", "b", "c"]}, DTypeError, ["fully_connected_1/bias", "<U"]),
    (lambda w: {**w, "fully_connected_1/bias": [1e300, 0, 0]}, NumericsError, ["fully_connected_1/bias", "f32"]),
    (lambda w: 3, VerifyError, ["not a int"]),
    (lambda w: list(w.values()), VerifyError, ["not a list"]),
]


@pytest.mark.parametrize(("change", "kind", "words"), CHANGES, ids=range(len(CHANGES)))
def test_all_or_none(change: Any, kind: type[Exception], words: list[str]) -> None:
    model = dense()
    before = bits(model)
    ones = {name: np.ones_like(array) for name, array in model.get_weights().items()}
    with pytest.raises(kind) as caught:
        model.set_weights(change(ones))
    for word in words:
        assert word in notes(caught.value)
    assert bits(model) == before


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    model = dense()
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    model.save(tmp_path / "m.gnn")
    np.savez(tmp_path / "objects.npz", a=np.array([None]))
    for name in ("one.npy", "text", "empty", "m.gnn", "objects.npz"):
        with pytest.raises((FileFormatError, VerifyError), match=r"one\.npy|text|empty|m\.gnn|objects|no weight|missing"):
            model.set_weights(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        model.set_weights(tmp_path / "none.npz")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphnn.files import atomic

    model = dense()
    model.save_weights(tmp_path / "w.npz")
    old = (tmp_path / "w.npz").read_bytes()

    def full(path: str) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "create", full)
    with pytest.raises(OSError, match="No space left"):
        model.save_weights(tmp_path / "w.npz")
    assert (tmp_path / "w.npz").read_bytes() == old


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps({"a": 1})])
def test_a_file_of_another_kind_is_not_read_and_nobody_is_told_to_unpickle_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"not an \.npz file of weights") as caught:
        dense().set_weights(tmp_path / "w.npz")
    assert "pickle" not in str(caught.value)
