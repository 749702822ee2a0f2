"""The programs of the design's section 4, as written there: what a user writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from tests.nn.networks import notes


def pictures(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """28 x 28 pictures of ten classes: a bright band whose place is the class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.normal(size=(count, 28, 28, 1)) * 0.3
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4:2 * label + 6] += 1
    return images, labels


def test_high_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = pictures(160)
    val_images, val_labels = pictures(40, seed=1)

    x = gnn.Input((28, 28, 1), name="image")                    # f32[N,28,28,1]
    h = nn.Conv2D(32, 3, activation="relu")(x)
    h = nn.Pool2D(2)(h)
    h = nn.Flatten()(h)
    model = gnn.Model(x, nn.FullyConnected(10)(h), name="digits")

    model.compile(optimizer=nn.Adam(1e-3), loss=nn.CrossEntropy(), metrics=["accuracy"])
    history = model.fit(images, labels, epochs=5, batch_size=64, validation_data=(val_images, val_labels))
    measured = model.evaluate(val_images, val_labels)
    before = model.predict(images)
    model.save("digits.gnn")
    model = gnn.load("digits.gnn")
    model.summary()
    print(model.graph)
    model.plot("digits.svg")
    model.profile(images).save("profile.html")

    assert str(x.type) == "f32[N,28,28,1]"
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert measured["accuracy"] > 0.8
    assert measured["accuracy"] == pytest.approx(history["val_accuracy"][-1])
    assert model.predict(images).tobytes() == before.tobytes()
    assert model.evaluate(val_images, val_labels) == measured
    assert model.epoch == 5
    printed = capsys.readouterr().out
    for word in ("epoch 5/5", "val_accuracy", "fully_connected", "54,410", "graph digits(", "param %conv2d/weight: f32[3,3,1,32]",
                 "return"):
        assert word in printed
    assert (tmp_path / "digits.svg").read_text().lstrip().startswith(("<?xml", "<svg"))
    page = (tmp_path / "profile.html").read_text()
    assert "conv2d" in page
    assert "fully_connected" in page


def test_low_level() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 30)).astype(np.float32)
    labels = (features[:, :5].sum(1, keepdims=True) > 0).astype(np.float32)

    x, y = gnn.Input((30,), name="x"), gnn.Input((1,), name="y")
    hidden, out = nn.FullyConnected(16, activation="tanh"), nn.FullyConnected(1, activation="sigmoid")
    loss = gnn.mean((out(hidden(x)) - y) ** 2)                   # operators and functions of gnn write IR
    params = [*hidden.parameters, *out.parameters]               # values
    grads = gnn.gradients(loss, params)                          # values too: use them in expressions, differentiate them again
    step = gnn.compile(gnn.Graph.of("step", [x, y], [loss], updates=nn.Adam(1e-2).updates(params, grads)))
    first = step(x=features, y=labels)                           # forward + backward + update, one call
    for _ in range(100):
        loss_now = step(x=features, y=labels)
    infer = gnn.compile(gnn.Graph.of("infer", [x], [out(hidden(x))]), state=step.state)

    assert first.shape == ()
    assert loss_now < 0.2 * first
    assert ((infer(features) > 0.5) == labels).mean() > 0.95
    norm = gnn.sum(grads[0] * grads[0])                          # gradients of an expression of gradients
    second = gnn.compile(gnn.Graph.of("norm", [x, y], [norm, *gnn.gradients(norm, params)]), state=step.state)
    assert len(second(features, labels)) == 5


def test_an_error_names_what_the_types_the_layer_the_line_and_what_to_do() -> None:
    x = gnn.Input((128,), name="x")
    with gnn.scope("classifier"):
        head = nn.FullyConnected(10, name="head")
        head(gnn.Input((64,), name="z"))
        with pytest.raises(gnn.errors.ShapeError) as caught:
            head(x)
    lines = notes(caught.value).splitlines()
    assert lines[0] == "matmul: inner sizes differ: 128 on the left, 64 on the right"
    assert lines[1] == "  operands  f32[N,128], f32[64,10]"
    assert lines[2] == "  layer     classifier/head (FullyConnected)"
    assert lines[3].startswith("  called at ")
    assert "test_design_program.py:" in lines[3]
    assert lines[4] == "  hint      the right operand's first size must equal the left operand's last"
