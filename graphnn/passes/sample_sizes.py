"""How large values are, roughly: passes that weigh memory traffic count each symbolic size as a batch."""

from __future__ import annotations

from functools import lru_cache

from graphnn.errors import ShapeError
from graphnn.ir.types import TensorType

BATCH = 128


class _Everything(dict[str, int]):
    """Every name is a batch."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> int:
        return BATCH


@lru_cache(maxsize=4096)
def sample_nbytes(kind: TensorType) -> int:
    """Bytes rounded to cache lines, as an arena would; a size that is no size for the sample counts as one line."""
    try:
        nbytes = kind.bind(_Everything()).nbytes
    except ShapeError:
        return 64
    assert isinstance(nbytes, int)
    return -(-nbytes // 64) * 64
