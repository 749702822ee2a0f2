"""With how many threads a table runs fastest, learned from the times of its runs.

Results do not depend on the number of threads, so it is free to choose. A guess from sizes cannot know what a meeting of
threads costs here and now: on a shared machine it is 0.3 us while all cores are ours and a hundred times that while they are
not. So now and then a few runs are timed with the number in use and with half or twice as many, and the faster one stays.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter_ns

TRIED = 5
"""How many runs are timed with each of two numbers of threads; their medians are compared."""
_FIRST_REST, _LONGEST_REST = 8, 512     # runs between two comparisons
_DEAREST = 0.02                         # what comparisons in vain may cost: this part of the time between them
_BETTER = 0.97                          # a change must gain so much, or chance would make many
_LONG_NS = 10_000_000                   # so long a run gains from every thread, and is too dear to try with fewer


class Pace:
    """The number of threads for each run of one table: `count = pace.start()`, run with so many, `pace.stop()`.

    >>> pace = Pace(most=8, first=8)
    >>> pace.start()
    8
    """

    def __init__(self, most: int, first: int) -> None:
        """Choose from 1, 2, 4, ... and `most`; begin with the largest of these that is no larger than `first`."""
        self.most = most
        self._counts = [*(2**i for i in range(most.bit_length()) if 2**i < most), most]
        self._at = max(i for i, count in enumerate(self._counts) if count <= max(first, 1))
        self._step = -1 if self._at else 1               # where to try next
        self._interval = _FIRST_REST
        self._rest = self._interval                      # runs until the next comparison
        self._times: list[int] = []                      # with the number in use, then with the other
        self._began = 0

    @property
    def count(self) -> int:
        """The number in use."""
        return self._counts[self._at]

    def start(self) -> int:
        """How many threads this run should have."""
        if self._rest > 0 or self.most == 1:
            self._rest -= 1
            return self.count
        self._began = perf_counter_ns()
        return self._counts[self._at + self._step if len(self._times) >= TRIED else self._at]

    def stop(self) -> None:
        """That run is over."""
        if not self._began:
            return
        self._times.append(perf_counter_ns() - self._began)
        self._began = 0
        # The first run with another number finds cold caches and sleeping workers: it is timed and left out.
        if len(self._times) == TRIED and median(self._times) > _LONG_NS:
            self._settle(changed=False)
        elif len(self._times) == 2 * TRIED + 1:
            self._settle(changed=median(self._times[TRIED + 1 :]) < _BETTER * median(self._times[:TRIED]))

    def _settle(self, *, changed: bool) -> None:
        """End a comparison: go on in the same direction after a change, else turn round and come back later."""
        if changed:
            self._at += self._step
            self._interval = self._rest = _FIRST_REST
        else:
            self._step = -self._step
            self._interval = min(2 * self._interval, _LONGEST_REST)
            tried = self._times[TRIED:]
            usual = max(median(self._times[:TRIED]), 1.0)
            self._rest = max(self._interval, int((sum(tried) / usual - len(tried)) / _DEAREST))
        if not 0 <= self._at + self._step < len(self._counts):
            self._step = -self._step
        self._times.clear()
