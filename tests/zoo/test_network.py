"""What the networks of the zoo share: the loop of training, callbacks, files, resuming in the middle of an epoch."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import FileFormatError, ShapeError, UnsupportedError, VerifyError
from graphnn.nn.bundle import Bundle
from graphnn.nn.data import epoch_order
from graphnn.nn.optimisers import as_optimiser
from graphnn.zoo.network import Network

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)


@dataclass(eq=False, repr=False)
class Line(Network):
    """A line through points, with noise on x: enough of a network to train, stop and resume."""

    in_features: int = 3
    optimizer: Any = "adam(lr=0.05)"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.optimizer = as_optimiser(self.optimizer)
        x, y = gnn.Input((self.in_features,), name="x"), gnn.Input((1,), name="y")
        fit = nn.FullyConnected(1, name="fit")
        loss = gnn.mean(gnn.square(fit(nn.Dropout(0.1)(x)) - y))
        updates = self.optimizer.updates(fit.parameters, gnn.gradients(loss, fit.parameters), loss=loss)
        self.add({"step": gnn.Graph.of("step", [x, y], [loss], updates=updates),
                  "predict": gnn.Graph.of("predict", [x], [fit(x)])})

    def fit(self, x: np.ndarray, y: np.ndarray, *, epochs: int = 1, callbacks: Any = (), verbose: bool = False) -> nn.History:
        def run(epoch: int, done: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
            order = epoch_order(len(x), seed=self.state.seed, epoch=epoch)
            for start in range(8 * done, len(x), 8):
                rows = order[start : start + 8]
                yield len(rows), {"loss": self["step"](x[rows], y[rows])}

        return self._fit(run, epochs=epochs, examples=len(x), callbacks=callbacks, verbose=verbose)


class SaveAt(nn.Callback):
    """Saves in the middle of an epoch."""

    def __init__(self, path: Path, step: int, epoch: int) -> None:
        self.path, self.step, self.epoch = path, step, epoch

    def on_batch_end(self, model: Any, step: int, numbers: Mapping[str, float]) -> None:
        if (model.epoch + 1, step) == (self.epoch, self.step):
            model.save(self.path)


def arrays(network: Bundle) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in network.state.arrays().items()}


def test_the_loop_trains_and_keeps_the_means_of_an_epoch() -> None:
    seen: list[float] = []

    class Watch(nn.Callback):
        def on_batch_end(self, model: Any, step: int, numbers: Mapping[str, float]) -> None:
            seen.append(numbers["loss"])

    line = Line(seed=1, backend="numpy")
    history = line.fit(X, Y, epochs=1, callbacks=Watch())
    assert len(seen) == 3
    np.testing.assert_allclose(history["loss"], [(8 * seen[0] + 8 * seen[1] + 4 * seen[2]) / 20], rtol=1e-12)
    line.fit(X, Y, epochs=60)
    assert line.epoch == 61
    assert np.mean(np.square(line.run("predict", X) - Y)) < 0.15 * np.mean(np.square(Y))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_training_resumes_in_the_middle_of_an_epoch_bit_for_bit(tmp_path: Path, step: int) -> None:
    whole = Line(seed=2, backend="numpy")
    whole.fit(X, Y, epochs=4, callbacks=SaveAt(tmp_path / "middle.gnn", step, 2))
    resumed = Line.load(tmp_path / "middle.gnn", backend="numpy")
    assert resumed.epoch == 1
    resumed.fit(X, Y, epochs=3)
    assert arrays(resumed) == arrays(whole)
    assert resumed.history.columns == whole.history.columns


def test_a_pickle_or_copy_is_made_of_the_file() -> None:
    line = Line(seed=2, backend="numpy")
    line.fit(X, Y, epochs=2)
    before = arrays(line)
    for other in (pickle.loads(pickle.dumps(line)), copy.deepcopy(line)):
        assert isinstance(other, Line)
        assert other.backend == "numpy"
        other.fit(X, Y, epochs=1)
        assert arrays(line) == before
        assert arrays(other) != before
    line.fit(X, Y, epochs=1)
    assert arrays(line) == arrays(other)


def test_a_fit_that_was_interrupted_goes_on_where_it_was() -> None:
    class Interrupt(nn.Callback):
        def on_batch_end(self, model: Any, step: int, numbers: Mapping[str, float]) -> None:
            if step == 2:
                raise KeyboardInterrupt

    whole, broken = Line(seed=2, backend="numpy"), Line(seed=2, backend="numpy")
    whole.fit(X, Y, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X, Y, epochs=2, callbacks=Interrupt())
    broken.fit(X, Y, epochs=2)
    assert arrays(broken) == arrays(whole)
    assert broken.history.columns == whole.history.columns


def test_callbacks_of_models_serve_networks(tmp_path: Path) -> None:
    line = Line(seed=3, backend="numpy")
    callbacks = [nn.EarlyStopping("loss", patience=1, min_delta=1e9), nn.CSVLogger(str(tmp_path / "log.csv")),
                 nn.LearningRateLogger(), nn.ModelCheckpoint(str(tmp_path / "at-{epoch}.gnn"))]
    history = line.fit(X, Y, epochs=9, callbacks=callbacks)
    assert len(history) == 2
    assert history["lr"] == [pytest.approx(0.05)] * 2
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    line.plot("step", tmp_path / "step.svg")
    assert "fit" in (tmp_path / "step.svg").read_text()
    best = Line.load(tmp_path / "at-1.gnn", backend="numpy")
    for name, array in best.get_weights().items():
        np.testing.assert_array_equal(line.state[name], array)


@pytest.mark.parametrize("callback", [nn.LearningRateLogger(), nn.ReduceLROnPlateau("loss")])
def test_a_network_without_an_optimiser_has_no_rate_to_look_at(callback: nn.Callback) -> None:
    line = Line(seed=3, backend="numpy")
    line.optimizer = None
    with pytest.raises(UnsupportedError, match=f"{type(callback).__name__}: line is trained without an optimizer"):
        line.fit(X, Y, callbacks=callback)


def test_a_file_is_the_same_after_loading_and_saving_again(tmp_path: Path) -> None:
    line = Line(seed=3, backend="numpy", optimizer={"name": "sgd", "lr": 0.1})
    line.fit(X, Y)
    line.save(tmp_path / "a.gnn")
    Line.load(tmp_path / "a.gnn").save(tmp_path / "b.gnn")
    gnn.load(tmp_path / "a.gnn").save(tmp_path / "c.gnn")
    assert (tmp_path / "a.gnn").read_bytes() == (tmp_path / "b.gnn").read_bytes() == (tmp_path / "c.gnn").read_bytes()
    again = Line.load(tmp_path / "a.gnn")
    assert again.optimizer == nn.SGD(0.1)
    assert repr(again) == repr(Line(seed=3, optimizer=nn.SGD(0.1)))


def test_a_file_runs_in_a_process_that_has_no_class_for_it(tmp_path: Path) -> None:
    line = Line(seed=3)
    line.fit(X, Y)
    line.save(tmp_path / "line.gnn")
    np.save(tmp_path / "x.npy", X)
    code = ("import sys, numpy as np, graphnn as gnn; net = gnn.load('line.gnn'); assert 'graphnn.zoo' not in sys.modules; "
            "np.save('y.npy', net.run('predict', np.load('x.npy'))); print(*net, net.epoch)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == ["predict", "step", "1"]
    assert np.load(tmp_path / "y.npy").tobytes() == line.run("predict", X).tobytes()


def test_without_training_the_file_holds_only_what_evaluates(tmp_path: Path) -> None:
    line = Line(seed=3, backend="numpy")
    line.save(tmp_path / "small.gnn", training=False)
    loaded = Bundle.load(tmp_path / "small.gnn", backend="numpy")
    assert list(loaded) == ["predict"]
    assert set(loaded.state.names) == {"fit/weight", "fit/bias"}


def test_weights_go_out_and_in_all_or_none() -> None:
    one, two = Line(seed=3, backend="numpy"), Line(seed=4, backend="numpy")
    two.set_weights(one.get_weights())
    np.testing.assert_array_equal(one.run("predict", X), two.run("predict", X))
    with pytest.raises(VerifyError, match="'fit/bias' is missing"):
        two.set_weights({"fit/weight": np.zeros((3, 1))})
    with pytest.raises(VerifyError, match="no weight 'other'"):
        two.set_weights({**one.get_weights(), "other": 1})
    with pytest.raises(ShapeError, match="fit/bias"):
        two.set_weights({"fit/weight": np.zeros((3, 1)), "fit/bias": np.zeros(2)})
    np.testing.assert_array_equal(one.run("predict", X), two.run("predict", X))


def test_bad_input_is_refused_by_name(tmp_path: Path) -> None:
    line = Line(seed=3, backend="numpy")
    with pytest.raises(VerifyError, match="no graph 'decode'; it has step, predict"):
        line["decode"]
    with pytest.raises(VerifyError, match="predict takes 1 arrays"):
        line.run("predict", X, Y)
    with pytest.raises(ShapeError, match="axis 1 is 1, declared f32"):
        line.run("predict", Y)
    with pytest.raises(VerifyError, match="a graph 'step' already"):
        line.add({"step": line.graphs["step"]})
    with pytest.raises(ShapeError, match="epochs is -1"):
        line.fit(X, Y, epochs=-1)
    with pytest.raises(UnsupportedError, match="backend 'gpu'"):
        Line(backend="gpu")

    @dataclass(eq=False, repr=False)
    class Other(Line):
        pass

    line.save(tmp_path / "line.gnn")
    with pytest.raises(FileFormatError, match="it holds a Line"):
        Other.load(tmp_path / "line.gnn")
    with pytest.raises(FileFormatError, match="holds no model, but the graphs"):
        gnn.Model.load(tmp_path / "line.gnn")
    x = gnn.Input((3,), name="x")
    gnn.Model(x, nn.FullyConnected(1)(x)).save(tmp_path / "model.gnn")
    with pytest.raises(FileFormatError, match="network of another kind"):
        Line.load(tmp_path / "model.gnn")


def test_arguments_that_are_code_cannot_be_saved(tmp_path: Path) -> None:
    line = Line(seed=3, backend="numpy")
    line.in_features = lambda: 3  # type: ignore[assignment]
    with pytest.raises(UnsupportedError, match=r"in_features .* no code"):
        line.save(tmp_path / "line.gnn")
    assert not (tmp_path / "line.gnn").exists()
