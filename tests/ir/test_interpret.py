"""The reference: arrays in, arrays out, errors that name input, layer and line."""

from __future__ import annotations

import numpy as np
import pytest

from graphnn.errors import GraphnnError, NumericsError, ShapeError, VerifyError
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.ir.loc import scope
from graphnn.ir.ops import functions, index
from graphnn.ir.ops.inputs import parameter, placeholder, state


def test_a_graph_runs_on_arrays_by_name_or_in_order() -> None:
    x, w = placeholder("x", "f64[N,2]"), parameter("w", (2,), dtype="f64")
    s = state("s", (), dtype="f64")
    graph = Graph.of("g", [x], [x @ w, x * 2.0], updates={s: s + 1.0})
    arrays = [np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([1.0, -1.0]), np.array(41.0)]
    for given in (arrays, dict(zip("xws", arrays, strict=True))):
        result = interpret(graph, given)
        assert result.outputs[0].tolist() == [-1.0, -1.0, -1.0]
        assert result.outputs[1].shape == (3, 2)
        assert result.updates == {"s": 42.0}


def test_wrong_arrays_are_refused() -> None:
    x, y = placeholder("x", "f32[N,2]"), placeholder("y", "f32[N]")
    graph = Graph.of("g", [x, y], [x[:, 0] + y])
    good = {"x": np.zeros((3, 2), np.float32), "y": np.zeros(3, np.float32)}
    interpret(graph, good)
    with pytest.raises(VerifyError, match=r"lacks \['y'\]"):
        interpret(graph, {"x": good["x"]})
    with pytest.raises(VerifyError, match="has no input"):
        interpret(graph, {**good, "z": good["y"]})
    with pytest.raises(VerifyError, match="takes 2 arrays, not 1"):
        interpret(graph, [good["x"]])
    with pytest.raises(GraphnnError, match="input 'y' is float64"):
        interpret(graph, {**good, "y": np.zeros(3)})
    with pytest.raises(ShapeError, match=r"axis 0 is 4, declared f32\[N\] \(N = 3\)"):
        interpret(graph, {**good, "y": np.zeros(4, np.float32)})


def test_an_error_at_run_time_names_op_layer_and_line() -> None:
    x, ids = placeholder("x", "f32[4,2]"), placeholder("ids", "i64[N]")
    with scope("embedding"):
        rows = index.gather(x, ids, what="token id")
    with pytest.raises(NumericsError, match="check_index: the token id 4 is out of range: at least 0, below 4") as caught:
        interpret(Graph.of("g", [x, ids], [rows]), [np.zeros((4, 2), np.float32), np.array([1, 4])])
    assert "layer     embedding" in "\n".join(caught.value.__notes__)


def test_infinities_and_nans_come_without_warnings() -> None:
    x = placeholder("x", "f64[3]")
    y = interpret(Graph.of("g", [x], [1.0 / x + functions.log(x)]), [np.array([0.0, -1.0, np.inf])]).outputs[0]
    assert np.isnan(y).tolist() == [True, True, False]
