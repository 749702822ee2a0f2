"""Progress of training: a bar on a terminal where rich is installed, else a plain line an epoch, on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


class Progress:
    """Shows loss, metrics, examples a second and the time left. Used as a context manager around `fit`.

    `examples` is how many an epoch has, None while that is not known. Nothing is shown unless `verbose`.
    """

    def __init__(self, epochs: int, examples: int | None, *, first_epoch: int = 0, verbose: bool = True) -> None:
        self.epochs, self.examples, self.first = epochs, examples, first_epoch
        self.verbose = verbose and sys.stdout is not None
        self._bar: Any = None
        self._shown = 0.0

    def __enter__(self) -> Progress:
        if self.verbose and sys.stdout.isatty():
            self._bar = _rich_bar()
            if self._bar is not None:
                self._task = self._bar.add_task("", total=self.examples, numbers="", rate="")
                self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start_epoch(self, epoch: int) -> None:
        """Before the first batch of an epoch, the first being 0."""
        self._began = time.perf_counter()
        self._left = self.first + self.epochs - epoch - 1
        self._title = f"epoch {epoch + 1}/{self.first + self.epochs}"
        if self._bar is not None:
            self._bar.reset(self._task, total=self.examples, description=self._title, numbers="", rate="")

    def step(self, done: int, values: Callable[[], Mapping[str, float]]) -> None:
        """After each batch; drawn ten times a second at most, and `values` is called only then."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._shown < 0.1:
            return
        self._shown = now
        self._bar.update(self._task, completed=done, numbers=_numbers(values()), rate=_rate(done, now - self._began))

    def end_epoch(self, values: Mapping[str, float], examples: int) -> None:
        """After an epoch of so many examples."""
        self.examples = examples
        if not self.verbose:
            return
        taken = time.perf_counter() - self._began
        line = f"{self._title}  {_numbers(values)}  {_rate(examples, taken)}  {_duration(self._left * taken)} left"
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _numbers(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e5 else f"{name} {value:.3e}"
                     for name, value in values.items())


def _rate(examples: int, seconds: float) -> str:
    return f"{examples / max(seconds, 1e-9):,.0f} examples/s"


def _duration(seconds: float) -> str:
    """As people say it: "4.2 s", "3 min 5 s", "2 h 40 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _rich_bar() -> Any:
    """A bar that goes away when it stops; the lines of the epochs stay above it. None without rich."""
    try:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
    except ImportError:
        return None
    return RichProgress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}", markup=False),
                        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), transient=True)
