"""Callbacks: what `fit` calls between batches and epochs.

A callback is any object with some of the methods of `Callback`, or a function (model, epoch, numbers), which is called after
each epoch. Epochs and steps are counted from 1: `epoch` goes on where the last `fit` ended, `step` starts anew in each epoch.
`numbers` are the loss and metrics by name, of the batch or of the epoch, those of validation with "val_" before their names.
A callback ends training by `model.stop_training = True`: no further batch is taken then.
"""

from __future__ import annotations

import csv
import math
import os
import string
import warnings
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnn.errors import UnsupportedError, VerifyError
from graphnn.nn.arguments import as_count, is_number
from graphnn.nn.described import DescriptionError, make, same_letters
from graphnn.nn.metrics import BY_NAME as METRICS
from graphnn.nn.schedulers import Scheduler
from graphnn.nn.schedulers.plateau import PlateauRule

if TYPE_CHECKING:
    from graphnn.nn.model import Model

Numbers = Mapping[str, float]
EVENTS = ("on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end")


@dataclass
class Callback:
    """Base of callbacks: a method for each event, none of which does anything."""

    def on_train_begin(self, model: Model) -> None:
        """Before the first epoch of a `fit`."""

    def on_epoch_begin(self, model: Model, epoch: int) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, model: Model, step: int, numbers: Numbers) -> None:
        """After a training step."""

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        """After an epoch and its validation."""

    def on_train_end(self, model: Model) -> None:
        """After the last epoch of a `fit`."""

    def _require(self, good: bool, what: str) -> None:
        if not good:
            raise DescriptionError(f"{type(self).__name__}: {what}")

    def _require_path(self) -> None:
        path = self.path
        self._require(isinstance(path, (str, os.PathLike)) and bool(str(path)), f"path is {path!r}; it must be a file's path")
        self.path = str(path)


@dataclass
class FunctionCallback(Callback):
    """A function (model, epoch, numbers), called after each epoch."""

    function: Callable[[Any, int, Numbers], Any]

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        self.function(model, epoch, numbers)


class Monitor(Callback):
    """Base of callbacks that watch one of the numbers. `mode` is "min" or "max", which is better; "auto" is "max" for metrics
    such as accuracy, and "min" for losses and errors."""

    monitor: str
    mode: str

    def __post_init__(self) -> None:
        self._require(isinstance(self.monitor, str) and self.monitor != "", f"monitor is {self.monitor!r}; it must be a name")
        self._require(self.mode in ("auto", "min", "max"), f"mode is {self.mode!r}; it is auto, min or max")
        if self.mode == "auto":
            self.direction()

    def direction(self) -> str:
        """"min" or "max"."""
        if self.mode != "auto":
            return self.mode
        letters = same_letters(self.monitor)
        for name, metric in METRICS.items():
            if letters.endswith(same_letters(name)):
                return metric.better
        self._require(letters.endswith(("loss", "error", "entropy")),
                      f"monitor is {self.monitor!r}; whether less is better is not known of it: say mode='min' or mode='max'")
        return "min"

    def watched(self, numbers: Numbers) -> float:
        """The number. Raises VerifyError, naming what there is, when there is none of this name."""
        if self.monitor not in numbers:
            hint = "give fit validation_data" if self.monitor.startswith("val_") else None
            raise VerifyError(f"{type(self).__name__}: there is no {self.monitor!r} among this training's numbers: "
                              f"{', '.join(numbers)}", hint=hint)
        return float(numbers[self.monitor])

    def improved(self, value: float, best: float | None, least: float = 0.0) -> bool:
        """Whether `value` is better than `best` by more than `least`. NaN is never better."""
        if math.isnan(value):
            return False
        return best is None or (value < best - least if self.direction() == "min" else value > best + least)


@dataclass
class EarlyStopping(Monitor):
    """Ends training when `monitor` has not improved by more than `min_delta` for `patience` epochs in a row.

    With `restore_best` (the default) the model has the weights of the best epoch when `fit` returns.
    Afterwards `best`, `best_epoch` and `stopped_epoch` (None when it did not stop) say how it went; each `fit` starts anew.

    Reference: Prechelt, 1998.

    >>> from graphnn import nn
    >>> from graphnn.nn.callbacks import as_callback
    >>> as_callback("early_stopping(patience=3)") == nn.EarlyStopping("val_loss", patience=3)
    True
    """

    monitor: str = "val_loss"
    patience: int = 10
    min_delta: float = 0.0
    restore_best: bool = True
    mode: str = field(default="auto", kw_only=True)
    best: float | None = field(default=None, init=False, repr=False, compare=False)
    best_epoch: int | None = field(default=None, init=False, repr=False, compare=False)
    stopped_epoch: int | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.patience = as_count(self.patience, "EarlyStopping: patience")
        self._require(is_number(self.min_delta) and self.min_delta >= 0,
                      f"min_delta is {self.min_delta!r}; it must be at least 0")
        self._weights: dict[str, np.ndarray] | None = None
        self._bad = 0

    def on_train_begin(self, model: Model) -> None:
        self.best = self.best_epoch = self.stopped_epoch = self._weights = None
        self._bad = 0

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        value = self.watched(numbers)
        if self.improved(value, self.best, self.min_delta):
            self.best, self.best_epoch, self._bad = value, epoch, 0
            if self.restore_best:
                self._weights = model.get_weights()
            return
        self._bad += 1
        if self._bad >= self.patience:
            self.stopped_epoch = epoch
            model.stop_training = True

    def on_train_end(self, model: Model) -> None:
        if self._weights is not None:
            model.set_weights(self._weights)
            self._weights = None


