"""Network: what the whole networks of the zoo share. Arguments as fields, graphs by name, `fit`, files.

A network is a dataclass whose fields are its arguments, and a Bundle: graphs by name that share a state. A subclass

- checks its arguments in `__post_init__` (after `super().__post_init__()`), objects given as strings or dictionaries included;
- writes its graphs when it knows the sizes of its data, and hands them to `self.add({"step": graph, "encode": graph})`;
- has a `fit` that checks its data first and calls `self._fit(run, epochs=...)`, where `run(epoch, done)` is a generator: it does
  the steps of an epoch but for the first `done`, and after each yields how many examples it had and its numbers;
- keeps all that training changes in the state, so that it is saved. Order and draws follow from `self.state.seed`, `epoch` and
  `done`, or from counts kept in the state: then a resumed run repeats them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self

import numpy as np

from graphnn.errors import DTypeError, ShapeError, UnsupportedError, VerifyError
from graphnn.ir.graph import Graph
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype
from graphnn.nn.arguments import as_count
from graphnn.nn.bundle import Bundle, as_numbers
from graphnn.nn.callbacks import Callbacks
from graphnn.nn.described import DescriptionError, to_dict
from graphnn.nn.door import as_array, as_declared, check_finite
from graphnn.nn.history import History
from graphnn.nn.layer import snake_case
from graphnn.nn.optimisers import Optimizer
from graphnn.nn.progress import Progress

Numbers = Mapping[str, Any]                              # floats, or arrays of one number
Run = Callable[[int, int], Iterator[tuple[int, Numbers]]]

PART = 256
"""How many examples a graph that only looks at them is given at a time: memory does not grow with how many there are."""

# Whether a network is made for a file, which has its graphs and arrays: it makes none, however large its arguments say they are.
_loading: ContextVar[bool] = ContextVar("graphnn_network_loading", default=False)


@dataclass(eq=False, repr=False)
class Network(Bundle):
    """Base of the zoo's networks. `seed` (default `gnn.seed`) is where all first values, orders and draws come from; `backend`
    is "numba" or "numpy".

    `history` has a row an epoch, `epoch` is how many there were. `save` writes one file with graphs, arrays, arguments and,
    unless `training=False`, what resuming needs; `load` of the same class goes on bit for bit, also in the middle of an epoch.
    `gnn.load` gives the graphs without the class, as a Bundle. Callbacks are those of `Model.fit`.
    """

    seed: int | None = field(default=None, kw_only=True)
    backend: str = field(default="numba", kw_only=True)

    def __post_init__(self) -> None:
        Bundle.__init__(self, name=snake_case(type(self).__name__), seed=self.seed, backend=self.backend)
        self.stop_training = False                       # set by callbacks
        self._done = 0                                   # steps of an epoch that is not at its end
        self._sums: dict[str, list[float]] = {}          # its numbers so far: sum over examples, examples

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimisers that train it, none for a network whose steps are its own: whose rates callbacks look at."""
        optimizer = getattr(self, "optimizer", None)
        return () if optimizer is None else (optimizer,)

    # ------------------------------------------------------------------------------------------ training

    def _fit(self, run: Run, *, epochs: int, examples: int | None, validate: Callable[[], Numbers] | None = None,
             callbacks: Any = (), verbose: bool = True) -> History:
        """Train for `epochs` more epochs, of which one that was interrupted is the first; the history of all so far.

        Numbers of an epoch are the means over its examples. `validate` gives more of them after each epoch.
        """
        epochs, called = as_count(epochs, f"{self.name}: epochs", 0), Callbacks(callbacks)
        self.stop_training = False
        called.call("on_train_begin", self)
        with Progress(epochs, examples, first_epoch=self.epoch, verbose=verbose) as progress:
            for epoch in range(self.epoch, self.epoch + epochs):
                if self.stop_training:
                    break
                called.call("on_epoch_begin", self, epoch + 1)
                progress.start_epoch(epoch)
                for count, numbers in run(epoch, self._done):
                    self._done += 1
                    for name, number in numbers.items():
                        sums = self._sums.setdefault(name, [0.0, 0])
                        sums[0] += float(number) * count
                        sums[1] += count
                    progress.step(self._examples(), self._means)
                    if called.watch_batches:
                        called.call("on_batch_end", self, self._done, {name: float(n) for name, n in numbers.items()})
                        if self.stop_training:
                            break
                means, count = self._means(), self._examples()
                if validate is not None:
                    means |= {f"val_{name}": float(number) for name, number in validate().items()}
                self.epoch, self._done, self._sums = epoch + 1, 0, {}
                self.history.append(means)
                progress.end_epoch(means, count)
                called.call("on_epoch_end", self, epoch + 1, means)
        called.call("on_train_end", self)
        return self.history

    def _means(self) -> dict[str, float]:
        return {name: total / max(count, 1) for name, (total, count) in self._sums.items()}

    def _examples(self) -> int:
        return int(max((count for _, count in self._sums.values()), default=0))

    def _graph(self, name: str) -> Graph:
        if not self.graphs:
            raise VerifyError(f"{self.name} has no graphs yet: what they are depends on the data", hint="call fit first")
        return super()._graph(name)

    def _in_parts(self, name: str, x: Any) -> list[np.ndarray]:
        """The outputs of a graph of one input for all examples of x, PART at a time. Raises as `run` does."""
        (value,), exe = self._graph(name).by_role("input"), self[name]
        x = as_declared(x, value.type, f"input {value.name!r}")
        parts = [exe(x[start : start + PART]) for start in range(0, max(len(x), 1), PART)]
        several = [part if isinstance(part, tuple) else (part,) for part in parts]
        return [np.concatenate(each) for each in zip(*several, strict=True)]

    def add(self, graphs: Mapping[str, Graph]) -> None:
        if not _loading.get():
            super().add(graphs)

    # ------------------------------------------------------------------------------------------ files

    def _facts(self) -> dict[str, Any]:
        return {"network": type(self).__name__, "arguments": self.arguments()}

    def _training_facts(self) -> dict[str, Any]:
        return {"done": self._done, "sums": self._sums}

    @classmethod
    def _of_facts(cls, meta: Mapping[str, Any], backend: str) -> Self:
        if meta.get("network") != cls.__name__:
            raise VerifyError(f"it holds a {meta.get('network', 'network of another kind')}",
                              hint="gnn.load reads the graphs of any network")
        token = _loading.set(True)
        try:
            return cls(**{**meta["arguments"], "backend": backend})
        finally:
            _loading.reset(token)

    def _take_facts(self, meta: Mapping[str, Any], train: Mapping[str, Any]) -> None:
        self._done = as_count(train.get("done", 0), "the number of steps done", 0)
        self._sums = as_numbers(train.get("sums", {}), "the sums of an epoch")

    def arguments(self) -> dict[str, Any]:
        """The arguments that the network was made with, as numbers, strings, lists and dictionaries: `type(net)(**arguments)`
        makes one like it. Raises UnsupportedError for one that is code."""
        found = {}
        for f in fields(self):
            if f.init and f.name != "backend":
                try:
                    found[f.name] = _plain(getattr(self, f.name))
                except DescriptionError:
                    raise UnsupportedError(f"{type(self).__name__}: {f.name} is {getattr(self, f.name)!r}, and a file holds "
                                           "no code") from None
        return found

    def __repr__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self)
                 if f.init and (f.default is MISSING or getattr(self, f.name) != f.default)]
        return f"{type(self).__name__}({', '.join(given)})"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return to_dict(value)


