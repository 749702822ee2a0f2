"""Schedulers: the learning rate of each step, computed inside the compiled step. They are given as an optimiser's `lr`.

>>> from graphnn import nn
>>> nn.SGD(lr="cosine_scheduler(initial_lr=0.1, steps=100)").lr.first
0.1
"""

from graphnn.nn.schedulers.by_step import (
    ConstantScheduler,
    CosineScheduler,
    ExponentialScheduler,
    NoamScheduler,
    OneCycleScheduler,
    StepScheduler,
)
from graphnn.nn.schedulers.king import KingScheduler
from graphnn.nn.schedulers.plateau import PlateauRule, ReduceOnPlateau
from graphnn.nn.schedulers.scheduler import ByStep, Scheduler
from graphnn.nn.schedulers.warm_up import BY_NAME, WarmUpScheduler, as_scheduler

__all__ = [
    "BY_NAME", "ByStep", "ConstantScheduler", "CosineScheduler", "ExponentialScheduler", "KingScheduler", "NoamScheduler",
    "OneCycleScheduler", "PlateauRule", "ReduceOnPlateau", "Scheduler", "StepScheduler", "WarmUpScheduler", "as_scheduler",
]  # fmt: skip