@dataclass
class ModelCheckpoint(Monitor):
    """Saves the model after each epoch to `path`, a pattern with {epoch} and names of numbers: "net-{epoch:03d}-{loss:.3f}.gnn".

    With `save_best_only` it saves when `monitor` is better than ever before, also in an earlier `fit` of this callback. The
    file is replaced at once, so a crash leaves the last one whole; it holds what resuming needs unless `training` is False.
    Folders are made. `last_path` is the file written last, `best` the best number so far.

    >>> from graphnn import nn
    >>> nn.ModelCheckpoint("net-{epoch}.gnn", save_best_only=True).monitor
    'val_loss'
    """

    path: str
    monitor: str = "val_loss"
    save_best_only: bool = False
    training: bool = True
    mode: str = field(default="auto", kw_only=True)
    best: float | None = field(default=None, init=False, repr=False, compare=False)
    last_path: str | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._require_path()
        if self.save_best_only:
            super().__post_init__()
        self._names = self._fields()

    def _fields(self) -> list[str]:
        """The names in the pattern. Raises DescriptionError for what is no pattern."""
        try:
            parts = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(self.path) if name is not None]
            for name, spec in parts:
                self._require(name != "" and not set(name) & set(".[]{}"),
                              f"path is {self.path!r}: {{{name}}} is no name of a number")
                format(1 if name == "epoch" else 0.5, spec)
        except ValueError as error:
            if isinstance(error, DescriptionError):
                raise
            raise DescriptionError(f"ModelCheckpoint: path is {self.path!r}, no pattern: {error}") from error
        return [name for name, _ in parts]

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        if self.save_best_only:
            value = self.watched(numbers)
            if not self.improved(value, self.best):
                return
            self.best = value
        known = {**numbers, "epoch": epoch}
        for name in self._names:
            if name not in known:
                raise VerifyError(f"ModelCheckpoint: path is {self.path!r}; there is no {name!r} among this training's numbers: "
                                  f"{', '.join(known)}")
        path = string.Formatter().vformat(self.path, (), known)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        model.save(path, training=self.training)
        self.last_path = path


@dataclass
class CSVLogger(Callback):
    """Writes each epoch's numbers as a line of a CSV file as soon as they are known. `append` goes on with a file that is there.

    The first line names the columns, "epoch" first. A number that comes later gets a column of its own, empty before.

    >>> from graphnn import nn
    >>> nn.CSVLogger("log.csv", append=True)
    CSVLogger(path='log.csv', append=True)
    """

    path: str
    append: bool = False

    def __post_init__(self) -> None:
        self._require_path()
        self._columns: list[str] | None = None

    def on_train_begin(self, model: Model) -> None:
        self._columns = None
        path = Path(self.path)
        if self.append and path.exists() and path.stat().st_size:
            self._columns = self._read()[0]
            if not self._columns or self._columns[0] != "epoch":
                raise VerifyError(f"CSVLogger: {self.path} is no log: its first line does not start with 'epoch'",
                                  hint="give another path, or append=False to write it anew")
            if not path.read_bytes().endswith(b"\n"):                       # a line that a crash cut off
                with open(path, "a", encoding="utf-8") as file:
                    file.write("\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        columns = list(dict.fromkeys([*(self._columns or ["epoch"]), *numbers]))
        if columns != self._columns:
            self._rewrite(columns)
        row = {"epoch": epoch, **{name: float(value) for name, value in numbers.items()}}
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([row.get(name, "") for name in columns])

    def _read(self) -> list[list[str]]:
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def _rewrite(self, columns: list[str]) -> None:
        """The file with these columns, put in place at once."""
        rows = self._read()[1:]
        new = f"{self.path}.{os.getpid()}.new"
        with open(new, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *(row + [""] * (len(columns) - len(row)) for row in rows)])
        os.replace(new, self.path)
        self._columns = columns


