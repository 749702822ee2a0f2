"""Optimisers: how parameters follow their gradients. `graphnn.nn.optimisers.optimiser` says what they have in common."""

from typing import Any

from graphnn.nn.described import make
from graphnn.nn.optimisers.adaptive import AdaGrad, Adam, AdamW, RMSProp
from graphnn.nn.optimisers.optimiser import Optimizer, Updates
from graphnn.nn.optimisers.sgd import SGD

__all__ = ["BY_NAME", "SGD", "AdaGrad", "Adam", "AdamW", "Optimizer", "RMSProp", "Updates", "as_optimiser"]

BY_NAME: dict[str, type[Optimizer]] = {"adagrad": AdaGrad, "adam": Adam, "adamw": AdamW, "rmsprop": RMSProp, "sgd": SGD}


def as_optimiser(optimizer: Any) -> Optimizer:
    """The optimiser meant by an object, a string such as "adam(lr=0.001)", or a dictionary.

    >>> as_optimiser({"name": "sgd", "lr": 0.5, "momentum": 0.9}).momentum
    0.9
    """
    return make(optimizer, BY_NAME, Optimizer, "optimizer")
