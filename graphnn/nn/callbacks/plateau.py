"""The learning rate lowered when a number stops getting better."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphnn.errors import UnsupportedError
from graphnn.nn.callbacks.callback import Monitor, Numbers, optimizers_of, rate_name
from graphnn.nn.schedulers import Scheduler
from graphnn.nn.schedulers.plateau import PlateauRule

if TYPE_CHECKING:
    from graphnn.nn.model import Model


@dataclass
class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by `factor` when `monitor` has not improved for more than `patience` epochs.

    Better means by more than `threshold`, of the best ("rel") or as it is ("abs"). For `cooldown` epochs after that no epoch
    counts as bad. The rate stays at least `min_lr`, and a change below `eps` is not made. Each `fit` starts anew. Needs an
    optimiser with a learning rate of its own: a scheduler would set it at every step. Of a network with several optimisers
    the rates of all are lowered.

    >>> from graphnn import nn
    >>> nn.ReduceLROnPlateau(patience=2, factor=0.5).factor
    0.5
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8
    mode: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rule = self._new_rule()

    def _new_rule(self) -> PlateauRule:
        return PlateauRule(mode=self.direction(), factor=self.factor, patience=self.patience, threshold=self.threshold,
                           threshold_mode=self.threshold_mode, cooldown=self.cooldown, min_lr=self.min_lr, eps=self.eps)

    def on_train_begin(self, model: Model) -> None:
        for optimizer in optimizers_of(model, self):
            if isinstance(optimizer.lr, Scheduler):
                raise UnsupportedError("ReduceLROnPlateau: the learning rate is set at every step by "
                                       f"{type(optimizer.lr).__name__}", hint="give the optimizer a number as its lr")
        self._rule = self._new_rule()

    def on_epoch_end(self, model: Model, epoch: int, numbers: Numbers) -> None:
        if self._rule.fires(self.watched(numbers)):
            for name in map(rate_name, optimizers_of(model, self)):
                model.state[name] = self._rule.lowered(float(model.state[name]))
