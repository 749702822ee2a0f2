"""How many threads a table runs with, against machines of which the times are known."""

from collections.abc import Callable

import numpy as np
import pytest

from graphnn.runtime import pace as pace_module
from graphnn.runtime.pace import Pace


class Machine:
    """Runs that take the time a formula says, on a clock of its own."""

    def __init__(self, monkeypatch, ns: Callable[[int], float], noise: float = 0.0) -> None:
        self.now, self.ns, self.noise = 1, ns, noise
        self.rng = np.random.default_rng(0)
        monkeypatch.setattr(pace_module, "perf_counter_ns", lambda: self.now)

    def run(self, pace: Pace, times: int) -> tuple[list[int], float]:
        """The numbers of threads of so many runs, and the nanoseconds of all."""
        counts, before = [], self.now
        for _ in range(times):
            counts.append(pace.start())
            self.now += int(self.ns(counts[-1]) * (1 + self.noise * self.rng.exponential()))
            pace.stop()
        return counts, self.now - before


def work(serial: float, shared: float, meeting: float) -> Callable[[int], float]:
    """Nanoseconds of a run with some threads: a part for one, a part for all, and a meeting that costs more with each."""
    return lambda count: serial + shared / count + meeting * (count - 1)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 64])
@pytest.mark.parametrize("first", [1, 2, 1000])
@pytest.mark.parametrize("shape", [work(1e3, 1e6, 10), work(2e4, 1e4, 3e4), work(1e3, 1e5, 2e3)],
                         ids=["wide", "narrow", "between"])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_it_settles_on_the_fastest_of_its_numbers(most, first, shape, noise, monkeypatch):
    machine, pace = Machine(monkeypatch, shape, noise), Pace(most, first)
    counts, _ = machine.run(pace, 20_000)
    assert set(counts) <= {1, 2, 4, 8, 16, 32, most}
    assert max(counts) <= most
    best = min(shape(c) for c in {2**i for i in range(7) if 2**i <= most} | {most})
    used = max(set(counts[-5000:]), key=counts[-5000:].count)
    assert shape(used) <= 1.1 * best


def test_it_follows_a_machine_that_changes(monkeypatch):
    """A neighbour takes the other core, then leaves."""
    free, taken = work(1e3, 5e4, 500), work(1e3, 5e4, 5e4)
    machine, pace = Machine(monkeypatch, free), Pace(2, 2)
    for shape, best in ((free, 2), (taken, 1), (free, 2), (taken, 1)):
        machine.ns = shape
        counts, _ = machine.run(pace, 10_000)
        assert counts[-100:].count(best) > 80


def test_what_comparisons_in_vain_cost(monkeypatch):
    """Even where the other number takes a hundred times as long: some percent."""
    machine, pace = Machine(monkeypatch, lambda count: 4e4 if count == 1 else 4e6), Pace(2, 1)
    _, total = machine.run(pace, 200_000)
    assert total < 1.03 * 200_000 * 4e4


def test_long_runs_are_not_tried_with_fewer_threads(monkeypatch):
    machine, pace = Machine(monkeypatch, lambda count: 1e9 / count), Pace(4, 4)
    assert set(machine.run(pace, 500)[0]) == {4}
