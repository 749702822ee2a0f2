"""What a callback is, and the base of those that watch a number."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnn.errors import UnsupportedError, VerifyError
from graphnn.nn.described import DescriptionError, require_flags, same_letters
from graphnn.nn.metrics import BY_NAME as METRICS

if TYPE_CHECKING:
    from graphnn.nn.model import Model
    from graphnn.nn.optimisers import Optimizer

Numbers = Mapping[str, float]
EVENTS = ("on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end")


@dataclass
class Callback:
    """Base of callbacks: a method for each event, none of which does anything."""

    def check(self, numbers: MutableMapping[str, float]) -> None:
        """Before all else: raise VerifyError when this callback looks at a number that is not among those an epoch will have;
        put in those that it adds."""

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
        require_flags(self)
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

    def check(self, numbers: MutableMapping[str, float]) -> None:
        self.watched(numbers)

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


def optimizers_of(model: Model, callback: Callback) -> tuple[Optimizer, ...]:
    """The optimiser that the model was compiled with, or those of a network of the zoo. Raises UnsupportedError for none."""
    if hasattr(model, "_training"):
        assert model._training is not None, "a callback is called by fit, which needs compile"
        return (model._training.optimizer,)
    found = getattr(model, "optimizers", ())
    if not found:
        raise UnsupportedError(f"{type(callback).__name__}: {model.name} is trained without an optimizer, so without its rate")
    return found


def rate_name(optimizer: Optimizer) -> str:
    """The name of the state that holds the learning rate."""
    return f"{optimizer.label}/lr"
