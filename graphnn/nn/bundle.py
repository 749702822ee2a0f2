"""Bundle: graphs by name that share one state. What `gnn.load` gives for a file of several graphs, such as a GAN's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from graphnn.errors import FileFormatError, GraphnnError, ShapeError, VerifyError
from graphnn.files import ModelFile, load_file, save_file
from graphnn.inspect.summary import summary
from graphnn.ir.graph import Graph, Value
from graphnn.ir.modes import trains
from graphnn.ir.verify import verify
from graphnn.nn.arguments import as_count
from graphnn.nn.door import as_declared
from graphnn.nn.filed import Filed
from graphnn.nn.history import History
from graphnn.nn.layer import keep_paths
from graphnn.nn.weights import set_weights, weight_values
from graphnn.runtime.compile import check_backend, compile_graph
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State


class Bundle(Filed):
    """Graphs by name with the state that they share. `bundle["decode"](codes)` runs one; it is compiled at the first use.

    `graphs` are the graphs, `state` the arrays, `history` and `epoch` how far training had come. A graph that updates parameters
    trains, all others evaluate. `save` writes one file, which `gnn.load` reads wherever graphnn is, without the class that
    made it.

    >>> import graphnn as gnn
    >>> from graphnn.nn import Bundle
    >>> x = gnn.Input((), name="x")
    >>> w = gnn.parameter("w", (), gnn.nn.Ones())
    >>> graphs = {"scaled": gnn.Graph.of("scaled", [x], [w * x]), "grow": gnn.Graph.of("grow", [], [w], updates=[(w, w + 1.0)])}
    >>> bundle = Bundle(graphs, name="growing")
    >>> bundle["grow"](), bundle.run("scaled", [3.0]).tolist()
    (array(1., dtype=float32), [6.0])
    """

    def __init__(self, graphs: Mapping[str, Graph] | None = None, *, name: str = "bundle", state: State | None = None,
                 seed: int | None = None, backend: str = "numba") -> None:
        check_backend(backend)
        self.name, self.backend = name, backend
        self.state = State(seed) if state is None else state
        self.graphs: dict[str, Graph] = {}
        self.history = History()
        self.epoch = 0
        self.meta: dict[str, Any] = {}                   # what the file said of itself, and of its training
        self._trained: dict[str, Any] = {}
        self._executables: dict[str, Executable] = {}
        self.add(graphs or {})

    def add(self, graphs: Mapping[str, Graph]) -> None:
        """Take in graphs under names of their own; their parameters and states are made. Raises VerifyError for a bad one."""
        for name, graph in graphs.items():
            verify(graph)
            if name in self.graphs:
                raise VerifyError(f"{self.name} has a graph {name!r} already")
        for name, graph in graphs.items():
            self.state.add(graph)
            self.graphs[name] = graph
            keep_paths(graph)

    # ------------------------------------------------------------------------------------------ running

    def __getitem__(self, name: str) -> Executable:
        """The graph of this name, compiled."""
        if name not in self._executables:
            self._executables[name] = compile_graph(self._graph(name), state=self.state, backend=self.backend)
        return self._executables[name]

    def __contains__(self, name: str) -> bool:
        return name in self.graphs

    def __iter__(self) -> Iterator[str]:
        return iter(self.graphs)

    def run(self, name: str, *arrays: Any) -> Any:
        """A graph's outputs for arrays or lists, which are converted to the declared dtypes. Raises as `Model.predict` does."""
        inputs = self._graph(name).by_role("input")
        if len(arrays) != len(inputs):
            raise VerifyError(f"{name} takes {len(inputs)} arrays ({', '.join(v.name for v in inputs)}), not {len(arrays)}")
        return self[name](*(as_declared(array, value.type, f"input {value.name!r}")
                            for array, value in zip(arrays, inputs, strict=True)))

    def _graph(self, name: str) -> Graph:
        if name not in self.graphs:
            raise VerifyError(f"{self.name} has no graph {name!r}; it has {', '.join(self.graphs) or 'none yet'}")
        return self.graphs[name]

    # ------------------------------------------------------------------------------------------ weights

    @property
    def parameters(self) -> tuple[Value, ...]:
        """The parameters of all graphs, each once."""
        return tuple({value.name: value for graph in self.graphs.values() for value in graph.by_role("param")}.values())

    def _weights(self) -> dict[str, Value]:
        """Parameters, and what layers keep beside them; not an optimiser's states, which only training graphs have."""
        found = {value.name: value for value in self.parameters}
        for graph in self.graphs.values():
            if not trains(graph):
                found |= weight_values(graph)
        return found

    def get_weights(self) -> dict[str, np.ndarray]:
        """Copies of all parameters, by name, and of what layers keep beside them, such as running statistics."""
        return self.state.arrays(self._weights())

    def set_weights(self, arrays: Mapping[str, Any] | str | Path) -> None:
        """Take over what `get_weights` gave, or an .npz file of it. All are written, or none. Raises as `Model.set_weights`."""
        set_weights(self._weights(), self.state, arrays)

    # ------------------------------------------------------------------------------------------ files

    def save(self, path: str | Path, *, training: bool = True) -> None:
        """Write graphs and arrays to one file; without `training`, only the graphs that do not train and what they read.

        The file holds no code. It is replaced at once: a crash or a full disk leaves the old one as it was.
        """
        graphs = {name: graph for name, graph in self.graphs.items() if training or not trains(graph)}
        read = {value.name for graph in graphs.values() for value in graph.inputs}
        arrays = {name: array for name, array in self.state.arrays().items() if training or name in read}
        train = {"epoch": self.epoch, "history": self.history.columns, **self._training_facts()} if training else None
        save_file(path, graphs=graphs, arrays=arrays, train=train,
                  meta={**self.meta, **self._facts(), "bundle": self.name, "seed": self.state.seed})

    @classmethod
    def load(cls, path: str | Path, *, backend: str = "numba") -> Self:
        """What is saved at `path`; training goes on where it was. Raises FileFormatError for a file of another kind."""
        return cls.of_file(load_file(path), path, backend=backend)

    @classmethod
    def of_file(cls, file: ModelFile, path: str | Path, *, backend: str = "numba") -> Self:
        """The content of a file that is read already."""
        check_backend(backend)
        meta, train = file.meta or {}, file.train or {}
        try:
            if not file.graphs:
                raise VerifyError("it holds no graph")
            made = cls._of_facts(meta, backend)
            made.state, made.graphs, made._executables = State(meta.get("seed", 0)), {}, {}
            made.state.restore(file.arrays)
            made.add(file.graphs)
            made.meta = dict(meta)
            made.epoch = as_count(train.get("epoch", 0), "the epoch", 0)
            made.history = History(as_numbers(train.get("history", {}), "the history"))
            made._take_facts(meta, train)
        except (GraphnnError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise FileFormatError(f"{path}: no {cls.__name__} can be made of it: {error}",
                                  hint=getattr(error, "hint", None)) from error
        return made

    @classmethod
    def _of_facts(cls, meta: Mapping[str, Any], backend: str) -> Self:
        """A new one, as the file's metadata describes it."""
        name = meta.get("bundle", "bundle")
        if not isinstance(name, str):
            raise VerifyError(f"the name is {name!r}")
        return cls(name=name, backend=backend)

    def _facts(self) -> dict[str, Any]:
        """What a file says besides graphs and arrays: numbers, strings, lists and maps."""
        return {}

    def _training_facts(self) -> dict[str, Any]:
        """The same for what only resuming needs."""
        return self._trained

    def _take_facts(self, meta: Mapping[str, Any], train: Mapping[str, Any]) -> None:
        """Take over what `_facts` and `_training_facts` gave."""
        self._trained = {name: value for name, value in train.items() if name not in ("epoch", "history")}

    # ------------------------------------------------------------------------------------------ looking inside

    def summary(self) -> str:
        """Print (and return) a table of the layers of each graph."""
        text = "\n\n".join(summary(graph) for graph in self.graphs.values())
        print(text)
        return text

    def plot(self, name: str, path: str | Path) -> None:
        """Draw the graph of this name as an SVG file. Needs no external program."""
        from graphnn.inspect.drawing import draw  # few processes draw, and it would be a tenth of `import graphnn`

        draw(self._graph(name), path)

    def __repr__(self) -> str:
        if not self.graphs:
            return f"<{type(self).__name__} {self.name}: no graphs yet>"
        return f"<{type(self).__name__} {self.name}: {', '.join(self.graphs)}; {len(self.parameters)} parameters>"


def as_numbers(value: Any, what: str) -> dict[str, list[float]]:
    """A map of lists of numbers out of a file. Raises ShapeError."""
    if not isinstance(value, Mapping) or not all(isinstance(v, list) for v in value.values()):
        raise ShapeError(f"{what} is {value!r}; it must be a map of lists")
    return {str(name): [float(v) for v in column] for name, column in value.items()}
