"""Train a network of which a twentieth of the weights exist, and evolve where they are: against the dense one, on digits.

    python examples/sparse_evolution.py [folder for the pictures]

The digits are scikit-learn's, 1797 scans of 8 x 8 pixels, drawn at 28 x 28: nothing is downloaded.
Needs scikit-learn and matplotlib: pip install scikit-learn 'graphnn[train]'
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import graphnn as gnn
from graphnn import nn
from graphnn.nn.utils import resize_images

SIZE, DENSITY, EPOCHS, BATCH = 28, 0.05, 40, 32
WIDTHS = SIZE * SIZE, 1000, 1000, 1000, 10
# What serves each best: the dense network diverges at the sparse one's rate, and learns less by SGD at a lower one.
OPTIMIZERS = {"sparse": "sgd(lr=0.1, momentum=0.9)", "dense": "adam(lr=0.001)"}
FIRST = "sparse_evolution"                               # the name of the first sparse layer


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels: (N, 784) in [0, 1]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = resize_images(images.reshape(-1, 8, 8) / 16, SIZE).reshape(len(images), -1).astype(np.float32)
    parts: Any = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    x, x_test, y, y_test = parts
    return x, y, x_test, y_test


def network(widths: Sequence[int] = WIDTHS, *, sparse: bool = True, seed: int = 0) -> gnn.Model:
    """Layers of these widths, all but the last sparse: p n m = epsilon (n + m) weights exist at density p.

    Weights of pixels start small: what then grows is of use, and the rest makes place.
    """
    x = gnn.Input((widths[0],), name="x")
    h = x
    for n, m in itertools.pairwise(widths[:-1]):
        epsilon, init = DENSITY * n * m / (n + m), "normal(std=0.02)" if n == widths[0] else "glorot_uniform"
        layer = nn.SparseEvolution(m, epsilon=epsilon, activation="relu", init=init) if sparse else nn.FullyConnected(m, "relu")
        h = layer(h)
    return gnn.Model(x, nn.FullyConnected(widths[-1])(h), name="sparse" if sparse else "dense", seed=seed)


def train(model: gnn.Model, x: np.ndarray, y: np.ndarray, *, epochs: int = EPOCHS) -> gnn.Model:
    """The model, trained; a sparse one is rewired before every epoch but the first."""
    model.compile(OPTIMIZERS[model.name], "cross_entropy", metrics=["accuracy"])
    rewire = [nn.Rewire()] if model.name == "sparse" else []
    model.fit(x, y, epochs=epochs, batch_size=BATCH, verbose=False, callbacks=rewire)
    return model


def mask(model: gnn.Model) -> np.ndarray:
    """Which weights of the first layer exist, (784, 1000)."""
    rows, columns, _ = model.state[f"{FIRST}/pattern"]
    found = np.zeros(WIDTHS[:2], bool)
    found[columns, rows] = True
    return found


def draw(path: Path, before: np.ndarray, after: np.ndarray, x: np.ndarray) -> None:
    """How many weights of the first layer each pixel has, beside the mean digit; and which exist."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9, 4.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2))
    most = after.sum(1).max()
    for axes, numbers, title, largest in zip(top.subplots(1, 3), (x.mean(0), before.sum(1), after.sum(1)),
                                             ("the mean digit", "weights of each pixel, before training", "after"),
                                             (1, most, most), strict=True):
        shown = axes.imshow(numbers.reshape(SIZE, SIZE), cmap="viridis", vmin=0, vmax=largest)
        axes.set_title(title, fontsize=10)
        axes.set(xticks=[], yticks=[])
        top.colorbar(shown, ax=axes, shrink=0.85)
    rows = slice(SIZE * SIZE // 2 - SIZE, SIZE * SIZE // 2 + SIZE)
    extent = 0, 150, rows.stop, rows.start
    for axes, exist, title in zip(bottom.subplots(1, 2, sharey=True), (before, after), ("before training", "after"), strict=True):
        axes.imshow(exist[rows, :150], cmap="Greys", aspect="auto", interpolation="nearest", extent=extent)
        axes.set_title(f"weights that exist, {title}", fontsize=10)
        axes.set(xlabel="neurons 0 to 149")
    figure.axes[-2].set(ylabel="pixels of two rows")
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})


def seconds_a_step(model: gnn.Model, x: np.ndarray, y: np.ndarray) -> float:
    """The median of 30 steps."""
    step, times = model.training_step(x[:128], y[:128]), []
    for _ in range(30):
        began = time.perf_counter()
        step(x[:128], y[:128])
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    x, y, x_test, y_test = data()
    sparse, dense = network(), network(sparse=False)
    first = mask(sparse)
    accuracy: dict[str, float] = {}
    for model in (sparse, dense):
        began = time.perf_counter()
        train(model, x, y)
        taken = time.perf_counter() - began
        accuracy[model.name] = model.evaluate(x_test, y_test)["accuracy"]
        weights = sum(model.state[value.name].size for value in model.parameters)
        print(f"{model.name:6s} accuracy {accuracy[model.name]:.4f} of unseen digits, "
              f"{weights:,} weights, {EPOCHS} epochs in {taken:.1f} s")
    last = mask(sparse)
    bright = x.mean(0) > np.median(x.mean(0))
    print(f"density of the first layer {first.mean():.4f} before training, {last.mean():.4f} after; "
          f"{(last & ~first).sum() / last.sum():.0%} of its weights are at new places; "
          f"the brighter half of the pixels had {first[bright].sum() / first.sum():.0%} of them, now "
          f"{last[bright].sum() / last.sum():.0%}")
    times = {model.name: seconds_a_step(model, x, y) for model in (sparse, dense)}
    print(f"a step at batch 128: sparse {1e3 * times['sparse']:.2f} ms, dense {1e3 * times['dense']:.2f} ms, "
          f"{times['dense'] / times['sparse']:.1f} times as fast")
    try:
        draw(folder / "sparse_evolution.png", first, last, x)
        print(f"written to {folder}: sparse_evolution.png")
    except ImportError:
        print("no picture: pip install 'graphnn[train]'")
    if accuracy["sparse"] < accuracy["dense"] - 0.01 or first.sum() != last.sum():
        print("the example failed: accuracy within 1 % of dense, and density as it was, are its goals", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
