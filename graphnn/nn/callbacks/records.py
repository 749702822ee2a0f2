"""Callbacks that write down what happens: checkpoints, tables, learning rates."""

from __future__ import annotations

import csv
import math
import os
import string
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from graphnn.errors import VerifyError
from graphnn.nn.callbacks.callback import Callback, Monitor, Numbers, optimizers_of, rate_name
from graphnn.nn.described import DescriptionError, require_flags

if TYPE_CHECKING:
    from graphnn.nn.model import Model


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
        require_flags(self)
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

    def check(self, numbers: MutableMapping[str, float]) -> None:
        if self.save_best_only:
            super().check(numbers)
        self._file(0, numbers)

    def _file(self, epoch: int, numbers: Numbers) -> str:
        """The path of an epoch's file. Raises VerifyError for a number that there is not."""
        known = {**numbers, "epoch": epoch}
        for name in self._names:
            if name not in known:
                raise VerifyError(f"ModelCheckpoint: path is {self.path!r}; there is no {name!r} among this training's numbers: "
                                  f"{', '.join(known)}")
        return string.Formatter().vformat(self.path, (), known)

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        if self.save_best_only:
            value = self.watched(numbers)
            if not self.improved(value, self.best):
                return
            self.best = value
        path = self._file(epoch, numbers)
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
        require_flags(self)
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

    Of a network with several optimisers each has a column: critic_lr, generator_lr.

    >>> from graphnn import nn
    >>> nn.LearningRateLogger()
    LearningRateLogger(name='lr')
    """

    name: str = "lr"

    def __post_init__(self) -> None:
        self._require(isinstance(self.name, str) and self.name != "", f"name is {self.name!r}; it must be a string")

    def check(self, numbers: MutableMapping[str, float]) -> None:
        numbers[self.name] = math.nan

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        found = optimizers_of(model, self)
        rates = {self.name if len(found) == 1 else f"{optimizer.label.removesuffix('_optimizer')}_{self.name}":
                 float(model.state[rate_name(optimizer)]) for optimizer in found}
        model.history.amend(rates)
        if isinstance(numbers, MutableMapping):
            numbers.update(rates)
