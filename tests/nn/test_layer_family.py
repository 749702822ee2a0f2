"""Every layer and module, each through the same checks: derivatives, both back ends, training, any batch, files, its name.

`FAMILY` in layer_family.py has an example of each layer that graphnn.nn exports; a layer that is missing there fails the first
test.
"""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.ir.modes import has_modes, resolve_modes
from graphnn.ir.ops.inputs import placeholder
from graphnn.ir.ops.scan import rebuild
from tests.nn.layer_family import FAMILY, OTHERS

SIZES = {"N": 3, "T": 4, "S": 5, "H": 5, "W": 4}
ABSTRACT = {"Layer", "Cell", "NCELoss"}                  # (a loss with parameters: tests/nn/test_losses_generative.py)

CASES = FAMILY | OTHERS
EVERY = pytest.mark.parametrize("name", FAMILY)
ALL = pytest.mark.parametrize("name", CASES)


def applied(name: str, dtype: str = "f32") -> tuple[nn.Layer, list[gnn.Value], list[gnn.Value]]:
    """The example's layer, which has a name of its own; inputs; results of real numbers."""
    example = CASES[name]
    layer = example.make(dtype)
    layer.name = f"my-{name}"
    texts = [text if "[" in text else f"{dtype}[{text}]" for text in example.inputs]
    values = [placeholder(f"x{i}", text) for i, text in enumerate(texts)]
    return layer, values, real(example.call(layer, *values))


def real(found: gnn.Value | tuple[gnn.Value, ...]) -> list[gnn.Value]:
    return [y for y in (found if isinstance(found, tuple) else (found,)) if y.dtype.is_float]


def data(values: Sequence[gnn.Value], seed: int = 0, **sizes: int) -> list[np.ndarray]:
    """Arrays for the inputs. Real numbers keep a distance from 0, where activations have corners."""
    rng = np.random.default_rng(seed)
    bound = {**SIZES, **sizes}
    found: list[np.ndarray] = []
    for value in values:
        shape = tuple(size if isinstance(size, int) else bound[str(size)] for size in value.shape)
        if value.dtype.is_float:
            array = rng.uniform(0.1, 1.5, shape) * rng.choice([-1, 1], shape)
        else:
            array = rng.integers(1, 4, shape) if value.dtype.is_integer else rng.uniform(size=shape) < 0.7
        found.append(array.astype(value.dtype.numpy))
    return found


def model_of(name: str, backend: str = "numba") -> gnn.Model:
    _, values, outputs = applied(name)
    return gnn.Model(values, outputs if len(outputs) > 1 else outputs[0], name="family", seed=5, backend=backend)


def by_name(model: gnn.Model) -> dict[str, np.ndarray]:
    return dict(zip([value.name for value in model.inputs], data(model.inputs), strict=True))


def test_the_family_is_complete() -> None:
    exported = {name for name, thing in vars(nn).items() if inspect.isclass(thing) and issubclass(thing, nn.Layer)}
    assert exported - ABSTRACT == set(FAMILY)


@ALL
def test_derivatives_of_first_and_second_order(name: str) -> None:
    """By inputs and parameters, in evaluation and, where that differs, in training."""
    layer, values, _ = applied(name, "f64")
    arrays = data(values)
    fixed = [placeholder(f"x{i}", gnn.TensorType.of(array)) for i, array in enumerate(arrays)]
    graph = gnn.Graph.of("layer", fixed, real(CASES[name].call(layer, *fixed)))
    exe = gnn.compile(graph, backend="numpy")
    rng = np.random.default_rng(1)
    points = [exe.state[p.name] + 0.3 * rng.normal(size=exe.state[p.name].shape) if p.dtype.is_float else exe.state[p.name]
              for p in layer.parameters]
    for training in (False, True) if has_modes(graph.nodes) else (False,):
        resolved = resolve_modes(graph, training)
        held = [value for value in resolved.inputs if value not in fixed and value not in layer.parameters]
        constants = {value: gnn.constant(exe.state[value.name]) for value in held}

        def f(*given: gnn.Value, resolved: gnn.Graph = resolved, constants: Any = constants) -> list[gnn.Value]:
            new = dict(zip([*fixed, *layer.parameters], given, strict=True)) | constants
            return rebuild(resolved.outputs, new)

        if any(a.dtype.kind == "f" for a in (*arrays, *points)):
            gnn.check_gradients(f, [*arrays, *points], order=2, tolerance=1e-5)


