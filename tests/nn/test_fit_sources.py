"""Data that is no array: data sets of examples, iterables and generators of batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError, VerifyError
from graphnn.nn.data import epoch_order, minibatches
from tests.nn.networks import BACKENDS, bits, dense, examples, notes

X, Y = examples(23)
W = np.random.default_rng(1).uniform(size=23)


def compiled(backend: str = "numpy") -> gnn.Model:
    return dense(backend, seed=5, dtype="f64").compile(nn.Adam(0.01), "cross_entropy", ["accuracy"])


class Points:
    """A data set: random access to examples."""

    def __init__(self, weighted: bool = False, count: int = 23) -> None:
        self.weighted, self.count = weighted, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        assert type(i) is int
        return (X[i].tolist(), Y[i], W[i]) if self.weighted else (X[i], Y[i])


def batches(epochs: int = 1, size: int = 8) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches that fit makes of the arrays by itself."""
    for epoch in range(epochs):
        for rows in minibatches(epoch_order(23, seed=5, epoch=epoch), size):
            yield X[rows], Y[rows]


class Stream:
    """An iterable that starts anew each time."""

    def __init__(self) -> None:
        self.started = 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.started += 1
        rows = epoch_order(23, seed=5, epoch=self.started - 1)
        return iter([(X[part], Y[part]) for part in minibatches(rows, 8)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_source_trains_as_the_arrays_do(backend: str) -> None:
    whole = compiled(backend)
    expected = whole.fit(X, Y, epochs=3, batch_size=8, validation_data=(X[:9], Y[:9]), verbose=False).columns
    sources: list[tuple[Any, dict[str, Any], Any]] = [
        (Points(), {"batch_size": 8}, Points(count=9)),
        (batches(3), {"steps_per_epoch": 3}, [(X[:4], Y[:4]), (X[4:9], Y[4:9])]),
        (Stream(), {}, lambda: ((X[i : i + 3], Y[i : i + 3]) for i in range(0, 9, 3))),
        (Stream(), {"steps_per_epoch": 3}, (X[:9], Y[:9])),
        (lambda: batches(3), {"steps_per_epoch": 3}, (X[:9], Y[:9])),
    ]
    for source, arguments, validation in sources:
        model = compiled(backend)
        found = model.fit(source, epochs=3, validation_data=validation, verbose=False, **arguments).columns
        assert bits(model) == bits(whole)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name] == pytest.approx(values, rel=1e-12)
    assert whole.evaluate(Points()) == pytest.approx(whole.evaluate(X, Y), rel=1e-12)
    assert whole.evaluate(list(batches())) == pytest.approx(whole.evaluate(X, Y), rel=1e-12)


def test_weights_come_third() -> None:
    whole = compiled()
    whole.fit(X, Y, sample_weight=W, batch_size=8, verbose=False)
    order = epoch_order(23, seed=5, epoch=0)
    for source in (Points(weighted=True), [(X[rows], Y[rows], W[rows]) for rows in minibatches(order, 8)]):
        model = compiled()
        model.fit(source, verbose=False, batch_size=8 if isinstance(source, Points) else None)
        assert bits(model) == bits(whole)
    assert whole.evaluate(Points(weighted=True)) == pytest.approx(whole.evaluate(X, Y, sample_weight=W), rel=1e-12)


def test_an_epoch_of_a_data_set_shuffles_and_drops_like_arrays() -> None:
    choices: list[dict[str, Any]] = [{"shuffle": False}, {"drop_last": True}, {}]
    for arguments in choices:
        one, two = compiled(), compiled()
        one.fit(X, Y, batch_size=5, epochs=2, verbose=False, **arguments)
        two.fit(Points(), batch_size=5, epochs=2, verbose=False, **arguments)
        assert bits(one) == bits(two)


def test_steps_per_epoch_goes_on_and_starts_anew() -> None:
    model, seen = compiled(), []
    parts = [(X[i : i + 2], Y[i : i + 2]) for i in range(0, 10, 2)]

    def noted() -> Iterator[Any]:
        for i, part in enumerate(parts):
            seen.append(i)
            yield part

    model.fit(noted, epochs=3, steps_per_epoch=3, verbose=False)
    assert seen == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert len(model.history) == 3


def test_a_generator_that_ends() -> None:
    model = compiled()
    for data in ({"x": batches()}, {"x": list(batches()), "validation_data": batches()}):
        with pytest.raises(VerifyError, match="is a generator, which can be gone through once, not for 2 epochs") as caught:
            model.fit(**data, epochs=2, verbose=False)
        assert "steps_per_epoch" in notes(caught.value)
    assert model.epoch == 0
    with pytest.raises(VerifyError, match="the data gave no batch for epoch 2") as caught:
        model.fit(iter(list(batches())), epochs=2, verbose=False)
    assert model.epoch == 1                                          # the first epoch is whole
    with pytest.raises(VerifyError, match="validation_data gave no batch"):
        model.fit(list(batches()), validation_data=iter([]), verbose=False)
    with pytest.raises(VerifyError, match="the data ended in epoch 2 after 3 of 5 steps"):
        model.fit(batches(), steps_per_epoch=5, verbose=False)
    with pytest.raises(VerifyError, match="gave no batch"):
        model.fit([], verbose=False)
    model.fit(X, Y, verbose=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_in_an_iterable_leaves_the_last_whole_step(backend: str) -> None:
    class Broken(Exception):
        pass

    def broken() -> Iterator[Any]:
        parts = batches()
        yield next(parts)
        yield next(parts)
        raise Broken

    model, same = compiled(backend), compiled(backend)
    with pytest.raises(Broken):
        model.fit(broken(), verbose=False)
    same.fit(lambda: list(batches())[:2], verbose=False)
    assert bits(model) == bits(same)
    assert (model.epoch, len(model.history)) == (0, 0)
    model.fit(X, Y, verbose=False)

    class BadSet(Points):
        def __getitem__(self, i: int) -> Any:
            raise Broken

    with pytest.raises(Broken):
        model.fit(BadSet(), verbose=False)


def test_several_inputs_and_outputs_from_a_data_set() -> None:
    a, b = gnn.Input((4,), name="a"), gnn.Input((2,), name="b")
    h = nn.FullyConnected(3, name="h")(gnn.concat([a, b], -1))
    net = {"one": nn.FullyConnected(2, name="one")(h), "two": nn.FullyConnected(3, name="two")(h)}

    class Pairs:
        def __init__(self, form: str) -> None:
            self.form = form

        def __len__(self) -> int:
            return 23

        def __getitem__(self, i: int) -> Any:
            if self.form == "dict":
                return {"b": X[i, :2], "a": X[i]}, {"two": Y[i], "one": X[i, 2:]}
            return (X[i], X[i, :2]), (X[i, 2:], Y[i])

    found = []
    for source in (Pairs("dict"), Pairs("tuple"), None):
        model = gnn.Model([a, b], net, seed=0, backend="numpy").compile("adam", ["squared_error", "cross_entropy"])
        if source is None:
            model.fit((X, X[:, :2]), (X[:, 2:], Y), verbose=False)
        else:
            model.fit(source, verbose=False)
        found.append(bits(model))
    assert found[0] == found[1] == found[2]


def test_models_without_targets() -> None:
    def made() -> gnn.Model:
        x = gnn.Input((4,), name="x")
        y = nn.FullyConnected(4)(x)
        return gnn.Model(x, y, losses={"again": nn.SquaredError()(y, x)}, seed=0, backend="numpy").compile("sgd(lr=0.1)")

    class Alone:
        def __len__(self) -> int:
            return 23

        def __getitem__(self, i: int) -> np.ndarray:
            return X[i]

    arrays, data_set, stream = made(), made(), made()
    arrays.fit(X, batch_size=23, shuffle=False, validation_data=X[:5], verbose=False)
    data_set.fit(Alone(), batch_size=23, shuffle=False, validation_data=Alone(), verbose=False)
    stream.fit((x for x in [X]), validation_data=lambda: iter([X[:5]]), verbose=False)
    assert bits(arrays) == bits(data_set) == bits(stream)
    assert arrays.history.columns == stream.history.columns


@pytest.mark.parametrize(("x", "arguments", "words"), [
    (X, {}, ["targets are missing", "batches (x, y)"]), ({"x": X}, {}, ["targets are missing"]), (3, {}, ["input 'x'", "0 axes"]),
    ([X, X], {}, ["a batch is a tuple (x, y)", "ndarray"]), ([(X,)], {}, ["tuple of 1"]), ([(X, Y, W, W)], {}, ["tuple of 4"]),
    (batches(), {"batch_size": 4}, ["an iterable gives whole batches"]), (batches(), {"drop_last": True}, ["drop_last"]),
    (batches(), {"sample_weight": W}, ["third part of a batch"]), (batches(), {"steps_per_epoch": 0}, ["steps_per_epoch is 0"]),
    (X, {"y": Y, "steps_per_epoch": 3}, ["steps_per_epoch is for iterables"]),
    (Points(), {"steps_per_epoch": 3}, ["has a length"]), (Points(count=0), {}, ["the data set is empty"]),
    ([(X, Y[:3])], {}, ["x 23, targets 3"]), ([(X[:0], Y[:0])], {}, ["empty"]),
    ([(X, Y), (X, Y + 1)], {}, ["class 3"]), (object(), {}, ["x is a object"]), ([(X[:, :2], Y)], {}, ["input 'x'", "(23, 2)"]),
], ids=range(18))
def test_what_is_no_source(x: Any, arguments: dict[str, Any], words: list[str]) -> None:
    model = compiled()
    with pytest.raises(GraphnnError) as caught:
        model.fit(x, verbose=False, **arguments)
    for word in words:
        assert word in notes(caught.value)
    assert model.epoch == 0


def test_ragged_examples_name_the_part() -> None:
    class Ragged(Points):
        def __getitem__(self, i: int) -> Any:
            return X[i, : 2 + i % 2], Y[i]

    with pytest.raises(GraphnnError, match="x has shape"):
        compiled().fit(Ragged(), verbose=False)


def test_progress_of_a_generator(capsys: pytest.CaptureFixture[str]) -> None:
    compiled().fit(batches(2), epochs=2, steps_per_epoch=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
