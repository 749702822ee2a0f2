"""Weights by name: copies out of a model, into a model, and as .npz files that NumPy alone can read and write."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.errors import FileFormatError, VerifyError
from graphnn.files.atomic import write_atomically
from graphnn.ir.graph import Graph, Value
from graphnn.nn.door import as_declared
from graphnn.runtime.state import State

_DATE = (1980, 1, 1, 0, 0, 0)                            # the same weights give the same bytes


def weight_values(graph: Graph) -> dict[str, Value]:
    """The parameters of a graph, and what its layers keep beside them: running statistics, sparse patterns, tables. Seeds and
    counts of random numbers, which are whole numbers, are no weights."""
    states = (value for value in graph.by_role("state") if value.rank or value.dtype.is_float)
    return {value.name: value for value in (*graph.by_role("param"), *states)}


def set_weights(wanted: Mapping[str, Value], state: State, weights: Mapping[str, Any] | str | Path) -> None:
    """Write all weights that are wanted, or none. Raises for a name that is unknown or missing, a wrong shape or kind."""
    given = weights if isinstance(weights, Mapping) else read_npz(weights)
    missing, extra = [n for n in wanted if n not in given], [n for n in given if n not in wanted]
    if missing or extra:
        raise VerifyError(f"the weight {missing[0]!r} is missing" if missing else f"there is no weight {extra[0]!r}",
                          hint=f"the weights are {', '.join(wanted) or 'none'}; state.update(...) writes some of them")
    state.update({name: as_declared(given[name], value.type, f"the weight {name!r}") for name, value in wanted.items()})


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays by name as an uncompressed .npz file at exactly `path`, replaced in one step."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    write_atomically(path, [whole.getbuffer()])


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Raises FileFormatError for anything else, and for arrays of Python objects."""
    if not isinstance(path, (str, os.PathLike)):
        raise VerifyError(f"weights are a mapping from names to arrays, or the path of an .npz file, not a {type(path).__name__}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise FileFormatError(f"{path}: one array without a name, not an .npz file of weights")
        with loaded as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, KeyError) as error:
        if isinstance(error, FileFormatError):
            raise
        # NumPy takes every file it does not know for a pickle, and says how to open one: nobody should.
        reason = "it holds no arrays of numbers" if "pickle" in str(error) else error
        raise FileFormatError(f"{path}: not an .npz file of weights: {reason}") from error
