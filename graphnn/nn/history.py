"""History: what training reached, epoch by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graphnn.errors import FileFormatError, UnsupportedError, VerifyError

NAN = math.nan


class History:
    """Columns of numbers, one a named quantity ("loss", "accuracy", "val_loss", ...), one row an epoch.

    `history["loss"]` is a list; `history.to_csv(path)`, `history.plot(path)` (needs matplotlib: the extra `train`).

    >>> history = History({"loss": [0.9, 0.4, 0.5]})
    >>> history["loss"][-1], history.best("loss")
    (0.5, (2, 0.4))
    """

    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        self.columns: dict[str, list[float]] = {name: [float(v) for v in values] for name, values in (columns or {}).items()}
        for values in self.columns.values():
            values += [NAN] * (len(self) - len(values))

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch. A quantity that is new starts with NaN for the epochs before."""
        rows = len(self)
        for name in dict.fromkeys([*self.columns, *row]):    # in order: a set's order changes from process to process
            self.columns.setdefault(name, [NAN] * rows).append(float(row.get(name, NAN)))

    def amend(self, row: Mapping[str, float]) -> None:
        """Add numbers to the last epoch. Raises VerifyError before the first."""
        if not len(self):
            raise VerifyError("the history has no epoch yet to which numbers could be added")
        for name, value in row.items():
            self.columns.setdefault(name, [NAN] * len(self))[-1] = float(value)

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.columns:
            raise VerifyError(f"the history has no {name!r}; it has {', '.join(self.columns) or 'nothing yet'}")
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        """The names of the columns."""
        return iter(self.columns)

    def __len__(self) -> int:
        """How many epochs."""
        return max((len(values) for values in self.columns.values()), default=0)

    def last(self) -> dict[str, float]:
        """The last epoch."""
        return {name: values[-1] for name, values in self.columns.items()} if len(self) else {}

    def best(self, name: str, mode: str = "min") -> tuple[int, float]:
        """The epoch (from 1) where a quantity was least, or greatest with mode="max", and what it was then.

        Of equal ones the first. NaN does not count: a VerifyError if there is nothing else.
        """
        if mode not in ("min", "max"):
            raise VerifyError(f"mode is {mode!r}; it is min or max")
        known = [(value, epoch) for epoch, value in enumerate(self[name], 1) if not math.isnan(value)]
        if not known:
            raise VerifyError(f"the history has no number for {name!r} yet")
        value, epoch = min(known, key=lambda pair: (pair[0] if mode == "min" else -pair[0], pair[1]))
        return epoch, value

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.last().items()) if len(self) else "empty"
        return f"<History of {len(self)} epochs: {numbers}>"

    # ------------------------------------------------------------------------------------------ files

    def to_csv(self, path: str | Path) -> None:
        """Write one line an epoch, the epoch first. `from_csv` reads the same numbers back."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *self.columns])
            for epoch in range(len(self)):
                writer.writerow([epoch + 1, *(values[epoch] for values in self.columns.values())])

    @classmethod
    def from_csv(cls, path: str | Path) -> History:
        """The history in a file by `to_csv` or CSVLogger. An empty field is NaN. Raises FileFormatError, naming the line."""
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileFormatError(f"{path}: no CSV file: {error}") from error
        names = rows[0] if rows else []
        if names[:1] != ["epoch"] or len(set(names)) != len(names):
            raise FileFormatError(f"{path}: no history: the first line {','.join(names)[:60]!r} must name columns, epoch first")
        columns: dict[str, list[float]] = {name: [] for name in names[1:]}
        for line, row in enumerate(rows[1:], 2):
            if len(row) != len(names):
                raise FileFormatError(f"{path}: line {line} has {len(row)} fields, the first line {len(names)}")
            for name, text in zip(names[1:], row[1:], strict=True):
                try:
                    columns[name].append(float(text) if text else NAN)
                except ValueError:
                    raise FileFormatError(f"{path}: line {line}: {name} is {text[:60]!r}, no number") from None
        return cls(columns)

    # ------------------------------------------------------------------------------------------ picture

    def plot(self, path: str | Path | None = None) -> Any:
        """A picture of every quantity, training and validation together; written to `path` if given. Returns matplotlib's figure.

        Raises VerifyError when there is nothing to draw, UnsupportedError without matplotlib.
        """
        if not len(self):
            raise VerifyError("the history is empty: there is nothing to draw")
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise UnsupportedError("History.plot needs matplotlib", hint="pip install 'graphnn[train]'") from None
        names = {name.removeprefix("val_") for name in self.columns}
        groups = sorted(names, key=lambda name: (name != "loss", not name.endswith("_loss"), name))
        wide = min(len(groups), 3)
        high = -(-len(groups) // wide)
        figure = Figure(figsize=(5 * wide, 3.6 * high), layout="constrained")
        for i, group in enumerate(groups):
            axes = figure.add_subplot(high, wide, i + 1)
            for name, label in ((group, "training"), (f"val_{group}", "validation")):
                if name in self.columns:
                    axes.plot(range(1, len(self) + 1), self.columns[name], marker="o", markersize=3, label=label)
            axes.set(xlabel="epoch", title=group)
            axes.legend()
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure
