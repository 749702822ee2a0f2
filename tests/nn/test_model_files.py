"""Models saved and loaded: the same predictions, training that goes on as if it had never stopped, files that are no models."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import FileFormatError, UnsupportedError
from graphnn.files import atomic, load_file, save_file
from tests.nn.networks import BACKENDS, bits, convolutional, dense, examples, images, notes

ROOT = Path(__file__).resolve().parents[2]

GO_ON = """
import sys
import numpy as np
import graphnn as gnn
data = np.load(sys.argv[2])
model = gnn.load(sys.argv[1], backend=sys.argv[4])
print(model.epoch)
model.fit(data["x"], data["y"], epochs=2, batch_size=8, validation_data=(data["x"][:5], data["y"][:5]), verbose=False)
model.save(sys.argv[3])
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimiser", ["adam", "sgd(lr=0.1, momentum=0.9)"])
def test_training_resumed_in_a_new_process_is_training_uninterrupted(optimiser: str, backend: str, tmp_path: Path) -> None:
    x, y = examples()
    validation = (x[:5], y[:5])
    fit: dict[str, Any] = {"batch_size": 8, "validation_data": validation, "verbose": False}
    np.savez(tmp_path / "data.npz", x=x, y=y)
    whole, part = (dense(backend, seed=7).compile(optimiser, "cross_entropy", ["accuracy"]) for _ in range(2))
    whole.fit(x, y, epochs=5, **fit)
    part.fit(x, y, epochs=3, **fit)
    part.save(tmp_path / "part.gnn")
    script = [sys.executable, "-c", GO_ON, *(str(tmp_path / name) for name in ("part.gnn", "data.npz", "done.gnn")), backend]
    done = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "3"
    resumed = gnn.load(tmp_path / "done.gnn", backend=backend)
    assert bits(resumed) == bits(whole)
    assert resumed.history.columns == whole.history.columns
    assert resumed.epoch == 5
    whole.save(tmp_path / "whole.gnn")
    assert (tmp_path / "whole.gnn").read_bytes() == (tmp_path / "done.gnn").read_bytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loaded_model_predicts_the_same_bits(backend: str, tmp_path: Path) -> None:
    x, y = images()
    model = convolutional(backend).compile("adam", "cross_entropy")
    model.fit(x, y, verbose=False)
    model.save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend=backend)
    assert loaded.predict(x).tobytes() == model.predict(x).tobytes()
    assert loaded.evaluate(x, y) == model.evaluate(x, y)
    assert (loaded.name, str(loaded.graph)) == (model.name, str(model.graph))
    assert repr(loaded) == repr(model) == "<Model convolutional: f32[N,9,9,1] -> f32[N,3], 4 parameters>"


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path) -> None:
    model = dense().compile(nn.Adam(0.01, eps=1e-6), nn.CrossEntropy("sum"), ["accuracy", "top_k_accuracy(k=2)"])
    model.fit(*examples(), verbose=False)
    model.fit(*examples(), validation_data=examples(4), verbose=False)           # a history with NaN in it
    model.save(tmp_path / "a.gnn")
    gnn.load(tmp_path / "a.gnn", backend="numpy").save(tmp_path / "b.gnn")
    assert (tmp_path / "a.gnn").read_bytes() == (tmp_path / "b.gnn").read_bytes()


def test_the_learning_rate_of_the_moment_is_saved(tmp_path: Path) -> None:
    model = dense().compile(nn.SGD(0.1), "cross_entropy")
    model.state["sgd/lr"] = 0.025
    model.save(tmp_path / "m.gnn")
    assert gnn.load(tmp_path / "m.gnn").state["sgd/lr"] == np.float32(0.025)


def test_without_training_graph_and_weights_alone_are_saved(tmp_path: Path) -> None:
    model = dense().compile("adam", "cross_entropy")
    model.fit(*examples(), verbose=False)
    model.save(tmp_path / "m.gnn", training=False)
    loaded = gnn.load(tmp_path / "m.gnn", backend="numpy")
    assert set(loaded.state.names) == {value.name for value in loaded.parameters}
    assert (tmp_path / "m.gnn").stat().st_size < 8192
    with pytest.raises(gnn.GraphnnError, match="fit before compile"):
        loaded.fit(*examples())
    loaded.compile("adam", "cross_entropy").fit(*examples(), verbose=False)


def test_a_model_that_was_compiled_but_not_trained(tmp_path: Path) -> None:
    dense(seed=3).compile("adam", "cross_entropy").save(tmp_path / "m.gnn")
    loaded = gnn.load(tmp_path / "m.gnn", backend="numpy")
    other = dense(seed=3).compile("adam", "cross_entropy")
    for model in (loaded, other):
        model.fit(*examples(), verbose=False)
    assert bits(loaded) == bits(other)


