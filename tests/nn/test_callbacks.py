"""Callbacks: when each is called, what each does, and what each says when it cannot."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import VerifyError
from graphnn.nn.callbacks import BY_NAME, Callbacks, as_callback
from graphnn.nn.described import DescriptionError, describe, to_dict
from graphnn.nn.schedulers.plateau import PlateauRule
from tests.nn.networks import bits, notes


def linear(lr: Any = 0.05, **more: Any) -> gnn.Model:
    x = gnn.Input((3,), name="x", dtype="f64")
    model = gnn.Model(x, nn.FullyConnected(1)(x), name="linear", backend="numpy", seed=1, **more)
    return model.compile(nn.SGD(lr), "squared_error", ["mean_absolute_error"])


rng = np.random.default_rng(0)
X = rng.normal(size=(11, 3))
Y = X @ [[1.0], [-2.0], [0.5]] + 0.1


class Script(nn.Callback):
    """Puts numbers in place of those of training, as if they had come: what later callbacks see is known then."""

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name, self.values = name, values

    def on_epoch_end(self, model: gnn.Model, epoch: int, numbers: Any) -> None:
        numbers[self.name] = self.values[epoch - 1]


def fit(model: gnn.Model, *callbacks: Any, epochs: int = 4, **more: Any) -> gnn.nn.History:
    return model.fit(X, Y, epochs=epochs, batch_size=4, verbose=False, callbacks=list(callbacks), **more)


def weights(model: gnn.Model) -> dict[str, np.ndarray]:
    return {value.name: model.state[value.name] for value in model.parameters}


# ------------------------------------------------------------------------------------------------ the protocol

def test_the_order_of_events_and_what_they_are_told() -> None:
    told: list[Any] = []

    class Witness:
        def on_train_begin(self, model: gnn.Model) -> None:
            told.append(("begin", model.name))

        def on_epoch_begin(self, model: gnn.Model, epoch: int) -> None:
            told.append(("epoch", epoch))

        def on_batch_end(self, model: gnn.Model, step: int, numbers: Any) -> None:
            told.append((step, sorted(numbers)))

        def on_epoch_end(self, model: gnn.Model, epoch: int, numbers: Any) -> None:
            told.append(("end", epoch, sorted(numbers), numbers["loss"] == model.history["loss"][-1]))

        def on_train_end(self, model: gnn.Model) -> None:
            told.append("end")

    model, names = linear(), ["loss", "mean_absolute_error"]
    fit(model, Witness(), epochs=1, validation_data=(X, Y))
    batches = [(1, names), (2, names), (3, names)]
    expected = [("begin", "linear"), ("epoch", 1), *batches, ("end", 1, [*names, *(f"val_{n}" for n in names)], True), "end"]
    assert told == expected
    told.clear()
    fit(model, Witness(), epochs=2)
    assert [t for t in told if t[0] in ("epoch", "end")] == [("epoch", 2), ("end", 2, names, True),
                                                            ("epoch", 3), ("end", 3, names, True)]


def test_objects_with_some_methods_functions_and_descriptions() -> None:
    seen: list[str] = []

    class Half:
        def on_train_end(self, model: gnn.Model) -> None:
            seen.append("half")

        def __call__(self) -> None:                                        # a method counts before a call
            raise AssertionError

    fit(linear(), Half(), lambda m, epoch, numbers: seen.append(f"{epoch} {next(iter(numbers))}"), "terminate_on_nan",
        {"name": "early_stopping", "monitor": "loss"}, epochs=2)
    assert seen == ["1 loss", "2 loss", "half"]
    assert linear().fit(X, Y, verbose=False, callbacks="terminate_on_nan").columns
    assert not Callbacks([nn.EarlyStopping(), Half()]).watch_batches
    assert Callbacks([nn.TerminateOnNaN()]).watch_batches


def test_stopping_after_a_batch_and_after_an_epoch() -> None:
    class Stop(nn.Callback):
        def on_batch_end(self, model: gnn.Model, step: int, numbers: Any) -> None:
            steps.append(step)
            model.stop_training = step == 2

    steps: list[int] = []
    model = linear()
    fit(model, Stop())
    assert (steps, model.epoch) == ([1, 2], 1)
    fit(model, lambda m, epoch, numbers: setattr(m, "stop_training", epoch == 3))   # the last fit's stop is over
    assert model.epoch == 3


def test_compiling_within_fit_is_an_error_that_says_so() -> None:
    class Again(nn.Callback):
        def on_epoch_end(self, model: gnn.Model, epoch: int, numbers: Any) -> None:
            model.compile("sgd", "squared_error")

    model = linear()
    with pytest.raises(VerifyError, match="compiled again while fit") as caught:
        fit(model, Again())
    assert "stop_training" in notes(caught.value)
    assert model.epoch == 1
    fit(model)


# ------------------------------------------------------------------------------------------------ early stopping

@pytest.mark.parametrize(("values", "options", "best", "stopped"), [
    ([5, 4, 3, 2, 1, 0], {"patience": 1}, (6, 0), None),
    ([5, 4, 4, 4, 4, 4], {"patience": 2}, (2, 4), 4),
    ([5, 4, 4.5, 3, 3, 3], {"patience": 2}, (4, 3), 6),
    ([5, 4.9, 4.8, 4.7, 4, 4], {"patience": 4, "min_delta": 0.5}, (5, 4), None),
    ([5, 4.9, 4.8, 4.7, 4, 4], {"patience": 2, "min_delta": 0.5}, (1, 5), 3),
    ([math.nan, 3, math.nan, math.nan, 1, 1], {"patience": 2}, (2, 3), 4),
    ([1, 2, 3, 3, 3, 3], {"patience": 2, "mode": "max"}, (3, 3), 5),
])
def test_early_stopping(values: list[float], options: dict[str, Any], best: tuple[int, float], stopped: int | None) -> None:
    kept: dict[int, dict[str, np.ndarray]] = {}
    model, stop = linear(), nn.EarlyStopping("val_score" if "mode" in options else "val_loss", **options)
    fit(model, Script(stop.monitor, values), stop, lambda m, epoch, numbers: kept.update({epoch: weights(m)}), epochs=6)
    assert (stop.best_epoch, stop.best, stop.stopped_epoch) == (*best, stopped)
    assert model.epoch == (stopped or 6)
    for name, array in weights(model).items():
        np.testing.assert_array_equal(array, kept[best[0]][name])


def test_early_stopping_may_keep_the_last_weights_and_starts_anew() -> None:
    model, stop = linear(), nn.EarlyStopping("val_loss", patience=1, restore_best=False)
    kept: list[dict[str, np.ndarray]] = []
    script = Script("val_loss", [1, 2, 0, 5, 5, 5])
    fit(model, script, stop, lambda m, e, n: kept.append(weights(m)))
    assert model.epoch == 2
    np.testing.assert_array_equal(weights(model)["fully_connected/weight"], kept[-1]["fully_connected/weight"])
    fit(model, script, stop)
    assert (model.epoch, stop.best, stop.best_epoch) == (4, 0, 3)


def test_early_stopping_brings_back_running_statistics() -> None:
    x = gnn.Input((3,), name="x")
    model = gnn.Model(x, nn.FullyConnected(1)(nn.BatchNorm1D()(x)), backend="numpy").compile("sgd", "squared_error")
    kept: list[dict[str, np.ndarray]] = []
    fit(model, Script("val_loss", [1, 0, 2, 3]), nn.EarlyStopping(patience=3), lambda m, e, n: kept.append(m.get_weights()))
    found = model.get_weights()
    assert any("mean" in name for name in found)
    for name, array in found.items():
        np.testing.assert_array_equal(array, kept[1][name])


def test_which_way_is_better() -> None:
    up = ("accuracy", "val_accuracy", "digit_accuracy", "val_digit_top_k_accuracy", "f1", "val_auc", "r2", "recall", "precision")
    down = ("loss", "val_loss", "digit_loss", "perplexity", "val_mean_squared_error", "mean_absolute_error", "val_cross_entropy")
    assert {nn.EarlyStopping(name).direction() for name in up} == {"max"}
    assert {nn.EarlyStopping(name).direction() for name in down} == {"min"}
    assert nn.EarlyStopping("accuracy", mode="min").direction() == "min"
    with pytest.raises(DescriptionError, match=r"monitor is 'val_speed'.*mode='min' or mode='max'"):
        nn.EarlyStopping("val_speed")


# ------------------------------------------------------------------------------------------------ checkpoints

def test_checkpoints_of_every_epoch(tmp_path: Path) -> None:
    model = linear()
    kept: list[dict[str, np.ndarray]] = []
    checkpoint = nn.ModelCheckpoint(tmp_path / "new" / "net-{epoch:03d}-{loss:.2f}.gnn")
    fit(model, checkpoint, lambda m, e, n: kept.append(weights(m)), epochs=2)
    files = sorted((tmp_path / "new").iterdir())
    assert [f.name for f in files] == [f"net-{e:03d}-{model.history['loss'][e - 1]:.2f}.gnn" for e in (1, 2)]
    assert checkpoint.last_path == str(files[1])
    first = gnn.load(files[0], backend="numpy")
    np.testing.assert_array_equal(weights(first)["fully_connected/weight"], kept[0]["fully_connected/weight"])
    assert (first.epoch, len(first.history)) == (1, 1)
    first.fit(X, Y, batch_size=4, verbose=False)                           # resumed, it is where the other is
    assert first.history.columns == model.history.columns
    np.testing.assert_array_equal(weights(first)["fully_connected/weight"], weights(model)["fully_connected/weight"])


def test_checkpoints_of_the_best(tmp_path: Path) -> None:
    model, checkpoint = linear(), nn.ModelCheckpoint(tmp_path / "best-{epoch}.gnn", save_best_only=True)
    script = Script("val_loss", [3, 4, 2, math.nan, 5, 1])
    fit(model, script, checkpoint)
    assert (sorted(f.name for f in tmp_path.iterdir()), checkpoint.best) == (["best-1.gnn", "best-3.gnn"], 2)
    fit(model, script, checkpoint, epochs=2)                               # an earlier fit's best stands
    assert sorted(f.name for f in tmp_path.iterdir()) == ["best-1.gnn", "best-3.gnn", "best-6.gnn"]
    one = nn.ModelCheckpoint(tmp_path / "one.gnn", "val_accuracy", save_best_only=True, training=False)
    fit(linear(), Script("val_accuracy", [0.5, 0.7, 0.6, 0.7]), one)
    assert one.best == 0.7
    assert gnn.load(tmp_path / "one.gnn", backend="numpy").epoch == 0


def test_a_checkpoint_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear()
    checkpoint = nn.ModelCheckpoint(tmp_path / "net.gnn")
    fit(model, checkpoint, epochs=1)
    before = (tmp_path / "net.gnn").read_bytes()

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        fit(model, checkpoint, epochs=1)
    assert (tmp_path / "net.gnn").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["net.gnn"]


# ------------------------------------------------------------------------------------------------ logs

def read(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log.csv"
    model = linear()
    lines: list[int] = []
    fit(model, nn.CSVLogger(path), lambda m, e, n: lines.append(len(read(path))), epochs=3)
    assert lines == [2, 3, 4]                                              # each epoch is there at once
    rows = read(path)
    assert rows[0] == ["epoch", "loss", "mean_absolute_error"]
    assert [(int(r[0]), float(r[1])) for r in rows[1:]] == list(enumerate(model.history["loss"], 1))
    assert nn.History.from_csv(path).columns == model.history.columns
    fit(model, nn.CSVLogger(path), epochs=1)
    assert [r[0] for r in read(path)] == ["epoch", "4"]
    with open(path, "a") as file:
        file.write("5,0.1")                                                # a crash cut the line
    fit(model, nn.CSVLogger(path, append=True), epochs=1, validation_data=(X, Y))
    rows = read(path)
    assert rows[0] == ["epoch", "loss", "mean_absolute_error", "val_loss", "val_mean_absolute_error"]
    assert [r[0] for r in rows[1:]] == ["4", "5", "5"]
    assert rows[2] == ["5", "0.1", "", "", ""]
    assert float(rows[3][3]) == model.history["val_loss"][-1]
    fit(model, nn.CSVLogger(path, append=True), epochs=1)
    assert read(path)[4][3:] == ["", ""]
    assert [p.name for p in path.parent.iterdir()] == ["log.csv"]


def test_csv_logger_refuses_another_file(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(gnn.errors.VerifyError, match=r"other\.csv is no log"):
        fit(linear(), nn.CSVLogger(tmp_path / "other.csv", append=True))
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"


def test_learning_rate_logger(tmp_path: Path) -> None:
    model = linear("exponential_scheduler(initial_lr=0.05, stage_length=3, decay=0.5)")
    seen: list[float] = []
    history = fit(model, "learning_rate_logger", nn.CSVLogger(tmp_path / "l.csv"), lambda m, e, n: seen.append(n["lr"]), epochs=3)
    assert history["lr"] == seen == nn.History.from_csv(tmp_path / "l.csv")["lr"]
    rates = nn.schedulers.ExponentialScheduler(initial_lr=0.05, stage_length=3, decay=0.5).rates(10)
    assert history["lr"] == pytest.approx([rates[3], rates[6], rates[9]])      # three steps an epoch: the next step's rate
    model = linear(0.05)
    model.state["sgd/lr"] = 0.25
    assert fit(model, nn.LearningRateLogger(name="rate"), epochs=2)["rate"] == [0.25, 0.25]


# ------------------------------------------------------------------------------------------------ NaN, plateaus

@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_terminate_on_nan(bad: float) -> None:
    model = linear()
    steps: list[int] = []

    class Spoil(nn.Callback):
        def on_batch_end(self, model: gnn.Model, step: int, numbers: Any) -> None:
            steps.append(step)
            if model.epoch == 1 and step == 1:
                model.state["fully_connected/bias"] = np.array([bad])

    with pytest.warns(RuntimeWarning, match=r"the loss of 'linear' is (nan|inf) at epoch 2, step 2: training ends"):
        fit(model, Spoil(), nn.TerminateOnNaN())
    assert steps == [1, 2, 3, 1, 2]
    assert not math.isfinite(model.history["loss"][-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(linear(), "terminate_on_nan")


def test_reduce_lr_on_plateau() -> None:
    values = [3, 2, 2, 2, 2, 2, 2, 1, 1, 1]
    model, rates = linear(), []
    reduce = nn.ReduceLROnPlateau(factor=0.5, patience=1, cooldown=1, min_lr=0.01)
    fit(model, Script("val_loss", values), reduce, lambda m, e, n: rates.append(float(m.state["sgd/lr"])), epochs=10)
    rule, expected, rate = PlateauRule(factor=0.5, patience=1, cooldown=1, min_lr=0.01), [], 0.05
    for value in values:
        rate = rule.update(value, rate)
        expected.append(rate)
    assert rates == pytest.approx(expected)
    assert len(set(rates)) == 4
    up = nn.ReduceLROnPlateau("val_accuracy", patience=1, factor=0.1)
    model = linear()
    fit(model, Script("val_accuracy", [0.1, 0.5, 0.6, 0.4]), up)
    assert model.state["sgd/lr"] == pytest.approx(0.05)
    with pytest.raises(gnn.errors.UnsupportedError, match="set at every step by ExponentialScheduler"):
        fit(linear("exponential_scheduler"), nn.ReduceLROnPlateau("loss"))


# ------------------------------------------------------------------------------------------------ descriptions, bad input

OBJECTS = [nn.EarlyStopping("val_accuracy", patience=3, min_delta=0.1, restore_best=False), nn.EarlyStopping("x", mode="max"),
           nn.ModelCheckpoint("a-{epoch}.gnn", save_best_only=True), nn.CSVLogger("log.csv", append=True),
           nn.LearningRateLogger(),
           nn.TerminateOnNaN(), nn.ReduceLROnPlateau("loss", factor=0.5, patience=3)]


@pytest.mark.parametrize("callback", OBJECTS, ids=lambda c: type(c).__name__)
def test_descriptions(callback: Any) -> None:
    assert as_callback(describe(callback)) == callback
    assert as_callback(to_dict(callback)) == callback
    assert type(callback) in BY_NAME.values()
    assert as_callback(callback) is callback


@pytest.mark.parametrize(("spec", "words"), [
    ("early_stop", "no callback 'early_stop'.*early_stopping"), ("early_stopping(speed=1)", "no argument 'speed'"),
    ("early_stopping(patience=0)", "patience is 0"), ("early_stopping(min_delta=-1)", "min_delta is -1"),
    ("early_stopping(mode='up')", "mode is 'up'"), ("early_stopping(monitor=3)", "monitor is 3"),
    ("model_checkpoint", "needs the argument 'path'"),
    ("model_checkpoint(path='')", "path is ''"), ("model_checkpoint(path='{epoch')", "no pattern"),
    ("model_checkpoint(path='{}')", "no name of a number"), ("model_checkpoint(path='{epoch.x}')", "no name of a number"),
    ("model_checkpoint(path='{loss:zz}')", "no pattern"), ("csv_logger(path=3)", "path is 3"),
    ("learning_rate_logger(name=0)", "name is 0"),
    ("reduce_lr_on_plateau(factor=2)", "factor"), (3, "int 3 is no callback"), (None, "no callback"),
    (nn.EarlyStopping, "class EarlyStopping is no callback"),
])
def test_bad_arguments(spec: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_callback(spec)


@pytest.mark.parametrize(("callback", "words"), [
    (nn.EarlyStopping(), "EarlyStopping: there is no 'val_loss' among this training's numbers: loss, mean_absolute_error"),
    (nn.ReduceLROnPlateau("los", mode="min"), "ReduceLROnPlateau: there is no 'los'"),
    (nn.ModelCheckpoint("x.gnn", save_best_only=True), "ModelCheckpoint: there is no 'val_loss'"),
    (nn.ModelCheckpoint("{val_loss}.gnn"), "no 'val_loss' among this training's numbers: loss, mean_absolute_error, epoch"),
])
def test_numbers_that_there_are_not_are_an_error_before_training(callback: Any, words: str) -> None:
    model = linear()
    before = bits(model)
    with pytest.raises(gnn.errors.VerifyError, match=words):
        fit(model, callback, nn.LearningRateLogger())
    assert bits(model) == before
    assert (model.epoch, len(model.history)) == (0, 0)


def test_numbers_that_callbacks_add_can_be_watched(tmp_path: Path) -> None:
    model = linear()
    best = nn.EarlyStopping("lr", mode="max")
    fit(model, nn.LearningRateLogger(), best, nn.ModelCheckpoint(str(tmp_path / "{lr:.2f}.gnn")))
    assert best.best == model.state["sgd/lr"]
    own = nn.EarlyStopping("mine", mode="max")
    fit(model, lambda m, epoch, numbers: numbers.update(mine=epoch), own)
    assert own.best == model.epoch


def test_a_missing_validation_is_hinted_at() -> None:
    with pytest.raises(gnn.errors.VerifyError) as caught:
        fit(linear(), "early_stopping")
    assert "give fit validation_data" in "".join(caught.value.__notes__)
