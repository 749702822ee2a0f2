"""Everything at once, broken off and gone on with in a new process: bit for bit as if it had never stopped."""

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
from graphnn.errors import UnsupportedError
from tests.nn.networks import BACKENDS, bits

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
X, IDS, REAL, W = RNG.normal(size=(30, 6)), RNG.integers(0, 3, 30), RNG.normal(size=(30, 2)), RNG.uniform(size=30)

GO_ON = """
import sys
import graphnn as gnn
from tests.nn.test_model_resume import trained
model = gnn.load(sys.argv[1], backend=sys.argv[3])
trained(model, 2)
model.save(sys.argv[2])
"""


def network(backend: str) -> gnn.Model:
    """Batch norm, dropout, a frozen part, two outputs, a loss of the graph, a scheduler, accumulation."""
    x = gnn.Input((6,), name="x")
    below = nn.FullyConnected(8, activation="relu", name="below")
    h = nn.BatchNorm1D(name="body/norm")(below(x))
    h = nn.Dropout(0.3)(nn.FullyConnected(6, activation="tanh", name="body/dense")(h))
    outputs = {"kind": nn.FullyConnected(3, name="kind")(h), "place": nn.FullyConnected(2, name="place")(h)}
    model = gnn.Model(x, outputs, losses={"l2": gnn.sum(below.weight ** 2)}, seed=3, backend=backend)
    model.freeze("body/dense").freeze("place")
    optimiser = nn.Adam("noam_scheduler(model_dim=8, warmup_steps=4)", weight_decay=0.01)
    return model.compile(optimiser, {"kind": nn.CrossEntropy(label_smoothing=0.1), "place": "huber"},
                         {"kind": ["accuracy", "f1(average='macro')"]}, loss_weights={"l2": 0.001, "place": 0.5}, accumulate=3)


def trained(model: gnn.Model, epochs: int) -> gnn.Model:
    options: dict[str, Any] = {"sample_weight": {"kind": W}, "class_weight": {"kind": {1: 2.0}}, "verbose": False}
    model.fit(X, (IDS, REAL), epochs=epochs, batch_size=7, validation_data=(X[:9], (IDS[:9], REAL[:9])), **options)
    return model


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_a_new_process(backend: str, tmp_path: Path) -> None:
    whole, half = trained(network(backend), 4), trained(network(backend), 2)
    half.save(tmp_path / "half.gnn")
    script = [sys.executable, "-c", GO_ON, str(tmp_path / "half.gnn"), str(tmp_path / "done.gnn"), backend]
    subprocess.run(script, cwd=ROOT, check=True)
    done = gnn.load(tmp_path / "done.gnn", backend=backend)
    assert bits(done) == bits(whole)
    assert done.history.columns == whole.history.columns
    assert (done.epoch, done.frozen, done.output_names) == (4, whole.frozen, ("kind", "place"))
    whole.save(tmp_path / "whole.gnn")
    assert (tmp_path / "whole.gnn").read_bytes() == (tmp_path / "done.gnn").read_bytes()


COPIES = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", COPIES)
def test_a_pickle_or_copy_goes_on_alone(way: str, backend: str) -> None:
    whole, half = trained(network(backend), 4), trained(network(backend), 2)
    before = bits(half)
    other = COPIES[way](half)
    assert (type(other), other.backend, other.frozen, bits(other)) == (gnn.Model, backend, half.frozen, before)
    assert bits(trained(other, 2)) == bits(whole)
    assert other.history.columns == whole.history.columns
    assert bits(half) == before
    assert bits(trained(half, 2)) == bits(whole)


def test_a_copy_of_what_no_file_can_hold_is_an_error_that_says_so() -> None:
    x = gnn.Input((4,), name="x")
    model = gnn.Model(x, nn.FullyConnected(1)(x), backend="numpy")
    assert bits(copy.deepcopy(model)) == bits(model)
    model.compile("adam", lambda p, t: gnn.square(p - t))
    for way in COPIES.values():
        with pytest.raises(UnsupportedError, match="a file holds no code"):
            way(model)


def test_both_backends_train_alike() -> None:
    one, two = (trained(network(backend), 3) for backend in BACKENDS)
    for name, array in one.state.arrays().items():
        np.testing.assert_allclose(two.state[name], array, rtol=2e-4, atol=1e-5, err_msg=name)
    for name, values in one.history.columns.items():
        assert two.history[name] == pytest.approx(values, rel=1e-4, abs=1e-5)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    before = gnn.threads()
    try:
        found = []
        for count in (1, 3):
            gnn.set_threads(count)
            found.append(bits(trained(network("numba"), 2)))
        assert found[0] == found[1]
    finally:
        gnn.set_threads(before)
