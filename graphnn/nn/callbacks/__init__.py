"""Callbacks: what `fit` calls between batches and epochs.

A callback is any object with some of the methods of `Callback`, or a function (model, epoch, numbers), which is called after
each epoch. Epochs and steps are counted from 1: `epoch` goes on where the last `fit` ended, `step` starts anew in each epoch.
`numbers` are the loss and metrics by name, of the batch or of the epoch, those of validation with "val_" before their names.
A callback ends training by `model.stop_training = True`: no further batch is taken then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from graphnn.nn.callbacks.callback import EVENTS, Callback, FunctionCallback
from graphnn.nn.callbacks.plateau import ReduceLROnPlateau
from graphnn.nn.callbacks.records import CSVLogger, LearningRateLogger, ModelCheckpoint
from graphnn.nn.callbacks.stopping import EarlyStopping, TerminateOnNaN
from graphnn.nn.described import make

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

    def check(self, numbers: MutableMapping[str, float]) -> None:
        """Raise VerifyError when one looks at a number that an epoch will not have. `numbers` are those it will have; what users'
        callbacks add is not known, so those after them are not checked."""
        for callback in self.all:
            if not type(callback).__module__.startswith("graphnn.") or isinstance(callback, FunctionCallback):
                return
            callback.check(numbers)

    def call(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of each callback that has it."""
        for method in self._methods[event]:
            method(*arguments)


def _answers(callback: Any, event: str) -> bool:
    """Whether a callback has a method of its own for this event."""
    method = getattr(type(callback), event, None)
    return method is not getattr(Callback, event) and callable(getattr(callback, event, None))
