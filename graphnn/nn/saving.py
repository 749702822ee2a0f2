"""Models as files: the graph, the weights, and what resuming needs. Never code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnn.errors import FileFormatError, GraphnnError, VerifyError
from graphnn.files import ModelFile, load_file, save_file
from graphnn.ir.graph import IDENTIFIER, Graph
from graphnn.nn.arguments import as_count
from graphnn.nn.freezing import Frozen
from graphnn.nn.history import History
from graphnn.nn.layer import keep_paths
from graphnn.nn.outputs import named_outputs
from graphnn.nn.training import Training
from graphnn.runtime.compile import check_backend
from graphnn.runtime.state import State

if TYPE_CHECKING:
    from graphnn.nn.model import Model


def save(model: Model, path: str | Path, *, training: bool) -> None:
    train: dict[str, Any] | None = None
    names = {value.name for value in model.whole_graph.inputs}
    if training and model._training is not None:
        train = {"epoch": model.epoch, "history": model.history.columns, **model._training.described()}
        names |= model._training.own_states
    arrays = {name: array for name, array in model.state.arrays().items() if name in names}
    graphs = {"model": model.graph}
    meta: dict[str, Any] = {"seed": model.state.seed}
    if model.output_names != tuple(named_outputs(model.outputs)):
        meta["outputs"] = list(model.output_names)
    if model.losses:                                     # values of the graph are losses: a second cut through it has them
        graphs["losses"] = model.whole_graph
        meta |= {"outputs": list(model.output_names), "losses": list(model.losses)}
    if model.frozen_names.params or model.frozen_names.statistics:
        meta["frozen"] = sorted(model.frozen_names.params)
        meta["frozen_statistics"] = sorted(model.frozen_names.statistics)
    save_file(path, graphs=graphs, arrays=arrays, train=train, meta=meta)


def load(cls: type[Model], path: str | Path, *, backend: str) -> Model:
    return model_of(cls, load_file(path), path, backend=backend)


def model_of(cls: type[Model], file: ModelFile, path: str | Path, *, backend: str) -> Model:
    """The model that the content of a file describes. Raises FileFormatError, naming the file."""
    check_backend(backend)
    if "model" not in file.graphs:
        raise FileFormatError(f"{path}: holds no model, but the graphs {', '.join(file.graphs) or '(none)'}",
                              hint="graphnn.files.load_file reads graphs and arrays of any kind")
    model, meta = cls.__new__(cls), file.meta or {}
    try:
        state = State(meta.get("seed", 0))
        state.restore(file.arrays)
        graph = file.graphs["model"]
        outputs = _names(meta, "outputs") or None
        losses = _names(meta, "losses")
        if losses:
            whole = file.graphs["losses"]
            if outputs is None or len(whole.outputs) != len(outputs) + len(losses):
                raise VerifyError(f"the graph 'losses' has {len(whole.outputs)} outputs; they do not fit the names")
            graph = Graph.of(whole.name, whole.by_role("input"), whole.outputs[:len(outputs)])
        else:
            whole = graph
        if outputs is not None and len(outputs) != len(graph.outputs):
            raise VerifyError(f"there are {len(outputs)} names for {len(graph.outputs)} outputs")
        model._setup(graph, whole, outputs, losses, state, backend)
        keep_paths(whole)
        params, statistics = frozenset(_names(meta, "frozen")), frozenset(_names(meta, "frozen_statistics"))
        if unknown := sorted((params | statistics) - {value.name for value in whole.inputs}):
            raise VerifyError(f"{unknown[0]!r} is frozen, but not part of the model")
        model.frozen_names = Frozen(params, statistics)
        if file.train is not None:
            model._train_by(model._training_for(**Training.read(file.train)))
            model.epoch = as_count(file.train["epoch"], "the epoch", 0)
            model.history = History({str(name): [float(v) for v in values] for name, values in file.train["history"].items()})
    except (GraphnnError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise FileFormatError(f"{path}: no model can be made of it: {error}", hint=getattr(error, "hint", None)) from error
    return model


def _names(meta: dict[str, Any], key: str) -> list[str]:
    names = meta.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and IDENTIFIER.match(name) for name in names):
        raise VerifyError(f"{key} is {names!r}; it must be a list of names")
    if len(set(names)) != len(names):
        raise VerifyError(f"{key} names something twice: {', '.join(names)}")
    return names
