"""Predicting one example with a 16-32-32-4 tanh network, from Python, against onnxruntime's InferenceSession.run.

    python -m bench predict
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import graphnn as gnn
from bench.figures import Figure, at_least, medians
from graphnn import nn

WIDTHS = (16, 32, 32, 4)


def model() -> gnn.Model:
    x = gnn.Input((WIDTHS[0],))
    h = x
    for width in WIDTHS[1:-1]:
        h = nn.FullyConnected(width, activation="tanh")(h)
    return gnn.Model(x, nn.FullyConnected(WIDTHS[-1])(h), name="small")


def onnx_run(weights: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The same network in onnxruntime, on one thread."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, stored, h = [], [], "x"
    for i in range(len(weights) // 2):
        for j, kind in enumerate("wb"):
            stored.append(numpy_helper.from_array(weights[2 * i + j], f"{kind}{i}"))
        last = 2 * i + 2 == len(weights)
        nodes.append(helper.make_node("Gemm", [h, f"w{i}", f"b{i}"], ["y" if last else f"a{i}"]))
        if not last:
            nodes.append(helper.make_node("Tanh", [f"a{i}"], [f"h{i}"]))
        h = f"h{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
            for name, width in (("x", WIDTHS[0]), ("y", WIDTHS[-1]))]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]  # pyright: ignore[reportReturnType]


def figures() -> Iterator[Figure]:
    made = model()
    x = np.random.default_rng(0).standard_normal((1, WIDTHS[0]), np.float32)
    theirs = onnx_run([made.state[parameter.name] for parameter in made.graph.by_role("param")])
    assert np.allclose(theirs(x), made.predict(x), atol=1e-5), "the networks differ"
    exe = gnn.compile(made.graph, state=made.state)
    name = "16-32-32-4 tanh, batch 1, from Python, against onnxruntime"
    method, direct, session = medians(lambda: made.predict(x), lambda: exe(x), lambda: theirs(x), seconds=3.0, least=101)
    for what, ours in (("model.predict", method), ("the executable", direct)):
        yield at_least(f"{name}: {what}", session / ours, 1.0, f"{1e6 * ours:.2f} us; onnxruntime {1e6 * session:.2f}")
