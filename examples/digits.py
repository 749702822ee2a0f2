"""Train a convolutional network on handwritten digits, save it, and predict in a new process.

The digits are scikit-learn's: 1797 real scans of 8 x 8 pixels, in its package, so nothing is downloaded.

    python examples/digits.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import graphnn as gnn
from graphnn import nn

ENOUGH = 0.975
EPOCHS, SLOW_EPOCHS, BATCH = 12, 3, 64


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels: a fixed split with a fifth of every class held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) / 16.0
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    return x, y, x_test, y_test


def shifted(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images and their copies moved by a pixel in each direction: a digit stays what it is."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return np.concatenate([padded[:, i : i + 8, j : j + 8] for i, j in moves]), np.tile(labels, len(moves))


def network(seed: int = 0) -> gnn.Model:
    """Two convolutions, a pool, two dense layers: scores (logits) of the ten digits."""
    x = gnn.Input((8, 8, 1), name="image")
    h = nn.Conv2D(32, 3, padding="same", activation="relu")(x)
    h = nn.Conv2D(64, 3, padding="same", activation="relu")(h)
    h = nn.Pool2D(2)(h)
    h = nn.Flatten()(h)
    h = nn.FullyConnected(128, activation="relu")(h)
    return gnn.Model(x, nn.FullyConnected(10)(h), name="digits", seed=seed)


def train(seed: int = 0, *, verbose: bool = True) -> tuple[gnn.Model, float]:
    """A trained model and its accuracy on the held-out digits."""
    x, y, x_test, y_test = data()
    x, y = shifted(x, y)
    model = network(seed)
    model.compile(optimizer=nn.Adam(1e-3), loss=nn.CrossEntropy(), metrics=["accuracy"])
    model.fit(x, y, epochs=EPOCHS, batch_size=BATCH, validation_data=(x_test, y_test), verbose=verbose)
    model.state["adam/lr"] = 1e-4                        # the learning rate is state: no new compilation
    model.fit(x, y, epochs=SLOW_EPOCHS, batch_size=BATCH, validation_data=(x_test, y_test), verbose=verbose)
    return model, model.evaluate(x_test, y_test)["accuracy"]


def probabilities(model: gnn.Model, images: np.ndarray) -> np.ndarray:
    """Softmax of the model's scores, by a second model that shares its weights."""
    classifier = gnn.Model(model.inputs, nn.Softmax()(model.outputs[0]), name="classifier", state=model.state)
    return classifier.predict(images)


def predict_in_new_process(path: Path, images: np.ndarray) -> np.ndarray:
    """The same probabilities from the file alone, by a process that has never seen the network's code."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "images.npy", Path(folder) / "probabilities.npy"
        np.save(given, images)
        subprocess.run([sys.executable, __file__, "predict", str(path), str(given), str(made)], check=True)
        return np.load(made)


def main() -> int:
    x, y, x_test, _ = data()
    began = time.perf_counter()
    model = network()
    model.compile(optimizer=nn.Adam(1e-3), loss=nn.CrossEntropy(), metrics=["accuracy"])
    step = model.training_step(x[:BATCH], y[:BATCH])
    print(f"compiled in {time.perf_counter() - began:.2f} s ({gnn.kernels_compiled()} kernels new, the others from the store)")
    model.summary()

    model, accuracy = train()
    print(f"\ntest accuracy {accuracy:.4f}")
    model.plot("digits.svg")
    model.history.plot("history.png")

    model.save("digits.gnn")
    before = probabilities(model, x_test)
    after = predict_in_new_process(Path("digits.gnn"), x_test)
    same = before.tobytes() == after.tobytes()
    print(f"saved digits.gnn, loaded in a new process: probabilities {'bit-identical' if same else 'DIFFER'}")

    batch, target = np.ascontiguousarray(x[:BATCH], np.float32), y[:BATCH].astype(np.int64)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        step(batch, target)
        times.append(time.perf_counter() - start)
    buffers = step.plan.buffers
    print(f"one training step of {BATCH} digits: {1e3 * sorted(times)[15]:.2f} ms")
    print(f"planned memory {buffers.arena / 1024:.0f} KiB, lower bound {buffers.lower_bound / 1024:.0f} KiB "
          f"(x {buffers.arena / max(1, buffers.lower_bound):.3f})")
    print("\nnext: open digits.svg and history.png;  graphnn show digits.gnn;  graphnn plot digits.gnn -o graph.svg;  docs/")
    if accuracy < ENOUGH or not same:
        print(f"the demo failed: it needs {ENOUGH} and identical probabilities", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["predict"]:
        path, given, made = map(Path, sys.argv[2:5])
        np.save(made, probabilities(gnn.load(path), np.load(given)))
        sys.exit(0)
    sys.exit(main())
