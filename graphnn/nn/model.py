"""Model: a symbolic network with its state. Build, compile, fit, evaluate, predict, save, look inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.errors import ShapeError, VerifyError
from graphnn.inspect.profile import Profile
from graphnn.ir.dims import Size
from graphnn.ir.graph import Graph, Value, collect
from graphnn.ir.modes import resolve_modes
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype, as_shape
from graphnn.ir.verify import verify
from graphnn.nn import fitting, looking, saving, weights
from graphnn.nn.arguments import as_count, as_flag
from graphnn.nn.batches import Door, input_arrays
from graphnn.nn.callbacks import Callbacks
from graphnn.nn.data import check_batch_size
from graphnn.nn.door import common_length
from graphnn.nn.filed import Filed
from graphnn.nn.freezing import Frozen, Part, names_of_parts
from graphnn.nn.history import History
from graphnn.nn.objective import Objective
from graphnn.nn.optimisers import Optimizer, as_optimiser
from graphnn.nn.outputs import Outputs, given_values, named_outputs, named_values
from graphnn.nn.sources import Arrays, Batches, as_source, as_validation
from graphnn.nn.training import Training
from graphnn.runtime.compile import check_backend, compile_graph
from graphnn.runtime.executable import Executable
from graphnn.runtime.state import State

PREDICT_BATCH = 256


def Input(shape: Sequence[Size | str], name: str = "input", *, dtype: DTypeLike = DType.f32, batch: Size | str = "N") -> Value:
    """A symbolic input of one batch: `Input((28, 28, 1), name="image")` is f32[N,28,28,1].

    `shape` is the shape of one example; a string names a symbolic size. `batch` is the size of the first axis, symbolic by
    default so that one graph serves every batch size. Raises ShapeError for what is no size.
    """
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Iterable):
        raise ShapeError(f"Input: shape is {shape!r}; it is the shape of one example, a tuple", hint=f"use ({shape},)")
    return placeholder(name, TensorType(as_dtype(dtype), as_shape((batch, *shape))))


class Model(Filed):
    """A network from inputs to outputs, with the state that holds its parameters.

    `Model(x, y)` makes the parameters' first values (from `seed`, default `gnn.seed`). Models that share layers share
    parameters when they are given the same `state`.

    `outputs` is a value, a sequence, or a mapping from names to values; without names an output has the path of the layer that
    made it, or output_i. `losses` maps names to values of the graph (0-d) that training adds to its loss: regularisers, and
    losses that need no target. What only they read is asked for by fit and evaluate, not by predict.

    Models are pickled and copied (`copy.deepcopy(model)`) as their files: a copy has a state of its own and trains on.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> x = gnn.Input((4,), name="x")
    >>> model = gnn.Model(x, nn.FullyConnected(3)(x), name="tiny")
    >>> model.predict([[1, 2, 3, 4]]).shape
    (1, 3)

    Ridge regression, its penalty a value of the graph:

    >>> layer = nn.FullyConnected(1)
    >>> y = layer(x)
    >>> ridge = gnn.Model(x, y, losses={"penalty": 0.01 * gnn.sum(layer.weight ** 2)}).compile("adam", "squared_error")
    """

    def __init__(self, inputs: Value | Sequence[Value], outputs: Outputs, *, losses: Mapping[str, Value] | None = None,
                 name: str = "model", state: State | None = None, seed: int | None = None, backend: str = "numba") -> None:
        given = given_values(inputs)
        made, extra = named_outputs(outputs), named_values({} if losses is None else losses, "loss")
        whole = Graph.of(name, given, [*made.values(), *extra.values()])
        graph = Graph.of(name, given, list(made.values())) if extra else whole
        self._setup(graph, whole, list(made), list(extra), State(seed) if state is None else state, backend)

    def _setup(self, graph: Graph, whole: Graph, outputs: Sequence[str] | None, losses: Sequence[str], state: State,
               backend: str) -> None:
        check_backend(backend)
        for name, value in zip(losses, whole.outputs[len(graph.outputs):], strict=True):
            if value.rank or not value.dtype.is_float:
                raise ShapeError(f"the loss {name!r} is {value.type}; it must be one real number", hint="take its mean or sum")
        verify(whole)
        self.graph, self.whole_graph, self.state, self.backend = graph, whole, state, backend
        self.inputs, self.outputs, self.losses = graph.by_role("input"), graph.outputs, tuple(losses)
        self.output_names = tuple(named_outputs(self.outputs) if outputs is None else outputs)
        self.state.add(whole)
        self.history = History()
        self.epoch = 0
        self.stop_training = False                       # set by callbacks
        self.frozen_names = Frozen()
        self._training: Training | None = None
        self._predict: Executable | None = None
        self._asked = self.inputs
        if losses:
            read = {node.output for node in collect(resolve_modes(graph, False).outputs) if not node.inputs}
            self._asked = tuple(value for value in self.inputs if value in read) or self.inputs
        first = self._asked[0].type if self._asked else None
        self._single_input = (first.rank, first.dtype.numpy) if first is not None and len(self._asked) == 1 else None

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def parameters(self) -> tuple[Value, ...]:
        """The values that training can change, frozen ones too; their arrays are `model.state[value.name]`."""
        return self.whole_graph.by_role("param")

    # ------------------------------------------------------------------------------------------ frozen parameters, weights

    @property
    def trainable(self) -> tuple[Value, ...]:
        """The parameters that are not frozen."""
        return tuple(value for value in self.parameters if value.name not in self.frozen_names.params)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of what is frozen: parameters, and statistics frozen with them."""
        names = self.frozen_names
        return tuple(v.name for v in self.whole_graph.inputs if v.name in names.params or v.name in names.statistics)

    def freeze(self, *parts: Part, statistics: bool = False) -> Model:
        """Let training leave parameters as they are: those of layers, under layer paths ("encoder"), of one name, or all.

        Gradients flow through them. It holds from the next step on, also after `compile` and within `fit` from a callback;
        optimiser states of frozen parameters stay as they are. With `statistics` running statistics are frozen too, and a
        BatchNorm1D or 2D there normalises by them in training as in evaluation. Files say what is frozen.

        >>> import graphnn as gnn
        >>> from graphnn import nn
        >>> x = gnn.Input((4,), name="x")
        >>> model = gnn.Model(x, nn.FullyConnected(2, name="head")(nn.FullyConnected(3, name="body")(x)))
        >>> model.freeze("body").frozen
        ('body/weight', 'body/bias')
        """
        params, held = names_of_parts(self.whole_graph, parts)
        old = self.frozen_names
        self.frozen_names = Frozen(old.params.union(params), old.statistics.union(held) if statistics else old.statistics)
        return self

    def unfreeze(self, *parts: Part) -> Model:
        """Train parameters again: the reverse of `freeze`, statistics included. Without parts, all."""
        params, held = names_of_parts(self.whole_graph, parts)
        self.frozen_names = Frozen(self.frozen_names.params.difference(params), self.frozen_names.statistics.difference(held))
        return self

    def get_weights(self) -> dict[str, np.ndarray]:
        """Copies of all parameters, by name, and of what layers keep beside them, such as running statistics.

        >>> import graphnn as gnn
        >>> from graphnn import nn
        >>> x = gnn.Input((2,), name="x")
        >>> model = gnn.Model(x, nn.FullyConnected(1)(x))
        >>> model.set_weights({"fully_connected/weight": [[1], [2]], "fully_connected/bias": [3]})
        >>> model.get_weights()["fully_connected/weight"].tolist()
        [[1.0], [2.0]]
        """
        return self.state.arrays(weights.weight_values(self.whole_graph))

    def set_weights(self, arrays: Mapping[str, Any] | str | Path) -> None:
        """Take over what `get_weights` gave, or an .npz file of it. All are written, or none.

        Raises VerifyError for a name that is unknown or missing, ShapeError, DTypeError or NumericsError for an array that
        does not fit, FileFormatError for a file of another kind.
        """
        weights.set_weights(weights.weight_values(self.whole_graph), self.state, arrays)

    def save_weights(self, path: str | Path) -> None:
        """Write `get_weights` to an .npz file, which NumPy alone can read."""
        weights.write_npz(path, self.get_weights())

    # ------------------------------------------------------------------------------------------ training

    def compile(self, optimizer: Optimizer | str | Mapping[str, Any] = "adam", loss: Any = None, metrics: Any = (), *,
                loss_weights: Any = None, accumulate: int = 1) -> Model:
        """Say how to train: an optimiser, a loss, metrics to watch. Compiling again starts a fresh optimiser. Models that share a
        state need optimisers with names of their own (`nn.Adam(name="critic")`).

        A loss is an object, a string, a dictionary, or a function (prediction, target) -> value. With several outputs `loss` is
        one for all, a list, or a dictionary by output name; an output without one (None, or not named) is not trained.
        `metrics` are for all trained outputs, or a dictionary by name. `loss_weights` are factors, a list or a dictionary by
        name of output or loss. Without `loss` the model's own `losses` are made small, and `fit` takes no targets.

        With `accumulate=k` gradients are summed over k batches (each counts what it weighs, so k equal batches make the step of
        one k times as large), and parameters change after each k-th and after the last of an epoch.

        The graphs are built at once, so that errors in loss or metrics show here; kernels are compiled at the first step.

        >>> import graphnn as gnn
        >>> from graphnn import nn
        >>> x = gnn.Input((4,), name="x")
        >>> model = gnn.Model(x, {"kind": nn.FullyConnected(3)(x), "size": nn.FullyConnected(1)(x)}, backend="numpy")
        >>> losses = {"kind": "cross_entropy", "size": "huber"}
        >>> made = model.compile("adam", losses, {"kind": "accuracy"}, loss_weights={"size": 0.1})
        >>> sorted(model.evaluate(np.ones((5, 4)), {"kind": np.zeros(5, int), "size": np.ones((5, 1))}))
        ['kind_accuracy', 'kind_loss', 'loss', 'size_loss']
        """
        training = self._training_for(optimizer, loss, metrics, loss_weights, accumulate)
        kept = {value.name for value in self.whole_graph.inputs}
        old = set[str]() if self._training is None else self._training.own_states - kept
        if others := [name for name in self.state.names if name in training.own_states - kept - old]:
            raise VerifyError(f"compile: the state has {others[0]!r} already, which another optimizer made",
                              hint='models that share a state need optimizers with names of their own: nn.Adam(name="critic")')
        self.state.drop([name for name in self.state.names if name in old])
        self._train_by(training)
        return self

    def _training_for(self, optimizer: Any, loss: Any, metrics: Any, loss_weights: Any, accumulate: int) -> Training:
        if loss is None and not self.losses:
            raise VerifyError("compile needs a loss", hint="model.compile(optimizer=nn.Adam(), loss=nn.CrossEntropy())")
        objective = Objective(self.whole_graph, self.output_names, self.losses, loss, metrics, loss_weights)
        if not objective.losses:
            raise VerifyError(f"compile: loss is {loss!r}, which names no output with a loss")
        return Training(as_optimiser(optimizer), objective, accumulate, self.backend)

    def _train_by(self, training: Training) -> None:
        for graph in training.examples:                  # the optimiser's states can be set before the first step
            self.state.add(graph)
        self._training = training

    def fit(self, x: Any, y: Any = None, *, epochs: int = 1, batch_size: int | None = None, validation_data: Any = None,
            shuffle: bool = True, drop_last: bool = False, sample_weight: Any = None, class_weight: Any = None,
            steps_per_epoch: int | None = None, verbose: bool = True, callbacks: Any = ()) -> History:
        """Train for `epochs` more epochs; returns the history of all epochs so far.

        `x` and `y` are arrays (or lists) of equal length; a tuple or dict of arrays for several inputs or trained outputs.
        Numbers are converted to the declared dtypes; a last axis of one of targets may be there or not: (N,) for an output
        (N, 1), ids (N, 1) for scores (N, classes). The order of examples depends on the state's seed and the epoch alone, so
        that a resumed run repeats it. `batch_size` is 32 by default; `drop_last` leaves out a last batch that is shorter.

        Instead of arrays x is a data set, whose len(x) items x[i] are examples (x, y) or (x, y, weight); or an iterable of
        batches (x, y) or (x, y, sample_weight), gone through once an epoch, or for `steps_per_epoch` batches, going on in the
        next epoch where it was. The place in an iterable is its own: no file holds it. Models without targets take x alone.

        `sample_weight` is one number for each example (or entry of its targets), for all outputs or a dictionary by name;
        `class_weight` {class: weight} multiplies it in the training loss. A weighted mean divides by the sum of weights. Each
        number of the history is over all examples of the epoch, whatever the sizes and weights of batches. `validation_data`
        is (x, y), (x, y, sample_weight), a data set or an iterable. Callbacks are objects with methods of `nn.Callback`,
        functions (model, epoch, numbers) called after each epoch, or their descriptions. An epoch that a callback ends by
        `model.stop_training = True` counts, with the batches that it had.

        Raises VerifyError before `compile`, and for a callback that looks at a number that there will not be; ShapeError,
        DTypeError or NumericsError for data that does not fit, naming the input; nothing is trained then. An error in an
        iterable ends training after the last whole step.

        >>> import graphnn as gnn
        >>> from graphnn import nn
        >>> x = gnn.Input((2,), name="x")
        >>> model = gnn.Model(x, nn.FullyConnected(1)(x), backend="numpy").compile("sgd(lr=0.1)", "squared_error")
        >>> batches = [(np.eye(2), np.ones((2, 1))), (np.eye(2), np.ones((2, 1)), [1.0, 0.5])]
        >>> model.fit(batches, epochs=20, verbose=False)["loss"][-1] < 0.1
        True
        """
        training = self._need_training("fit")
        epochs, called = as_count(epochs, "fit: epochs", 0), Callbacks(callbacks)
        shuffle, drop_last = as_flag(shuffle, "fit: shuffle"), as_flag(drop_last, "fit: drop_last")
        door = Door(self.inputs, training.objective, class_weight)
        source = as_source(x, y, sample_weight, door, batch_size=batch_size, drop_last=drop_last, steps=steps_per_epoch,
                           seed=self.state.seed if shuffle else None)
        validation = as_validation(validation_data, Door(self.inputs, training.objective), batch_size)
        for data in (source, validation):
            if isinstance(data, Batches):
                data.check(epochs)
        numbers = training.objective.totals().numbers()
        called.check(numbers if validation is None else numbers | {f"val_{name}": value for name, value in numbers.items()})
        if isinstance(source, Arrays):                   # a graph that cannot be built is an error before the first callback
            training.step(source.whole.kind, self.frozen_names, self.state)
        fitting.fit(self, training, source, epochs=epochs, validation=validation, callbacks=called, verbose=verbose)
        return self.history

    def training_step(self, x: Any, y: Any = None, *, sample_weight: Any = None, class_weight: Any = None) -> Executable:
        """The compiled step (forward, backward, update) for batches like this one, its kernels ready and nothing trained.

        Calling it with arrays of the declared dtypes trains on them (with `accumulate`, only adds gradients up) and returns the
        loss, then what the history is made of.
        """
        training = self._need_training("training_step")
        batch = Door(self.inputs, training.objective, class_weight).batch(x, y, sample_weight)
        step = training.step(batch.kind, self.frozen_names, self.state)
        step.exe.prepare(*batch.arrays)
        return step.exe

    def evaluate(self, x: Any, y: Any = None, *, batch_size: int | None = None, sample_weight: Any = None) -> dict[str, float]:
        """Loss and metrics over all examples, by name; data as in `fit`. Nothing is trained."""
        training = self._need_training("evaluate")
        source = as_source(x, y, sample_weight, Door(self.inputs, training.objective), batch_size=batch_size,
                           default_size=PREDICT_BATCH)
        return fitting.measure(self, training, source)

    def predict(self, x: Any, *, batch_size: int = PREDICT_BATCH, as_dict: bool = False) -> Any:
        """The outputs for all examples: an array, or a tuple of arrays for several outputs; with `as_dict` by name.

        Needs no `compile`.
        """
        if as_dict:
            found = self.predict(x, batch_size=batch_size)
            return dict(zip(self.output_names, found if len(self.outputs) > 1 else (found,), strict=True))
        if self._predict is None:
            self._predict = self._compiled_predict()
        if batch_size != PREDICT_BATCH:
            check_batch_size(batch_size)
        # The path of a server's single example: nothing to convert, one batch.
        if type(x) is np.ndarray and (x.ndim, x.dtype) == self._single_input and 0 < len(x) <= batch_size:
            return self._predict(x)
        arrays = self._asked_arrays(x)
        count = common_length({v.name: a for v, a in zip(self._asked, arrays, strict=True)})
        if count <= batch_size:
            return self._predict(*arrays)
        parts = [self._predict(*(a[start : start + batch_size] for a in arrays)) for start in range(0, count, batch_size)]
        if len(self.outputs) == 1:
            return np.concatenate(parts)
        return tuple(np.concatenate([part[i] for part in parts]) for i in range(len(self.outputs)))

    def warm_up(self, **sizes: int) -> Model:
        """Compile the kernels of `predict` and make its plan for these sizes, so that the first call need not: warm_up(N=1).

        `training_step` does it for training, `Executable.lower` for graphs of one's own. Raises ShapeError for sizes that
        are missing or unknown.
        """
        if self._predict is None:
            self._predict = self._compiled_predict()
        self._predict.lower(**sizes)
        return self

    def _compiled_predict(self) -> Executable:
        graph = self.graph if self._asked == self.inputs else Graph.of(
            self.name, self._asked, resolve_modes(self.graph, False).outputs)
        return compile_graph(graph, state=self.state, training=False, backend=self.backend)

    def _asked_arrays(self, x: Any) -> list[np.ndarray]:
        if len(self._asked) < len(self.inputs) and isinstance(x, tuple) and len(x) == len(self.inputs):
            x = dict(zip((value.name for value in self.inputs), x, strict=True))
        return input_arrays(x, self._asked, [value.name for value in self.inputs] if self._asked != self.inputs else ())

    def _need_training(self, what: str) -> Training:
        if self._training is None:
            raise VerifyError(f"{what} before compile: the model {self.name!r} has no loss yet",
                              hint="model.compile(optimizer=nn.Adam(), loss=nn.CrossEntropy())")
        return self._training

    # ------------------------------------------------------------------------------------------ files

    def save(self, path: str | Path, *, training: bool = True) -> None:
        """Write graph and weights to one file, and with `training` what resuming needs. The file holds no code.

        A file written within an epoch, by a callback, goes on with that epoch from its first batch. The file is replaced at
        once: a crash or a full disk leaves the old one as it was. Raises OSError then, and UnsupportedError for a loss,
        metric or optimiser of one's own: these are code.
        """
        saving.save(self, path, training=training)

    @classmethod
    def load(cls, path: str | Path, *, backend: str = "numba") -> Model:
        """The model saved at `path`. Raises FileFormatError for a file that is damaged, foreign or too new."""
        return saving.load(cls, path, backend=backend)

    # ------------------------------------------------------------------------------------------ looking inside

    def summary(self, *, training: bool = False) -> str:
        """Print (and return) a table: every layer with its output's shape, parameters, FLOPs and bytes; what is frozen, and how
        the model is trained. `training` shows layers as they are in training."""
        text = looking.summary_of(self, training)
        print(text)
        return text

    def plot(self, path: str | Path, *, training: bool = False) -> None:
        """Draw the graph, as it is in evaluation or in training, as an SVG file. Needs no external program."""
        from graphnn.inspect.drawing import draw  # few processes draw, and it would be a tenth of `import graphnn`

        draw(resolve_modes(self.graph, training), path)

    def profile(self, x: Any, *, training: bool = False, runs: int = 10) -> Profile:
        """Time, GFLOP/s and bytes of each node, with its layer's name: medians of timed runs, after one that warms up. States
        stay as they are, also with `training`, which runs the layers as in training; `training_step(x, y).profile` times a
        whole step."""
        return looking.profile_of(self, x, training, runs)

    def __repr__(self) -> str:
        shapes = " -> ".join(", ".join(str(v.type) for v in vs) for vs in (self.inputs, self.outputs))
        frozen = len(self.parameters) - len(self.trainable)
        return f"<Model {self.name}: {shapes}, {len(self.parameters)} parameters{f', {frozen} frozen' if frozen else ''}>"