@ALL
def test_kernels_give_what_the_interpreter_gives_at_any_batch(name: str) -> None:
    _, values, outputs = applied(name)
    graph = gnn.Graph.of("layer", values, outputs)
    training = has_modes(graph.nodes)                    # the noisier of the modes: the same noise by both
    compiled, plain = (gnn.compile(graph, backend=backend, training=training) for backend in ("numba", "numpy"))
    for state in plain.state.names:
        plain.state[state] = compiled.state[state]
    for sizes in ({}, {"N": 1}, {"N": 5, "T": 1, "S": 1, "H": 2, "W": 2}, {}):
        arrays = data(values, 3, **sizes)
        found, expected = compiled(*arrays), plain(*arrays)
        pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
        for actual, wanted in pairs:
            assert actual.shape == wanted.shape
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


@EVERY
def test_called_twice_it_shares_its_parameters(name: str) -> None:
    layer, values, first = applied(name)
    made = [*layer.parameters]
    second = real(CASES[name].call(layer, *values))
    assert layer.parameters == made
    assert [y.type for y in second] == [y.type for y in first]
    used = gnn.Graph.of("both", values, [*first, *second]).by_role("param")
    assert set(used) <= set(made)


@EVERY
def test_it_can_be_pickled_and_copied(name: str) -> None:
    layer = applied(name)[0]
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert repr(other) == repr(layer)
        assert [value.type for value in other.parameters] == [value.type for value in layer.parameters]


@ALL
def test_three_steps_in_a_row_move_every_parameter(name: str) -> None:
    layer, values, outputs = applied(name)
    if not layer.parameters:
        return
    # no square, whose mean over what is normalised is the same for any x
    loss = sum((gnn.mean(gnn.sin(y + 0.3)) for y in outputs[1:]), gnn.mean(gnn.sin(outputs[0] + 0.3)))
    grads = gnn.gradients(loss, layer.parameters)
    updates = nn.SGD(0.05).updates(layer.parameters, grads)
    step = gnn.compile(gnn.Graph.of("step", values, [loss], updates=updates), backend="numpy")
    for seed, count in enumerate((3, 5, 3)):             # another batch between
        before = {p.name: step.state[p.name].copy() for p in layer.parameters}
        assert np.isfinite(step(*data(values, seed, N=count)))
        for p_name, array in before.items():
            assert np.isfinite(step.state[p_name]).all()
            if not p_name.endswith(CASES[name].still):
                assert (step.state[p_name] != array).any(), f"{p_name} did not move"


