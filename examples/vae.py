"""Train a variational autoencoder on handwritten digits: reconstructions, new digits, a map of codes of two numbers.

    python examples/vae.py [folder for the pictures]

The digits are scikit-learn's, 1797 scans of 8 x 8 pixels, drawn at 28 x 28: nothing is downloaded.
Needs scikit-learn and matplotlib: pip install scikit-learn 'graphnn[train]'
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.zoo import BernoulliVAE

SIZE, TRAINING, EPOCHS = 28, 1440, 30
ENOUGH = 290.0                                           # the loss of unseen digits; untrained it is 545, of the mean digit 442


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels: (N, 28, 28, 1) in [0, 1]."""
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    images = larger(digits.reshape(-1, 8, 8) / 16.0)[..., None].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    first, rest = order[:TRAINING], order[TRAINING:]
    return images[first], labels[first], images[rest], labels[rest]


def larger(images: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Images (N, h, w) at size x size, by linear interpolation between the centres of pixels."""
    for axis in (1, 2):
        count = images.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.minimum(at.astype(int), count - 2)
        part = (at - low)[:, None] if axis == 1 else at - low
        images = images.take(low, axis) * (1 - part) + images.take(low + 1, axis) * part
    return images


def train(codes: int, *, seed: int = 0, verbose: bool = True) -> BernoulliVAE:
    """A trained network with codes of so many numbers."""
    images, _, unseen, _ = data()
    vae = BernoulliVAE(T=codes, optimizer="adam(lr=0.001)", seed=seed)
    vae.fit(images, epochs=EPOCHS, batch_size=64, validation_data=unseen, verbose=verbose)
    return vae


def main(folder: Path) -> int:
    began = time.perf_counter()
    _, _, unseen, labels = data()
    print("codes of 10 numbers")
    vae = train(10)
    print("codes of 2 numbers")
    flat = train(2)
    found = {net.T: net.evaluate(unseen) for net in (vae, flat)}
    print(f"trained in {time.perf_counter() - began:.0f} s; loss of unseen digits: " +
          ", ".join(f"{loss['loss']:.1f} with codes of {t} numbers" for t, loss in found.items()))
    try:
        draw(vae, unseen, folder / "vae.png")
        draw_map(flat, unseen, labels, folder / "vae_map.png")
    except ImportError:
        print("no pictures: pip install 'graphnn[train]'")
    if found[10]["loss"] > ENOUGH:
        print(f"too much: {ENOUGH} was to be reached", file=sys.stderr)
        return 1
    return 0


def tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, H, W, 1) as one picture, row by row."""
    n, height, width, _ = images.shape
    return images.reshape(n // columns, columns, height, width).swapaxes(1, 2).reshape(-1, columns * width)


def draw(vae: BernoulliVAE, unseen: np.ndarray, path: Path) -> None:
    """Unseen digits above their reconstructions, and new digits."""
    shown = unseen[:20]
    pairs = np.concatenate([part for row in (shown[:10], shown[10:]) for part in (row, vae.reconstruct(row))])
    figure = new_figure(9, 2.3)
    left, right = figure.subplots(1, 2)
    for axes, picture, title in ((left, pairs, "unseen digits, each above its reconstruction"),
                                 (right, vae.generate(40), "new digits")):
        axes.imshow(tiled(picture, 10), cmap="gray_r", vmin=0, vmax=1)
        axes.set(title=title, xticks=[], yticks=[])
    save(figure, path)


def draw_map(vae: BernoulliVAE, unseen: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Where the codes of unseen digits lie, and what the codes between decode to."""
    mean, _ = vae.encode(unseen)
    line = np.linspace(-2.4, 2.4, 9)
    grid = np.stack(np.meshgrid(line, line[::-1]), -1).reshape(-1, 2)
    figure = new_figure(7.2, 3.4)
    left, right = figure.subplots(1, 2)
    points = left.scatter(*mean.T, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=12)
    figure.colorbar(points, ax=left, ticks=range(10), label="digit")
    left.set(title="codes of unseen digits", aspect="equal")
    right.imshow(tiled(vae.decode(grid), 9), cmap="gray_r", vmin=0, vmax=1, extent=(-2.7, 2.7, -2.7, 2.7))
    right.set(title="what codes decode to")
    save(figure, path)


def new_figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
