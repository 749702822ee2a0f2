"""Callbacks that end training."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graphnn.nn.arguments import as_count, is_number
from graphnn.nn.callbacks.callback import Callback, Monitor, Numbers

if TYPE_CHECKING:
    from graphnn.nn.model import Model


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
