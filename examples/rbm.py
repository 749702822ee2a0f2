"""Train a restricted Boltzmann machine on handwritten digits: filters, digits that it dreams, digits that it mends.

    python examples/rbm.py [folder for the pictures]

The digits are scikit-learn's, 1797 scans of 8 x 8 pixels, black and white: nothing is downloaded.
Needs scikit-learn and matplotlib: pip install scikit-learn 'graphnn[train]'
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from graphnn.zoo import RBM

HIDDEN, BATCH, CHAINS, TRAINING = 100, 20, 100, 1440
ENOUGH = -17.5                                           # nats: untrained -44.4, of units that are independent -25.3


def data() -> tuple[np.ndarray, np.ndarray]:
    """Training and test digits: (N, 64) of 0 and 1."""
    from sklearn.datasets import load_digits

    images, _ = load_digits(return_X_y=True)
    digits = (images > 7.5).astype(np.float32)
    digits = digits[np.random.default_rng(0).permutation(len(digits))]
    return digits[:TRAINING], digits[TRAINING:]


def damaged(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """The images with one pixel in ten turned over."""
    return np.abs(images - (np.random.default_rng(seed).uniform(size=images.shape) < 0.1)).astype(np.float32)


def grid(path: Path, title: str, images: np.ndarray, columns: int, colours: str = "gray") -> None:
    """The images, 8 x 8 each, as one picture."""
    from matplotlib.figure import Figure

    rows = -(-len(images) // columns)
    figure = Figure(figsize=(0.55 * columns, 0.55 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    limit = float(np.abs(images).max())
    for i, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image.reshape(8, 8), cmap=colours, vmin=0 if colours == "gray" else -limit, vmax=limit)
        axes.axis("off")
    figure.savefig(path, dpi=120)


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    x, test = data()
    rate = "exponential_scheduler(initial_lr=0.1, stage_length=1000, decay=0.7)"
    rbm = RBM(HIDDEN, chains=CHAINS, optimizer=f"sgd(lr={rate})", weight_decay=1e-4, seed=0)
    began = time.perf_counter()
    rbm.fit(x, epochs=100, batch_size=BATCH, validation_data=test, verbose=False)
    print(f"100 epochs of {len(x)} digits, persistent chains: {time.perf_counter() - began:.1f} s")
    likely = float(rbm.pseudo_likelihood(test).mean())
    print(f"pseudo-likelihood of unseen digits: {likely:.2f} nats (goal {ENOUGH}), "
          f"of seen ones {rbm.pseudo_likelihood(x).mean():.2f}")
    noisy = damaged(test)
    mended = np.mean([rbm.reconstruct(noisy, 1, sample=False, seed=seed) for seed in range(20)], axis=0)
    wrong = float(np.abs(noisy - test).mean()), float(np.abs(mended.round() - test).mean())
    print(f"unseen digits with {wrong[0]:.1%} of pixels turned over: "
          f"{wrong[1]:.1%} are wrong after a step of Gibbs sampling, mean of 20")
    dreamt = rbm.sample(100, 2000, seed=0, probabilities=True)

    grid(folder / "rbm_filters.png", "what each hidden unit looks at", rbm.filters, 20, "RdBu")
    grid(folder / "rbm_samples.png", "dreamt, from noise, in 2000 steps", dreamt, 20)
    rows = np.stack([test[:20], noisy[:20], mended[:20]]).reshape(-1, 64)
    grid(folder / "rbm_mended.png", "unseen digits, damaged, mended", rows, 20)
    rbm.history.plot(folder / "rbm_history.png")
    rbm.save(folder / "rbm.gnn")
    print(f"written to {folder}: rbm_filters.png, rbm_samples.png, rbm_mended.png, rbm_history.png, rbm.gnn")
    if likely < ENOUGH or wrong[1] >= wrong[0]:
        print("the example failed: it did not reach its goal", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
