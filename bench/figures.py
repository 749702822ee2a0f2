"""What a benchmark reports: a figure, its goal and whether it is met; and how two competitors take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One line of the table. `met` is None for a line that has no goal of its own."""

    what: str
    result: str
    goal: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: ""}[self.met]


def at_least(what: str, value: float, goal: float, detail: str = "", *, form: str = "{:.2f}x") -> Figure:
    """A figure that should be large."""
    return Figure(what, form.format(value) + (f" ({detail})" if detail else ""), "≥ " + form.format(goal), value >= goal)


def at_most(what: str, value: float, goal: float, detail: str = "", *, form: str = "{:.2f} s") -> Figure:
    """A figure that should be small."""
    return Figure(what, form.format(value) + (f" ({detail})" if detail else ""), "≤ " + form.format(goal), value <= goal)


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | measured | goal | |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {f.what} | {f.result} | {f.goal} | {f.verdict} |" for f in figures)])


def medians(*calls: Callable[[], object], seconds: float = 1.0, least: int = 15, slice_seconds: float = 0.002) -> list[float]:
    """The median time of a call of each, in seconds. They take turns: every turn lasts about `slice_seconds`, and the
    first call of a turn, which finds the caches full of the others' data, is not counted. Between turns all rest, so that
    no pool's threads spin for work while another is timed."""
    counts: list[int] = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        counts.append(max(1, round(slice_seconds / max(time.perf_counter() - start, 1e-9))))
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < least:
        for call, count, found in zip(calls, counts, times, strict=True):
            time.sleep(slice_seconds / 4)
            call()
            start = time.perf_counter()
            for _ in range(count):
                call()
            found.append((time.perf_counter() - start) / count)
    return [median(found) for found in times]