class MyLoss(nn.Loss):
    def target_type(self, prediction: gnn.TensorType, integer: bool) -> gnn.TensorType:
        return prediction

    def each(self, prediction: gnn.Value, target: gnn.Value) -> gnn.Value:
        return gnn.abs(prediction - target)


def test_a_users_own_loss_trains_but_is_not_saved(tmp_path: Path) -> None:
    model = dense().compile("sgd(lr=0.05)", MyLoss())
    x, _ = examples()
    history = model.fit(x, np.zeros((23, 3)), epochs=8, verbose=False)
    assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(UnsupportedError, match="MyLoss") as caught:
        model.save(tmp_path / "m.gnn")
    assert "training=False" in notes(caught.value)
    assert list(tmp_path.iterdir()) == []
    model.save(tmp_path / "m.gnn", training=False)


def test_a_back_end_that_there_is_not_is_no_fault_of_the_file(tmp_path: Path) -> None:
    dense().save(tmp_path / "m.gnn")
    for read in (gnn.load, gnn.Model.load):
        with pytest.raises(UnsupportedError, match="no backend 'gpu'"):
            read(tmp_path / "m.gnn", backend="gpu")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gnn"
    model = dense().compile("adam", "cross_entropy")
    model.save(path)
    old = path.read_bytes()
    model.fit(*examples(), verbose=False)
    create = atomic.create

    class Full:
        """A file on a disk with room for 100 bytes."""

        def __init__(self, path: str) -> None:
            self.file = create(path)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *exc: object) -> None:
            self.file.close()

        def write(self, chunk: bytes) -> None:
            self.file.write(bytes(chunk[:100]))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "create", Full)
    before = bits(model)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["m.gnn"]
    assert bits(model) == before
    monkeypatch.setattr(atomic, "create", create)
    model.save(path)
    assert gnn.load(path).epoch == 1


def saved(tmp_path: Path) -> Path:
    model = dense().compile("adam", "cross_entropy")
    model.fit(*examples(), verbose=False)
    model.save(tmp_path / "m.gnn")
    return tmp_path / "m.gnn"


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b[:-1], lambda b: b"", lambda b: b"PK\x03\x04" + b[4:],
                                    lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], lambda b: b + b"x",
                                    lambda b: b[:8] + b"\xff" + b[9:], lambda b: b"import os"], ids=range(8))
def test_damaged_and_foreign_files(damage: Any, tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match=r"m\.gnn"):
        gnn.load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gnn.load(tmp_path / "none.gnn")


@pytest.mark.parametrize(("change", "words"), [
    (lambda f: {"graphs": {"other": f.graphs["model"]}, "arrays": {}}, ["no Bundle", "fully_connected/weight"]),
    (lambda f: {"arrays": {k: v for k, v in f.arrays.items() if "weight" not in k}}, ["fully_connected/weight"]),
    (lambda f: {"train": {**f.train, "optimizer": "adam(lr=[1])"}}, ["lr", "[1]"]),
    (lambda f: {"train": {**f.train, "optimizer": "__import__('os')"}}, ["training section"]),
    (lambda f: {"train": {**f.train, "loss": 3}}, ["3"]),
    (lambda f: {"train": {**f.train, "metrics": ["speed"]}}, ["speed"]),
    (lambda f: {"train": {**f.train, "metrics": 7}}, ["training section"]),
    (lambda f: {"train": {k: v for k, v in f.train.items() if k != "epoch"}}, ["epoch"]),
    (lambda f: {"train": {**f.train, "epoch": -1}}, ["epoch", "-1"]),
    (lambda f: {"train": {**f.train, "history": [1]}}, ["no model can be made"]),
    (lambda f: {"train": {**f.train, "history": {"loss": ["x"]}}}, ["no model can be made"]),
    (lambda f: {"meta": {"seed": "x"}}, ["seed", "'x'"]), (lambda f: {"meta": {"seed": -1}}, ["seed", "-1"]),
    (lambda f: {"arrays": {**f.arrays, "adam/lr": np.zeros(3, np.float32)}}, ["adam/lr"]),
], ids=range(14))
def test_whole_files_that_hold_no_usable_model(change: Any, words: list[str], tmp_path: Path) -> None:
    file = load_file(saved(tmp_path))
    parts: dict[str, Any] = {"graphs": file.graphs, "arrays": file.arrays, "train": file.train, "meta": file.meta}
    save_file(tmp_path / "bad.gnn", **(parts | change(file)))
    with pytest.raises(FileFormatError, match=r"bad\.gnn") as caught:
        gnn.load(tmp_path / "bad.gnn")
    for word in words:
        assert word in notes(caught.value)
