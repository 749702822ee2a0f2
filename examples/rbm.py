"""Train a restricted Boltzmann machine on handwritten digits: filters, digits that it dreams, digits that it mends.

    python examples/rbm.py [folder for the pictures]

The digits are scikit-learn's, 1797 scans of 8 x 8 pixels, drawn at 16 x 16 in black and white: nothing is downloaded.
Needs scikit-learn and matplotlib: pip install scikit-learn 'graphnn[train]'
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.nn.utils import resize_images, tile_images
from graphnn.zoo import RBM

SIZE, HIDDEN, BATCH, CHAINS, TRAINING, EPOCHS = 16, 144, 20, 100, 1440, 120
ENOUGH = -40.0                                           # nats: untrained -177, of units that are independent -96


def data() -> tuple[np.ndarray, np.ndarray]:
    """Training and test digits: (N, 256) of 0 and 1."""
    from sklearn.datasets import load_digits

    images, _ = load_digits(return_X_y=True)
    digits = resize_images(images.reshape(-1, 8, 8), SIZE).reshape(len(images), -1)
    digits = (digits > 8).astype(np.float32)[np.random.default_rng(0).permutation(len(digits))]
    return digits[:TRAINING], digits[TRAINING:]


def damaged(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """The images with one pixel in ten turned over."""
    return np.abs(images - (np.random.default_rng(seed).uniform(size=images.shape) < 0.1)).astype(np.float32)


def draw(path: Path, filters: np.ndarray, dreamt: np.ndarray, rows: np.ndarray) -> None:
    """Filters, dreamt digits, and rows of digits, damaged, mended."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9, 3.3), layout="constrained")
    filters = filters / np.abs(filters).max(1, keepdims=True)
    for axes, images, columns, title, colours in zip(
            figure.subplots(1, 3), (filters, dreamt, rows), (8, 8, 8),
            ("what hidden units look at", "dreamt, in 1000 steps from noise", "unseen digits, damaged, mended"),
            ({"cmap": "RdBu", "vmin": -1, "vmax": 1}, *[{"cmap": "gray_r", "vmin": 0, "vmax": 1}] * 2), strict=True):
        axes.imshow(tile_images(images.reshape(-1, SIZE, SIZE), columns, gap=2), interpolation="nearest", **colours)
        axes.set(xticks=[], yticks=[], facecolor="0.8")
        axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    x, test = data()
    rate = "exponential_scheduler(initial_lr=0.1, stage_length=1000, decay=0.7)"
    rbm = RBM(HIDDEN, chains=CHAINS, optimizer=f"sgd(lr={rate})", weight_decay=1e-3, seed=0)
    began = time.perf_counter()
    rbm.fit(x, epochs=EPOCHS, batch_size=BATCH, validation_data=test, verbose=False)
    print(f"{EPOCHS} epochs of {len(x)} digits, persistent chains: {time.perf_counter() - began:.1f} s")
    likely = float(rbm.pseudo_likelihood(test).mean())
    print(f"pseudo-likelihood of unseen digits: {likely:.2f} nats (goal {ENOUGH}), "
          f"of seen ones {rbm.pseudo_likelihood(x).mean():.2f}")
    noisy = damaged(test)
    mended = np.mean([rbm.reconstruct(noisy, 1, sample=False, seed=seed) for seed in range(20)], axis=0)
    wrong = float(np.abs(noisy - test).mean()), float(np.abs(mended.round() - test).mean())
    print(f"unseen digits with {wrong[0]:.1%} of pixels turned over: "
          f"{wrong[1]:.1%} are wrong after a step of Gibbs sampling, mean of 20")
    rbm.save(folder / "rbm.gnn")
    try:
        rows = np.stack([(test[i:i + 8], noisy[i:i + 8], mended[i:i + 8]) for i in (0, 8, 16)])
        draw(folder / "rbm.png", rbm.filters[:64], rbm.sample(64, 1000, seed=0, probabilities=True), rows)
        rbm.history.plot(folder / "rbm_history.png")
        print(f"written to {folder}: rbm.png, rbm_history.png, rbm.gnn")
    except ImportError:
        print("no pictures: pip install 'graphnn[train]'")
    if likely < ENOUGH or wrong[1] >= 0.6 * wrong[0]:
        print("the example failed: it did not reach its goal", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
