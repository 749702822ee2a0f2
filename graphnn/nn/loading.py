"""load: whatever a model file holds, by what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphnn.files import load_file
from graphnn.nn import saving
from graphnn.nn.bundle import Bundle
from graphnn.nn.model import Model


def load(path: str | Path, *, backend: str = "numba") -> Model | Any:
    """The Model saved at `path`; or, of a file with graphs of other names, a Bundle of them, which are run by name:
    `gnn.load("gan.gnn").run("generate", noise)`.

    Files hold graphs and arrays, no code: neither needs the class or program that made it. Raises FileFormatError for what is
    no file of graphnn, or damaged.
    """
    file = load_file(path)
    if "model" in file.graphs:
        return saving.model_of(Model, file, path, backend=backend)
    return Bundle.of_file(file, path, backend=backend)