@EVERY
def test_its_name_is_on_its_nodes_in_tables_and_drawings(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(name, "numpy")
    training = name == "Dropout"                         # in evaluation there is nothing of it
    resolved = resolve_modes(model.graph, training)
    if name == "Identity":
        assert not [node for node in resolved.nodes if node.inputs]
        return
    mine = f"my-{name}"
    assert all(node.loc.scope.startswith(mine) for node in resolved.nodes if node.inputs)
    assert mine in model.summary(training=training)
    assert mine in capsys.readouterr().out
    assert mine in str(resolved)
    model.plot(tmp_path / "layer.svg", training=training)
    assert mine in (tmp_path / "layer.svg").read_text()


@EVERY
def test_a_profile_names_it(name: str) -> None:
    if name in ("Identity", "Flatten", "Reshape"):       # nothing is computed
        return
    model = model_of(name)
    profile = model.profile(by_name(model), training=name == "Dropout")
    assert any(line.layer.startswith(f"my-{name}") for line in profile.lines)


BAD: tuple[Any, ...] = (object(), float("nan"), "bogus", [], -3, {"a": 1}, 2.5, 10**400, b"same", 1 + 2j, [[1]], np.ones(2),
                        np.array(["max"]))
FREE = {"name", "activation", "gate_activation", "init"}     # their errors say what a value is no name of, not where it stands


@EVERY
def test_bad_arguments_are_refused_when_it_is_built_and_named(name: str) -> None:
    """No argument takes any of them but what is said here, and each error names the argument."""
    def is_fine(field: str, value: Any) -> bool:
        return any(type(value) is type(known) and value == known for known in fine.get(field, ()))

    numbers = dict.fromkeys(("slope", "intercept", "alpha", "forget_bias", "scale"), (2.5, -3))
    fine: dict[str, tuple[Any, ...]] = {**numbers, "eps": (2.5,), "epsilon": (2.5,), "axis": (-3,), "name": ("bogus",)}
    if name == "Reshape":
        fine["shape"] = ([],)
    good = FAMILY[name].make("f32")
    given = {f.name: getattr(good, f.name) for f in fields(good)}
    for field in given:
        for value in BAD:
            if is_fine(field, value):
                continue
            with pytest.raises(gnn.GraphnnError) as caught:
                pytest.fail(f"{type(good)(**{**given, field: value})} takes {field}={value!r}")
            assert field in FREE or field in str(caught.value), f"{field}={value!r}: {caught.value}"
            assert len(str(caught.value)) < 400, f"{field}: {caught.value}"


@EVERY
def test_numbers_and_flags_of_numpy_are_as_good_as_those_of_python(name: str) -> None:
    """They become Python's, or are used as they are: the same graph comes of them."""
    def of_numpy(value: Any) -> Any:
        for kind, like in ((bool, np.bool_), (int, np.int64), (float, np.float64)):
            if isinstance(value, kind):
                return like(value)
        return [of_numpy(one) for one in value] if isinstance(value, (tuple, list)) else value

    graphs: list[str] = []
    for change in (lambda value: value, of_numpy):
        layer, values, _ = applied(name)
        given = {f.name: change(getattr(layer, f.name)) for f in fields(layer)}
        values = [placeholder(value.name, value.type) for value in values]
        graphs.append(str(gnn.Graph.of("layer", values, real(CASES[name].call(type(layer)(**given), *values)))))
    assert graphs[0] == graphs[1]


LOAD = """
import sys
from pathlib import Path
import numpy as np
import graphnn as gnn

folder = Path(sys.argv[1])
for path in sorted(folder.glob("*.gnn")):
    model = gnn.load(path)
    given = np.load(folder / f"{path.stem}.npz")
    found = model.predict({name[3:]: given[name] for name in given.files if name.startswith("in_")})
    found = found if isinstance(found, tuple) else (found,)
    for i, y in enumerate(found):
        expected = given[f"out_{i}"]
        assert (y.dtype, y.shape, y.tobytes()) == (expected.dtype, expected.shape, expected.tobytes()), path.stem
print("same", len(list(folder.glob("*.gnn"))))
"""


def test_all_are_saved_and_loaded_here_and_in_a_new_process_bit_for_bit(tmp_path: Path) -> None:
    for name in FAMILY:
        model = model_of(name)
        given = by_name(model)
        found = model.predict(given)
        found = found if isinstance(found, tuple) else (found,)
        model.save(tmp_path / f"{name}.gnn")
        again = gnn.load(tmp_path / f"{name}.gnn").predict(given)
        for a, b in zip(found, again if isinstance(again, tuple) else (again,), strict=True):
            assert a.tobytes() == b.tobytes(), name
        stored: dict[str, Any] = {f"in_{k}": a for k, a in given.items()} | {f"out_{i}": a for i, a in enumerate(found)}
        np.savez(tmp_path / f"{name}.npz", **stored)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOAD, str(tmp_path)], capture_output=True, text=True,
                          cwd=tmp_path, env=environment, check=False)
    assert done.stdout.strip() == f"same {len(FAMILY)}", done.stderr