@dataclass
class LearningRateLogger(Callback):
    """Adds the learning rate after each epoch to the history and to the numbers that later callbacks see, as `name`.

    >>> from graphnn import nn
    >>> nn.LearningRateLogger()
    LearningRateLogger(name='lr')
    """

    name: str = "lr"

    def __post_init__(self) -> None:
        self._require(isinstance(self.name, str) and self.name != "", f"name is {self.name!r}; it must be a string")

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        rate = float(model.state[rate_name(model)])
        model.history.amend({self.name: rate})
        if isinstance(numbers, MutableMapping):
            numbers[self.name] = rate


@dataclass
class TerminateOnNaN(Callback):
    """Ends training at the first batch whose loss is NaN or infinite, with a RuntimeWarning that names epoch and step.

    >>> from graphnn.nn.callbacks import as_callback
    >>> as_callback("Terminate on NaN")
    TerminateOnNaN()
    """

    def __post_init__(self) -> None:
        self._epoch = 0

    def on_epoch_begin(self, model: Model, epoch: int) -> None:
        self._epoch = epoch

    def on_batch_end(self, model: Model, step: int, numbers: Numbers) -> None:
        if not math.isfinite(numbers["loss"]):
            model.stop_training = True
            warnings.warn(f"the loss of {model.name!r} is {float(numbers['loss'])} at epoch {self._epoch}, step {step}: "
                          "training ends", RuntimeWarning, stacklevel=2)


@dataclass
class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by `factor` when `monitor` has not improved for more than `patience` epochs.

    Better means by more than `threshold`, of the best ("rel") or as it is ("abs"). For `cooldown` epochs after that no epoch
    counts as bad. The rate stays at least `min_lr`, and a change below `eps` is not made. Each `fit` starts anew. Needs an
    optimiser with a learning rate of its own: a scheduler would set it at every step.

    >>> from graphnn import nn
    >>> nn.ReduceLROnPlateau(patience=2, factor=0.5).factor
    0.5
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8
    mode: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rule = self._new_rule()

    def _new_rule(self) -> PlateauRule:
        return PlateauRule(mode=self.direction(), factor=self.factor, patience=self.patience, threshold=self.threshold,
                           threshold_mode=self.threshold_mode, cooldown=self.cooldown, min_lr=self.min_lr, eps=self.eps)

    def on_train_begin(self, model: Model) -> None:
        rate = optimizer_of(model).lr
        if isinstance(rate, Scheduler):
            raise UnsupportedError(f"ReduceLROnPlateau: the learning rate is set at every step by {type(rate).__name__}",
                                   hint="give the optimizer a number as its lr")
        self._rule = self._new_rule()

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        name = rate_name(model)
        rate = float(model.state[name])
        new = self._rule.update(self.watched(numbers), rate)
        if new != rate:
            model.state[name] = new


# ------------------------------------------------------------------------------------------------ what fit uses

BY_NAME: dict[str, type[Callback]] = {
    "early_stopping": EarlyStopping,
    "model_checkpoint": ModelCheckpoint,
    "csv_logger": CSVLogger,
    "learning_rate_logger": LearningRateLogger,
    "terminate_on_nan": TerminateOnNaN,
    "reduce_lr_on_plateau": ReduceLROnPlateau,
}


def as_callback(callback: Any) -> Any:
    """The callback meant by an object with some of the methods, a function (model, epoch, numbers), a string such as
    "early_stopping(patience=3)", or a dictionary.

    >>> as_callback({"name": "csv_logger", "path": "log.csv"})
    CSVLogger(path='log.csv', append=False)
    """
    if not isinstance(callback, (type, str, Mapping)):
        if any(callable(getattr(callback, event, None)) for event in EVENTS):
            return callback
        if callable(callback):
            return FunctionCallback(callback)
    return make(callback, BY_NAME, Callback, "callback")


class Callbacks:
    """All callbacks of a `fit`, called in order."""

    def __init__(self, callbacks: Any = ()) -> None:
        several = isinstance(callbacks, Iterable) and not isinstance(callbacks, (str, Mapping))
        self.all = [as_callback(callback) for callback in (callbacks if several else [callbacks])]
        self._methods = {event: [getattr(c, event) for c in self.all if _answers(c, event)] for event in EVENTS}

    @property
    def watch_batches(self) -> bool:
        """Whether any wants to know of single batches."""
        return bool(self._methods["on_batch_end"])

    def call(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of each callback that has it."""
        for method in self._methods[event]:
            method(*arguments)


def _answers(callback: Any, event: str) -> bool:
    """Whether a callback has a method of its own for this event."""
    method = getattr(type(callback), event, None)
    return method is not getattr(Callback, event) and callable(getattr(callback, event, None))


def optimizer_of(model: Model) -> Any:
    """The optimiser that the model was compiled with, or that a network of the zoo was made with."""
    training: Any = getattr(model, "_training", model)
    assert training is not None, "a callback is called by fit, which needs compile"
    return training.optimizer


def rate_name(model: Model) -> str:
    """The name of the state that holds the learning rate."""
    return f"{optimizer_of(model).label}/lr"
