"""minibatch: the examples of an epoch in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphnn.errors import ShapeError
from graphnn.nn.arguments import as_count, as_flag


def minibatch(x: Any, batch_size: int = 256, shuffle: bool = True, *,
              rng: np.random.Generator | None = None) -> tuple[Iterator[np.ndarray], int]:
    """(an iterator over arrays of indices into x, how many there are): ceil(len(x) / batch_size), of which the last may be short.

    Each index comes once: in order, or with `shuffle` as `rng` puts them. Raises ShapeError when batch_size is not positive, or
    when there is no rng to shuffle with.

    >>> import numpy as np
    >>> from graphnn.nn import utils
    >>> batches, count = utils.minibatch(np.zeros((10, 3)), batch_size=4, rng=np.random.default_rng(0))
    >>> count, [len(batch) for batch in batches]
    (3, [4, 4, 2])
    """
    if not hasattr(x, "__len__") or getattr(x, "shape", (1,)) == ():
        raise ShapeError(f"x is a {type(x).__name__}; it must be an array or sequence of examples")
    batch_size, size = as_count(batch_size, "batch_size"), len(x)
    if as_flag(shuffle, "shuffle") and not isinstance(rng, np.random.Generator):
        raise ShapeError(f"rng is {rng!r}; shuffling needs a generator, as np.random.default_rng(0)")
    order = rng.permutation(size) if shuffle and rng is not None else np.arange(size)
    return (order[start:start + batch_size] for start in range(0, size, batch_size)), -(-size // batch_size)
