"""History: what training reached, epoch by epoch."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphnn.errors import UnsupportedError, VerifyError


class History:
    """Columns of numbers, one a named quantity ("loss", "accuracy", "val_loss", ...), one row an epoch.

    `history["loss"]` is a list; `history.to_csv(path)`, `history.plot(path)` (needs matplotlib: the extra `train`).
    """

    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        self.columns: dict[str, list[float]] = {name: list(values) for name, values in (columns or {}).items()}

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch. A quantity that is new starts with NaN for the epochs before."""
        rows = len(self)
        for name in dict.fromkeys([*self.columns, *row]):    # in order: a set's order changes from process to process
            self.columns.setdefault(name, [float("nan")] * rows).append(float(row.get(name, float("nan"))))

    def amend(self, row: Mapping[str, float]) -> None:
        """Add numbers to the last epoch. Raises VerifyError before the first."""
        if not len(self):
            raise VerifyError("the history has no epoch yet to which numbers could be added")
        for name, value in row.items():
            self.columns.setdefault(name, [float("nan")] * len(self))[-1] = float(value)

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.columns:
            raise VerifyError(f"the history has no {name!r}; it has {', '.join(self.columns) or 'nothing yet'}")
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    def last(self) -> dict[str, float]:
        """The last epoch."""
        return {name: values[-1] for name, values in self.columns.items()}

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.last().items()) if len(self) else "empty"
        return f"<History of {len(self)} epochs: {numbers}>"

    def to_csv(self, path: str | Path) -> None:
        """Write one line an epoch."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *self.columns])
            for epoch in range(len(self)):
                writer.writerow([epoch + 1, *(values[epoch] for values in self.columns.values())])

    def plot(self, path: str | Path | None = None) -> Any:
        """A picture of every quantity; written to `path` if given. Returns matplotlib's figure."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise UnsupportedError("History.plot needs matplotlib", hint="pip install 'graphnn[train]'") from None
        groups = sorted({name.removeprefix("val_") for name in self.columns}, key=lambda name: (name != "loss", name))
        figure = Figure(figsize=(5 * max(1, len(groups)), 3.6), layout="constrained")
        for i, group in enumerate(groups):
            axes = figure.add_subplot(1, len(groups), i + 1)
            for name, label in ((group, "training"), (f"val_{group}", "validation")):
                if name in self.columns:
                    axes.plot(range(1, len(self) + 1), self.columns[name], marker="o", markersize=3, label=label)
            axes.set(xlabel="epoch", title=group)
            axes.legend()
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure
