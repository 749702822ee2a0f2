"""Progress of training: a bar on a terminal where rich is installed, else a plain line an epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def _numbers(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())


class Progress:
    """Shows loss, metrics, examples a second and the time left. Used as a context manager around `fit`. `examples` is how many an
    epoch has, None while that is not known."""

    def __init__(self, epochs: int, examples: int | None, *, first_epoch: int = 0, verbose: bool = True) -> None:
        self.epochs, self.examples, self.first = epochs, examples, first_epoch
        self.verbose = verbose
        self._bar: Any = None
        self._shown = 0.0

    def __enter__(self) -> Progress:
        if self.verbose and sys.stderr.isatty():
            self._bar = _rich_bar()
            if self._bar is not None:
                self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start_epoch(self, epoch: int) -> None:
        self._began = time.perf_counter()
        self._left = self.first + self.epochs - epoch - 1
        self._title = f"epoch {epoch + 1}/{self.first + self.epochs}"
        if self._bar is not None:
            self._task = self._bar.add_task(self._title, total=self.examples, numbers="", rate="")

    def step(self, done: int, values: Callable[[], Mapping[str, float]]) -> None:
        """After each batch; drawn ten times a second at most, and `values` is called only then."""
        now = time.perf_counter()
        if self._bar is None or now - self._shown < 0.1:
            return
        self._shown = now
        rate = done / max(now - self._began, 1e-9)
        self._bar.update(self._task, completed=done, numbers=_numbers(values()), rate=f"{rate:,.0f} examples/s")

    def end_epoch(self, values: Mapping[str, float], examples: int) -> None:
        """After an epoch of so many examples."""
        self.examples = examples
        taken = time.perf_counter() - self._began
        rate = self.examples / max(taken, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.examples, numbers=_numbers(values), rate=f"{rate:,.0f} examples/s")
        elif self.verbose:
            left = f"{self._left * taken:.1f} s left"
            print(f"{self._title}  {_numbers(values)}  {rate:,.0f} examples/s  {left}", flush=True)


def _rich_bar() -> Any:
    try:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
    except ImportError:
        return None
    return RichProgress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"),
                        TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
