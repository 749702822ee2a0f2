"""Filed: what can be saved can be pickled and copied, as the bytes of its file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any


class Filed:
    """Base of what has `save(path)`, `load(path, backend=)` and a `backend`. `pickle` and `copy` make another of its file: graph,
    arrays, and what resuming needs. What no file can hold, such as a loss that is a function, is the error that `save` raises."""

    backend: str

    def save(self, path: str | Path) -> None:
        raise NotImplementedError(f"{type(self).__name__}.save")

    @classmethod
    def load(cls, path: str | Path, *, backend: str = "numba") -> Any:
        raise NotImplementedError(f"{cls.__name__}.load")

    def __reduce__(self) -> tuple[Any, ...]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "copy.gnn"
            self.save(path)
            return _read, (type(self), path.read_bytes(), self.backend)


def _read(cls: type[Filed], content: bytes, backend: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.gnn"
        path.write_bytes(content)
        return cls.load(path, backend=backend)
