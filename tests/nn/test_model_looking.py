"""A model looked at: table, drawing, profile, in evaluation and in training; warmed up; interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import ShapeError
from tests.nn.networks import BACKENDS, bits, dense, examples


def noisy(backend: str = "numpy") -> gnn.Model:
    x = gnn.Input((4,), name="x")
    h = nn.Dropout(0.5)(nn.BatchNorm1D()(nn.FullyConnected(6)(x)))
    y = nn.FullyConnected(3, name="head")(h)
    return gnn.Model(x, y, losses={"small": gnn.mean(y * y)}, name="noisy", backend=backend)


def test_summary_shows_the_form_asked_for_what_is_frozen_and_how_it_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    model = noisy()
    text = model.summary()
    assert capsys.readouterr().out == text + "\n"
    assert "random" not in text
    assert not any(word in text for word in ("by_mode", "with_update", "frozen", "optimizer"))
    assert "random_bernoulli" in model.summary(training=True)
    metrics = ["accuracy", "f1(average='macro')"]
    model.freeze("head").compile(nn.Adam(0.01), nn.CrossEntropy(), metrics, loss_weights={"head": 2.0})
    lines = model.summary().splitlines()
    assert "frozen: head/weight, head/bias" in lines
    assert any(line.startswith("optimizer: adam(lr=0.01") for line in lines)
    assert any(line.startswith("loss: 2 * cross_entropy(") and line.endswith("metrics: accuracy, f1") for line in lines)
    assert "loss small: 1 * a value of the graph" in lines


def test_drawings_of_both_forms(tmp_path: Path) -> None:
    model = noisy()
    model.plot(tmp_path / "evaluation.svg")
    model.plot(tmp_path / "training.svg", training=True)
    evaluation, training = ((tmp_path / f"{name}.svg").read_text() for name in ("evaluation", "training"))
    assert "dropout" not in evaluation
    assert "dropout" in training
    assert "by_mode" not in training + evaluation


def test_profiles_of_both_forms_change_nothing() -> None:
    model = noisy("numba")
    before = bits(model)
    x = np.ones((8, 4), np.float32)
    evaluation, training = (str(model.profile(x, training=mode)) for mode in (False, True))
    assert "bernoulli" not in evaluation
    assert "bernoulli" in training
    assert bits(model) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_warm_up(backend: str) -> None:
    model = dense(backend)
    assert model.warm_up(N=1).warm_up(N=64) is model
    compiled = gnn.kernels_compiled()
    assert model.predict(np.ones((1, 4))).shape == (1, 3)
    assert gnn.kernels_compiled() == compiled
    for sizes, words in (({}, "N is missing"), ({"N": 1, "M": 2}, "no size M"), ({"N": 1.5}, "whole number")):
        with pytest.raises(ShapeError, match=words):
            model.warm_up(**sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("event", ["on_batch_end", "on_epoch_begin", "on_epoch_end"])
def test_an_interrupted_fit_leaves_a_model_that_goes_on(event: str, backend: str) -> None:
    model = dense(backend).compile("adam", "cross_entropy")
    x, y = examples()

    class Interrupt:
        pass

    def raise_it(self: object, model: gnn.Model, count: int, numbers: object = None) -> None:
        if count == 2:
            raise KeyboardInterrupt

    setattr(Interrupt, event, raise_it)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=3, batch_size=8, verbose=False, callbacks=[Interrupt()])
    assert model.epoch == len(model.history) == {"on_batch_end": 0, "on_epoch_begin": 1, "on_epoch_end": 2}[event]
    assert model.state["adam/step"] == {"on_batch_end": 2, "on_epoch_begin": 3, "on_epoch_end": 6}[event]
    model.fit(x, y, epochs=1, verbose=False)


def test_compiling_or_looking_does_not_touch_the_graph() -> None:
    model = noisy()
    graph = model.graph
    model.compile("adam").fit(np.ones((6, 4)), verbose=False)
    model.summary(training=True)
    assert model.graph is graph
    assert [node.op.name for node in graph.nodes].count("by_mode") == 2
