"""Train a convolutional WGAN-GP on handwritten digits and draw new ones.

    python examples/wgan_digits.py [folder for the picture]

The digits are scikit-learn's, 1797 scans of 8 x 8 pixels: nothing is downloaded.
Needs scikit-learn and matplotlib: pip install scikit-learn 'graphnn[train]'
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from graphnn.nn.utils import tile_images
from graphnn.zoo import WGAN_GP

EPOCHS, STEPS, BATCH, RATE = 25, 150, 64, 2e-3
ENOUGH = 0.75


def digits() -> np.ndarray:
    """Images (N, 8, 8, 1) in [0, 1]."""
    from sklearn.datasets import load_digits

    pixels, _ = load_digits(return_X_y=True)
    return (pixels / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)


def slower(gan: WGAN_GP, epoch: int, numbers: Mapping[str, float]) -> None:
    """Half of the way at full rate, then down to nothing."""
    rate = RATE * min(1.0, 2.0 * (1.0 - epoch / EPOCHS) + 1e-3)
    gan.state.update({"critic_optimizer/lr": rate, "generator_optimizer/lr": rate})


def train(*, verbose: bool = True) -> WGAN_GP:
    """A trained generator of digits."""
    gan = WGAN_GP(hidden_features=256, form="convolutional", latent_dim=32, lambda_=1.0, critic_steps=3,
                  activation="leaky_relu(alpha=0.2)", output_activation="sigmoid",
                  optimizer=f"adam(lr={RATE}, beta1=0.5, beta2=0.9)", seed=0)
    gan.fit(digits(), epochs=EPOCHS, steps_per_epoch=STEPS, batch_size=BATCH, callbacks=[slower], verbose=verbose)
    return gan


def recogniser() -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """A function of images: how sure a classifier of real digits is of them on average, and how many it takes for each digit."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    pixels, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(max_iter=1000).fit(pixels / 16.0, labels)

    def recognised(images: np.ndarray) -> tuple[float, np.ndarray]:
        scores = classifier.predict_proba(images.reshape(len(images), -1))
        return float(scores.max(1).mean()), np.bincount(scores.argmax(1), minlength=10)

    return recognised


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    gan = train()
    print(f"{EPOCHS * STEPS} generator steps, {gan.critic_steps} times as many of the critic, "
          f"in {time.perf_counter() - began:.0f} s")
    noise = np.random.default_rng(0).random((1000, 64))
    (sure, counts), (least, _), (most, _) = map(recogniser(), (gan.sample(1000), noise, digits()))
    print(f"a classifier of digits is sure of made ones to {100 * sure:.0f} %, of real ones to {100 * most:.0f} %, of noise to "
          f"{100 * least:.0f} %; it finds of each digit {', '.join(map(str, counts))}")
    try:
        draw(gan, folder / "wgan_digits.png")
    except ImportError:
        print("no picture: pip install 'graphnn[train]'")
    if sure < ENOUGH or counts.min() < 20:
        print(f"too little: it should be sure to {100 * ENOUGH:.0f} %, and find at least 20 of each digit", file=sys.stderr)
        return 1
    return 0


def draw(gan: WGAN_GP, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    for axes, images, title in zip(figure.subplots(1, 2), (digits()[:96], gan.sample(96)), ("digits", "samples"), strict=True):
        axes.imshow(tile_images(images, 12), cmap="gray_r", vmin=0, vmax=1)
        axes.set(title=title, xticks=[], yticks=[], facecolor="0.8")
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
