"""Schedulers beside torch.optim.lr_scheduler: the learning rates of some hundred steps, on paper and in a compiled step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import optim
from torch.optim import lr_scheduler

import graphnn as gnn
from graphnn import nn
from parity.harness import Arrays, Draw, Problem, parity

Theirs = Callable[[optim.Optimizer], lr_scheduler.LRScheduler]


@dataclass
class Rates(Problem):
    """A scheduler of ours and what makes PyTorch's; the losses, for schedulers that look at them."""

    scheduler: nn.Scheduler
    first: float                                         # what PyTorch's starts from
    reference: Theirs
    losses: np.ndarray                                   # as many as there are steps

    def ours(self) -> Arrays:
        dtype = gnn.TensorType.of(self.losses).dtype
        w, loss = gnn.parameter("w", (), nn.Zeros(), dtype=dtype), gnn.placeholder("loss", gnn.TensorType.of(self.losses[0]))
        step = gnn.compile(gnn.Graph.of("step", [loss], [loss], updates=nn.SGD(self.scheduler).updates([w], [w], loss)))
        in_steps = []
        for value in self.losses:
            in_steps.append(step.state["sgd/lr"].copy())
            step(np.asarray(value))
        return {"rates": self.scheduler.rates(len(self.losses), self.losses), "in steps": np.stack(in_steps)}

    def theirs(self, real: torch.dtype) -> Arrays:
        optimizer = optim.SGD([torch.zeros((), dtype=real, requires_grad=True)], lr=self.first)
        scheduler = self.reference(optimizer)
        rates = []
        for value in self.losses:
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(float(value))
            else:
                scheduler.step()
        return {"rates": np.array(rates), "in steps": np.array(rates)}


def rates(draw: Draw, scheduler: nn.Scheduler, first: float, reference: Theirs, steps: int = 300) -> Rates:
    """A problem whose losses fall, with noise."""
    losses = np.exp(-np.arange(steps) / draw.number(5, 200)) + draw.number(0, 0.3) * draw.rng.normal(size=steps)
    return Rates(scheduler, first, reference, losses.astype(draw.real))


@parity("schedulers", "ConstantScheduler", floor=1e-3)
def constant(draw: Draw) -> Rates:
    lr = draw.number(0, 1)
    return rates(draw, nn.ConstantScheduler(lr), lr, lambda o: lr_scheduler.ConstantLR(o, factor=1.0))


@parity("schedulers", "StepScheduler", floor=1e-3)
def step(draw: Draw) -> Rates:
    lr, size, decay = draw.number(0, 1), draw.size(1, 80), draw.number(0.1, 1.1)
    return rates(draw, nn.StepScheduler(lr, size, decay=decay), lr, lambda o: lr_scheduler.StepLR(o, size, decay))


@parity("schedulers", "StepScheduler (milestones)", floor=1e-3)
def milestones(draw: Draw) -> Rates:
    lr, decay, when = draw.number(0, 1), draw.number(0.1, 1.1), sorted(draw.ids(300, draw.size(1, 5)).tolist())
    when = [m for m in when if m > 0] or [7]             # PyTorch's are not counted at step 0
    return rates(draw, nn.StepScheduler(lr, milestones=when, decay=decay), lr, lambda o: lr_scheduler.MultiStepLR(o, when, decay))


@parity("schedulers", "ExponentialScheduler", floor=1e-3)
def exponential(draw: Draw) -> Rates:
    lr, length, decay, stairs = draw.number(0, 1), draw.size(1, 100), draw.number(0.3, 1.1), draw.flag()
    scheduler = nn.ExponentialScheduler(lr, length, stairs, decay)
    if stairs:
        return rates(draw, scheduler, lr, lambda o: lr_scheduler.StepLR(o, length, decay))
    return rates(draw, scheduler, lr, lambda o: lr_scheduler.ExponentialLR(o, decay ** (1 / length)))


