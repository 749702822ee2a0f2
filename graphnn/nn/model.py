"""Model: a symbolic network with its state. Build, compile, fit, evaluate, predict, save, look inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.errors import FileFormatError, GraphnnError, ShapeError, UnsupportedError, VerifyError
from graphnn.files import load_file, save_file
from graphnn.inspect.profile import Profile
from graphnn.inspect.summary import summary
from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Value
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype, as_shape
from graphnn.ir.verify import verify
from graphnn.nn.arguments import as_count
from graphnn.nn.data import Gatherer, check_batch_size, epoch_order, minibatches
from graphnn.nn.door import as_array, as_declared, check_finite, common_length
from graphnn.nn.history import History
from graphnn.nn.losses import Loss, as_loss
from graphnn.nn.optimisers import Optimizer, as_optimiser
from graphnn.nn.progress import Progress
from graphnn.nn.training import Training
from graphnn.runtime.compile import BACKENDS, compile_graph
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State

Callback = Callable[["Model", int, Mapping[str, float]], None]
PREDICT_BATCH = 256


def Input(shape: Sequence[Size | str], name: str = "input", *, dtype: DTypeLike = DType.f32, batch: Size | str = "N") -> Value:
    """A symbolic input of one batch: `Input((28, 28, 1), name="image")` is f32[N,28,28,1].

    `shape` is the shape of one example; a string names a symbolic size. `batch` is the size of the first axis, symbolic by
    default so that one graph serves every batch size. Raises ShapeError for what is no size.
    """
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Iterable):
        raise ShapeError(f"Input: shape is {shape!r}; it is the shape of one example, a tuple", hint=f"use ({shape},)")
    return placeholder(name, TensorType(as_dtype(dtype), as_shape((batch, *shape))))


class Model:
    """A network from inputs to outputs, with the state that holds its parameters.

    `Model(x, y)` makes the parameters' first values (from `seed`, default `gnn.seed`). Models that share layers share
    parameters when they are given the same `state`.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((4,), name="x")
    >>> model = gnn.Model(x, nn.FullyConnected(3)(x), name="tiny")
    >>> model.predict([[1, 2, 3, 4]]).shape
    (1, 3)
    """

    def __init__(self, inputs: Value | Sequence[Value], outputs: Value | Sequence[Value], *, name: str = "model",
                 state: State | None = None, seed: int | None = None, backend: str = "numba") -> None:
        self.inputs = (inputs,) if isinstance(inputs, Value) else tuple(inputs)
        self.outputs = (outputs,) if isinstance(outputs, Value) else tuple(outputs)
        self._setup(Graph.of(name, self.inputs, self.outputs), State(seed) if state is None else state, backend)

    def _setup(self, graph: Graph, state: State, backend: str) -> None:
        if backend not in BACKENDS:
            raise UnsupportedError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")
        verify(graph)
        self.graph, self.state, self.backend = graph, state, backend
        self.state.add(graph)
        self.history = History()
        self.epoch = 0
        self._training: Training | None = None
        self._predict: Executable | None = None
        first = self.inputs[0].type
        self._single_input = (first.rank, first.dtype.numpy) if len(self.inputs) == 1 else None

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def parameters(self) -> tuple[Value, ...]:
        """The trainable values, as symbolic values; their arrays are `model.state[value.name]`."""
        return self.graph.by_role("param")

    # ------------------------------------------------------------------------------------------ training

    def compile(self, optimizer: Optimizer | str = "adam", loss: Loss | str | None = None,
                metrics: Sequence[str] | str = ()) -> Model:
        """Say how to train: an optimiser, a loss, metrics to watch. Compiling again starts a fresh optimiser.

        The graphs are built at once, so that errors in loss or metrics show here; kernels are compiled at the first step.
        """
        if loss is None:
            raise VerifyError("compile needs a loss", hint="model.compile(optimizer=nn.Adam(), loss=nn.CrossEntropy())")
        if len(self.outputs) != 1:
            raise UnsupportedError(f"{self.name} has {len(self.outputs)} outputs; compile takes a model with one",
                                   hint="write the step with gnn.gradients and gnn.compile, or train a Model of one output")
        names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        training = Training(self.graph, as_optimiser(optimizer), as_loss(loss), names, self.backend)
        kept = {value.name for value in self.graph.inputs}
        self.state.drop([n for n in self.state.names if self._training is not None and n in self._training.own_states - kept])
        self.state.add(training.example)                 # the optimiser's states can be set before the first step
        self._training = training
        return self

    def fit(self, x: Any, y: Any, *, epochs: int = 1, batch_size: int = 32, validation_data: tuple[Any, Any] | None = None,
            shuffle: bool = True, verbose: bool = True, callbacks: Sequence[Callback] = ()) -> History:
        """Train for `epochs` more epochs; returns the history of all epochs so far.

        `x` and `y` are arrays (or lists) of equal length; a tuple or dict of arrays for several inputs. Numbers are
        converted to the declared dtypes. The order of examples depends on the state's seed and the epoch alone. Each
        number of the history is the mean over all examples, whatever the size of the last batch. Callbacks are called as
        callback(model, epoch, numbers) after each epoch.

        Raises VerifyError before `compile`; ShapeError, DTypeError or NumericsError for data that does not fit, naming
        the input; nothing is trained then.
        """
        training = self._need_training("fit")
        batch_size, epochs = check_batch_size(batch_size), as_count(epochs, "fit: epochs", 0)
        if validation_data is not None and not (isinstance(validation_data, (tuple, list)) and len(validation_data) == 2):
            raise VerifyError("validation_data is not a pair (x, y)")
        arrays, count = self._examples(x, y, training)
        checked = None if validation_data is None else self._examples(*validation_data, training)
        step = training.step(arrays[-1], self.state)
        gather = Gatherer(arrays, batch_size)
        with Progress(epochs, count, first_epoch=self.epoch, verbose=verbose) as progress:
            for epoch in range(self.epoch, self.epoch + epochs):
                progress.start_epoch(epoch)
                total = training.totals()
                for rows in minibatches(epoch_order(count, seed=self.state.seed, epoch=epoch, shuffle=shuffle), batch_size):
                    total.add(step(*gather.rows(rows)), len(rows))
                    progress.step(total.count, total.means)
                numbers = total.means()
                if checked is not None:
                    measured = self._measure(training, checked[0], batch_size)
                    numbers |= {f"val_{name}": value for name, value in measured.items()}
                self.epoch = epoch + 1
                self.history.append(numbers)
                progress.end_epoch(numbers, count)
                for callback in callbacks:
                    callback(self, self.epoch, numbers)
        return self.history

    def training_step(self, x: Any, y: Any) -> Executable:
        """The compiled step (forward, backward, update) for batches like this one, its kernels ready and nothing trained.

        Calling it with arrays of the declared dtypes trains on them and returns the loss and the metrics.
        """
        training = self._need_training("training_step")
        arrays, _ = self._examples(x, y, training)
        step = training.step(arrays[-1], self.state)
        step.prepare(*arrays)
        return step

    def evaluate(self, x: Any, y: Any, *, batch_size: int = PREDICT_BATCH) -> dict[str, float]:
        """Loss and metrics over all examples, by name. Nothing is trained."""
        training = self._need_training("evaluate")
        return self._measure(training, self._examples(x, y, training)[0], check_batch_size(batch_size))

    def predict(self, x: Any, *, batch_size: int = PREDICT_BATCH) -> Any:
        """The outputs for all examples: an array, or a tuple of arrays for several outputs. Needs no `compile`."""
        if self._predict is None:
            self._predict = compile_graph(self.graph, state=self.state, backend=self.backend)
        if batch_size != PREDICT_BATCH:
            check_batch_size(batch_size)
        # The path of a server's single example: nothing to convert, one batch.
        if type(x) is np.ndarray and (x.ndim, x.dtype) == self._single_input and 0 < len(x) <= batch_size:
            return self._predict(x)
        arrays = self._input_arrays(x)
        count = common_length({v.name: a for v, a in zip(self.inputs, arrays, strict=True)})
        if count <= batch_size:
            return self._predict(*arrays)
        parts = [self._predict(*(a[start : start + batch_size] for a in arrays)) for start in range(0, count, batch_size)]
        if len(self.outputs) == 1:
            return np.concatenate(parts)
        return tuple(np.concatenate([part[i] for part in parts]) for i in range(len(self.outputs)))

    def _measure(self, training: Training, arrays: Sequence[np.ndarray], batch_size: int) -> dict[str, float]:
        measure = training.measure(arrays[-1], self.state)
        total = training.totals()
        for start in range(0, len(arrays[0]), batch_size):
            part = [array[start : start + batch_size] for array in arrays]
            total.add(measure(*part), len(part[0]))
        return total.means()

    def _need_training(self, what: str) -> Training:
        if self._training is None:
            raise VerifyError(f"{what} before compile: the model {self.name!r} has no loss yet",
                              hint="model.compile(optimizer=nn.Adam(), loss=nn.CrossEntropy())")
        return self._training

    def _input_arrays(self, x: Any) -> list[np.ndarray]:
        if len(self.inputs) == 1 and not isinstance(x, Mapping):
            return [as_declared(x, self.inputs[0].type, f"input {self.inputs[0].name!r}")]
        names = [value.name for value in self.inputs]
        if isinstance(x, Mapping):
            missing, extra = [n for n in names if n not in x], [n for n in x if n not in names]
            if missing or extra:
                raise VerifyError(f"the inputs are {', '.join(names)}; " + (f"{missing[0]!r} is missing" if missing else
                                                                            f"{extra[0]!r} is none of them"))
            x = [x[name] for name in names]
        if not isinstance(x, (tuple, list)) or len(x) != len(names):
            raise VerifyError(f"the model has {len(names)} inputs ({', '.join(names)}); give a tuple or dict of as many arrays")
        return [as_declared(a, v.type, f"input {v.name!r}") for a, v in zip(x, self.inputs, strict=True)]

    def _examples(self, x: Any, y: Any, training: Training) -> tuple[list[np.ndarray], int]:
        """The arrays of inputs and targets, checked and converted, and their common length."""
        arrays = self._input_arrays(x)
        target = as_array(y, "the targets")
        check_finite(target, "the targets")
        declared = training.target_type(target)
        arrays.append(as_declared(target, declared, "the targets"))
        count = common_length({**{v.name: a for v, a in zip(self.inputs, arrays, strict=False)}, "targets": arrays[-1]})
        training.loss.check_targets(self.outputs[0].type, arrays[-1])
        return arrays, count

    # ------------------------------------------------------------------------------------------ files

    def save(self, path: str | Path, *, training: bool = True) -> None:
        """Write graph and weights to one file, and with `training` what resuming needs. The file holds no code.

        The file is replaced at once: a crash or a full disk leaves the old one as it was. Raises OSError then.
        """
        train: dict[str, Any] | None = None
        names = {value.name for value in self.graph.inputs}
        if training and self._training is not None:
            train = {"epoch": self.epoch, "history": self.history.columns, **self._training.described()}
            names |= self._training.own_states
        arrays = {name: array for name, array in self.state.arrays().items() if name in names}
        save_file(path, graphs={"model": self.graph}, arrays=arrays, train=train, meta={"seed": self.state.seed})

    @classmethod
    def load(cls, path: str | Path, *, backend: str = "numba") -> Model:
        """The model saved at `path`. Raises FileFormatError for a file that is damaged, foreign or too new."""
        file = load_file(path)
        if "model" not in file.graphs:
            raise FileFormatError(f"{path}: holds no model, but the graphs {', '.join(file.graphs) or '(none)'}",
                                  hint="graphnn.files.load_file reads graphs and arrays of any kind")
        model = cls.__new__(cls)
        graph = file.graphs["model"]
        model.inputs, model.outputs = graph.by_role("input"), graph.outputs
        if backend not in BACKENDS:
            raise UnsupportedError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")
        try:
            state = State((file.meta or {}).get("seed", 0))
            state.restore(file.arrays)
            model._setup(graph, state, backend)
            if file.train is not None:
                model.compile(**Training.read(file.train))
                model.epoch = as_count(file.train["epoch"], "the epoch", 0)
                model.history = History({str(name): [float(v) for v in values] for name, values in file.train["history"].items()})
        except (GraphnnError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{path}: no model can be made of it: {error}", hint=getattr(error, "hint", None)) from error
        return model

    # ------------------------------------------------------------------------------------------ looking inside

    def summary(self) -> str:
        """Print (and return) a table: every layer with its output's shape, parameters, FLOPs and bytes."""
        text = summary(self.graph)
        print(text)
        return text

    def plot(self, path: str | Path) -> None:
        """Draw the graph as an SVG file. Needs no external program."""
        from graphnn.inspect.drawing import draw  # few processes draw, and it would be a tenth of `import graphnn`

        draw(self.graph, path)

    def profile(self, x: Any) -> Profile:
        """Run once, timed: time, GFLOP/s and bytes of each node, with its layer's name."""
        arrays = self._input_arrays(x)
        exe = compile_graph(self.graph, state=self.state, backend=self.backend)
        exe(*arrays)
        plan, nanoseconds = exe.profile(*arrays)
        return Profile.of(plan.program.graph, plan.row_nodes, nanoseconds, plan.sizes)

    def __repr__(self) -> str:
        shapes = " -> ".join(", ".join(str(v.type) for v in vs) for vs in (self.inputs, self.outputs))
        return f"<Model {self.name}: {shapes}, {len(self.parameters)} parameters>"


def load(path: str | Path, *, backend: str = "numba") -> Model:
    """The model saved at `path`: graph and weights, no code. Raises FileFormatError for anything else."""
    return Model.load(path, backend=backend)
