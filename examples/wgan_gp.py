"""Train a WGAN-GP on 25 Gaussians in the plane and look whether it finds them all.

    python examples/wgan_gp.py [folder for the picture]

Needs matplotlib for the picture: pip install 'graphnn[train]'
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graphnn.zoo import WGAN_GP

SPREAD = 0.05
CENTRES = np.array([(x, y) for x in range(-2, 3) for y in range(-2, 3)], np.float64)
EPOCHS, STEPS, RATE = 35, 200, 2e-3
ENOUGH = 0.80


def points(count: int, seed: int = 0) -> np.ndarray:
    """Points around the 25 centres, as many at each."""
    rng = np.random.default_rng(seed)
    return CENTRES[np.arange(count) % len(CENTRES)] + SPREAD * rng.normal(size=(count, 2))


def quality(samples: np.ndarray) -> tuple[int, float]:
    """How many modes have samples within 4 standard deviations, and the share of samples that are this near to one.

    A mode counts when it has at least a tenth of the samples that it should have.
    """
    distance = np.linalg.norm(samples[:, None] - CENTRES, axis=2)
    near = distance.min(1) < 4 * SPREAD
    counts = np.bincount(distance.argmin(1)[near], minlength=len(CENTRES))
    return int(np.sum(counts >= 0.1 * len(samples) / len(CENTRES))), float(near.mean())


def slower(gan: WGAN_GP, epoch: int, numbers: Mapping[str, float]) -> None:
    """Half of the way at full rate, then down to nothing."""
    rate = RATE * min(1.0, 2.0 * (1.0 - epoch / EPOCHS) + 1e-3)
    gan.state.update({"critic_optimizer/lr": rate, "generator_optimizer/lr": rate})


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    gan = WGAN_GP(hidden_features=128, latent_dim=2, lambda_=0.1, optimizer=f"adam(lr={RATE}, beta1=0.5, beta2=0.9)", seed=0)
    history = gan.fit(points(10_000), epochs=EPOCHS, steps_per_epoch=STEPS, batch_size=256, callbacks=[slower])
    samples = gan.sample(10_000)
    modes, share = quality(samples)
    print(f"{EPOCHS * STEPS} generator steps, {gan.critic_steps} times as many of the critic, "
          f"in {time.perf_counter() - began:.0f} s")
    print(f"modes found: {modes} of {len(CENTRES)}; samples within 4 standard deviations of a mode: {100 * share:.1f} %")
    try:
        draw(samples, history["distance"], folder / "wgan_gp.png")
    except ImportError:
        print("no picture: pip install 'graphnn[train]'")
    if modes < len(CENTRES) or share < ENOUGH:
        print(f"too little: all modes and {100 * ENOUGH:.0f} % were to be reached", file=sys.stderr)
        return 1
    return 0


def draw(samples: np.ndarray, distance: list[float], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    real, made, course = figure.subplots(1, 3)
    for axes, shown, title in ((real, points(2500), "data"), (made, samples[:2500], "samples")):
        axes.plot(*shown.T, ".", markersize=1)
        axes.set(title=title, aspect="equal", xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
    course.plot(np.arange(1, len(distance) + 1) * STEPS, distance)
    course.set(title="distance by the critic", xlabel="generator steps", yscale="log")
    figure.savefig(path, dpi=80)
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