@parity("schedulers", "CosineScheduler", floor=1e-3)
def cosine(draw: Draw) -> Rates:
    """Up to its last step: PyTorch's goes up again after it, ours stays."""
    lr, low, steps = draw.number(0.1, 1), draw.number(0, 0.1), draw.size(2, 400)
    return rates(draw, nn.CosineScheduler(lr, steps, low), lr, lambda o: lr_scheduler.CosineAnnealingLR(o, steps, low), steps + 1)


@parity("schedulers", "CosineScheduler (restarts)", floor=1e-3)
def cosine_with_restarts(draw: Draw) -> Rates:
    lr, low, steps, growth = draw.number(0.1, 1), draw.number(0, 0.1), draw.size(2, 60), draw.size(1, 3)
    return rates(draw, nn.CosineScheduler(lr, steps, low, restarts=True, growth=growth), lr,
                 lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, steps, growth, low))


@parity("schedulers", "OneCycleScheduler", floor=1e-3)
def one_cycle(draw: Draw) -> Rates:
    lr, steps, start, anneal = draw.number(0.1, 1), draw.size(20, 400), draw.number(0.1, 0.8), draw.choice("cos", "linear")
    div, final = draw.number(2, 50), draw.number(10, 1e5)
    return rates(draw, nn.OneCycleScheduler(lr, steps, start, div, final, anneal), lr, lambda o: lr_scheduler.OneCycleLR(
        o, lr, total_steps=steps, pct_start=start, anneal_strategy=anneal, cycle_momentum=False,
        div_factor=div, final_div_factor=final), steps)


@parity("schedulers", "NoamScheduler", floor=1e-3)
def noam(draw: Draw) -> Rates:
    size, scale, warm = draw.size(1, 512), draw.number(0.1, 3), draw.size(1, 200)
    return rates(draw, nn.NoamScheduler(size, scale, warm), 1.0, lambda o: lr_scheduler.LambdaLR(
        o, lambda t: scale / math.sqrt(size) * min((t + 1) ** -0.5, (t + 1) * warm ** -1.5)))


@parity("schedulers", "WarmUpScheduler", floor=1e-3)
def warm_up(draw: Draw) -> Rates:
    lr, steps, start = draw.number(0, 1), draw.size(1, 60), draw.number(0.01, 1)
    size, decay = draw.size(1, 50), draw.number(0.5, 1)
    return rates(draw, nn.WarmUpScheduler(nn.StepScheduler(lr, size, decay=decay), steps, start), lr,
                 lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o, start, total_iters=steps),
                                                         lr_scheduler.StepLR(o, size, decay)], [steps]))


def _plateau(draw: Draw) -> dict[str, float | int | str]:
    return {"mode": draw.choice("min", "max"), "factor": draw.number(0.1, 0.9), "patience": draw.size(0, 20),
            "threshold": draw.choice(0.0, 1e-4, 0.02), "threshold_mode": draw.choice("rel", "abs"), "cooldown": draw.size(0, 15),
            "min_lr": draw.choice(0.0, 0.01), "eps": draw.choice(1e-8, 1e-3)}


@parity("schedulers", "ReduceOnPlateau", floor=1e-3)
def reduce_on_plateau(draw: Draw) -> Rates:
    lr, options = draw.number(0.1, 1), _plateau(draw)
    return rates(draw, nn.ReduceOnPlateau(lr, **options), lr,  # pyright: ignore[reportArgumentType]
                 lambda o: lr_scheduler.ReduceLROnPlateau(o, **options))  # pyright: ignore[reportArgumentType]


@dataclass
class Rule(Rates):
    """The rule of plateaus on the host."""

    rule: nn.PlateauRule

    def ours(self) -> Arrays:
        lr, found = self.first, []
        for value in self.losses:
            found.append(lr)
            lr = self.rule.update(float(value), lr)
        return {"rates": np.array(found), "in steps": np.array(found)}


@parity("schedulers", "PlateauRule", floor=1e-3)
def plateau_rule(draw: Draw) -> Rates:
    problem = reduce_on_plateau(draw)
    assert isinstance(problem.scheduler, nn.ReduceOnPlateau)
    return Rule(problem.scheduler, problem.first, problem.reference, problem.losses, problem.scheduler.rule())
