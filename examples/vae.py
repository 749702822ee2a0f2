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

from graphnn.nn.utils import resize_images, tile_images
from graphnn.zoo import BernoulliVAE

SIZE, TRAINING, EPOCHS = 28, 1440, 30
ENOUGH = 290.0                                           # the loss of unseen digits; untrained it is 545, of the mean digit 442


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels: (N, 28, 28, 1) in [0, 1]."""
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    images = resize_images(digits.reshape(-1, 8, 8) / 16.0, SIZE)[..., None].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    first, rest = order[:TRAINING], order[TRAINING:]
    return images[first], labels[first], images[rest], labels[rest]


def train(codes: int, *, seed: int = 0, verbose: bool = True) -> BernoulliVAE:
    """A trained network with codes of so many numbers."""
    images, _, unseen, _ = data()
    vae = BernoulliVAE(T=codes, optimizer="adam(lr=0.001)", seed=seed)
    vae.fit(images, epochs=EPOCHS, batch_size=64, validation_data=unseen, verbose=verbose)
    return vae


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
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


def draw(vae: BernoulliVAE, unseen: np.ndarray, path: Path) -> None:
    """Unseen digits above their reconstructions, and new digits."""
    rows = unseen[:24].reshape(3, 8, SIZE, SIZE, 1)
    pairs = np.stack([(row, vae.reconstruct(row)) for row in rows]).reshape(-1, SIZE, SIZE, 1)
    figure = new_figure(7.2, 2.9)
    for axes, images, title in zip(figure.subplots(1, 2), (pairs, vae.generate(48)),
                                   ("unseen digits, each above its reconstruction", "new digits"), strict=True):
        show(axes, images, 8)
        axes.set_title(title, fontsize=10)
        axes.set(xticks=[], yticks=[])
    save(figure, path)


def draw_map(vae: BernoulliVAE, unseen: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Where the codes of unseen digits lie, and what the codes between decode to."""
    mean, _ = vae.encode(unseen)
    line = np.linspace(-2.1, 2.1, 10)
    grid = np.stack(np.meshgrid(line, line[::-1]), -1).reshape(-1, 2)
    figure = new_figure(7.2, 3.7)
    left, right = figure.subplots(1, 2)
    for digit in range(10):
        x, y = mean[labels == digit].T
        left.scatter(x, y, s=0)                          # for the limits
        for place in zip(x, y, strict=True):
            left.annotate(str(digit), place, color=f"C{digit}", fontsize=8, ha="center", va="center")
    left.set(title="codes of unseen digits", xlabel="first number", ylabel="second number", aspect="equal")
    half = 2.1 + 2.1 / 9
    show(right, vae.decode(grid), 10, extent=(-half, half, -half, half))
    right.set(title="what codes decode to", xlabel="first number")
    save(figure, path)


def show(axes: Any, images: np.ndarray, columns: int, **options: Any) -> None:
    axes.imshow(tile_images(images, columns, gap=2), cmap="gray_r", vmin=0, vmax=1, **options)
    axes.set_facecolor("0.8")


def new_figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
