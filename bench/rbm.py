"""zoo.RBM against scikit-learn's BernoulliRBM on digits: pseudo-likelihood at equal epochs, time of an epoch.

    python -m bench rbm

Same hidden units, batch size, chains, learning rate, epochs and data, in scikit-learn's faster dtype; scores are scikit-learn's
own `score_samples`, mean of 20 draws, whoever trained the weights. Times alternate, and are those of `fit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import graphnn as gnn
from bench.figures import Figure, at_least, medians
from graphnn.zoo import RBM

HIDDEN, BATCH, RATE, EPOCHS, SEEDS = 256, 10, 0.1, 10, 8   # scikit-learn's defaults


def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    images, _ = load_digits(return_X_y=True)
    return (images > 7.5).astype(np.float32)


def ours(seed: int, chains: int) -> RBM:
    return RBM(HIDDEN, chains=chains, optimizer=f"sgd(lr={RATE})", seed=seed)


def theirs(seed: int, epochs: int) -> Any:
    from sklearn.neural_network import BernoulliRBM

    return BernoulliRBM(HIDDEN, learning_rate=RATE, batch_size=BATCH, n_iter=epochs, random_state=seed)


def score(model: Any, x: np.ndarray) -> float:
    """scikit-learn's pseudo-likelihood: a random unit of each example, mean of 20 draws."""
    return float(np.mean([model.set_params(random_state=seed).score_samples(x).mean() for seed in range(20)]))


def with_our_weights(rbm: RBM, x: np.ndarray) -> Any:
    model = theirs(0, 1).fit(x[:BATCH])
    model.components_ = rbm.filters
    model.intercept_visible_, model.intercept_hidden_ = rbm.state["rbm/visible_bias"], rbm.state["rbm/hidden_bias"]
    return model


def figures() -> Iterator[Figure]:
    x = digits()
    peer = [score(theirs(seed, EPOCHS).fit(x), x) for seed in range(SEEDS)]
    # Persistent chains are what scikit-learn does: equal but for chance, so twice the standard error is allowed.
    for name, chains, allowed in (("persistent CD", BATCH, 2.0), ("CD-1", 0, 0.0)):
        found: list[float] = []
        for seed in range(SEEDS):
            rbm = ours(seed, chains)
            rbm.fit(x, epochs=EPOCHS, batch_size=BATCH, verbose=False)
            found.append(score(with_our_weights(rbm, x), x))
        error = float(np.hypot(np.std(found, ddof=1), np.std(peer, ddof=1)) / SEEDS**0.5)
        goal = float(np.mean(peer)) - allowed * error
        what = f"RBM 64-{HIDDEN}, {name}, pseudo-likelihood after {EPOCHS} epochs of digits, against scikit-learn's BernoulliRBM"
        yield Figure(what, f"{np.mean(found):.2f} against {np.mean(peer):.2f} nats (means of {SEEDS} seeds)", f"≥ {goal:.2f}",
                     bool(np.mean(found) >= goal))
    yield from times(x)


def times(x: np.ndarray) -> Iterator[Figure]:
    from threadpoolctl import threadpool_limits

    before = gnn.threads()
    for count in sorted({1, before}):
        rbm, model = ours(0, BATCH), theirs(0, 1)
        gnn.set_threads(count)
        with threadpool_limits(count):
            mine, peer = medians(lambda rbm=rbm: rbm.fit(x, batch_size=BATCH, epochs=1, verbose=False),
                                 lambda model=model: model.fit(x), seconds=3.0)
        gnn.set_threads(before)
        yield at_least(f"RBM 64-{HIDDEN}, batch {BATCH}: an epoch of digits against scikit-learn's BernoulliRBM, "
                       f"{count} thread{'s' if count > 1 else ''}", peer / mine, 2.0, f"{1e3 * mine:.1f} ms; {1e3 * peer:.1f}")
