"""Losses: what training makes small. A loss writes IR for (prediction, target) and says which targets it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphnn.nn.described import make
from graphnn.nn.losses.base import Loss
from graphnn.nn.losses.classification import CrossEntropy
from graphnn.nn.losses.distributions import BinaryCrossEntropy, KLDivergence
from graphnn.nn.losses.generative import VAELoss, WGAN_GPLoss
from graphnn.nn.losses.nce import NCELoss
from graphnn.nn.losses.regression import Huber, MeanAbsoluteError, SquaredError

# The losses of (prediction, target), which a model is trained with by name.
BY_NAME: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "kl_divergence": KLDivergence,
}


def as_loss(loss: Loss | str | Mapping[str, Any]) -> Loss:
    """The loss meant by an object, a string such as "cross_entropy" or "huber(delta=2.0)", or a dictionary.

    >>> as_loss({"name": "huber", "delta": 2}) == as_loss("huber(delta=2.0)") == Huber(delta=2)
    True
    """
    return make(loss, BY_NAME, Loss, "loss")