def as_real(dtype: DTypeLike, what: str) -> str:
    """The name of a dtype of real numbers, "f32" or "f64". Raises DTypeError."""
    found = as_dtype(dtype)
    if not found.is_float:
        raise DTypeError(f"{what} is {found}; it is f32 or f64")
    return str(found)


def as_examples(x: Any, shape: Sequence[int | None] | None, what: str, dtype: DTypeLike = DType.f32) -> np.ndarray:
    """x as an array [N, *shape] of this dtype, N at least 1 and all numbers finite. Of a size that is None, and of shape None,
    anything will do.

    Raises ShapeError, DTypeError or NumericsError, naming `what`.
    """
    given = as_array(x, what)
    if given.ndim < 2 or (shape is not None and (given.ndim != 1 + len(shape) or any(
            size not in (None, actual) for size, actual in zip(shape, given.shape[1:], strict=True)))):
        sizes = "..." if shape is None else ", ".join("any" if size is None else str(size) for size in shape)
        hint = "add an axis of channels: x[..., None]" if shape is not None and given.ndim == len(shape) == 3 else None
        raise ShapeError(f"{what} has shape {given.shape}; it must be (N, {sizes})", hint=hint)
    if 0 in given.shape:
        raise ShapeError(f"{what} has shape {given.shape}: it is empty")
    check_finite(given, what)
    return np.ascontiguousarray(as_declared(given, TensorType(as_dtype(dtype), given.shape), what))
