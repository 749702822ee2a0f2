"""Losses: what training makes small. A loss writes IR for (prediction, target) and says which targets it takes."""

from __future__ import annotations

from graphnn.nn.described import DescriptionError, read
from graphnn.nn.losses.base import Loss
from graphnn.nn.losses.classification import CrossEntropy
from graphnn.nn.losses.regression import SquaredError

# The losses of (prediction, target), which a model is trained with by name.
BY_NAME: dict[str, type[Loss]] = {"squared_error": SquaredError, "cross_entropy": CrossEntropy}


def as_loss(loss: Loss | str) -> Loss:
    """The loss meant by an object or a string such as "cross_entropy"."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        return read(loss, BY_NAME, "loss")
    raise DescriptionError(f"{type(loss).__name__} is no loss; give nn.CrossEntropy() or a name: {', '.join(BY_NAME)}")
