"""Optimisers beside torch.optim: the parameters after each of 50 steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, optim
from torch.nn import functional
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

import graphnn as gnn
from graphnn import nn
from parity.harness import Arrays, Draw, Problem, parity

STEPS = 50
Made = Callable[[list[dict[str, Any]]], optim.Optimizer]


@dataclass
class Descent(Problem):
    """Parameters p that go down sum(pull p + p^2 / 2), another pull at each step; of the table, only looked-up rows."""

    optimizer: nn.Optimizer
    reference: Made
    starts: Arrays
    pulls: Arrays                                        # of all steps
    ids: np.ndarray | None = None                        # which rows of "table" are looked up, of all steps
    group: dict[str, Any] = field(default_factory=dict)  # settings of PyTorch's for parameters named "other/..."

    def ours(self) -> Arrays:
        params = {name: gnn.parameter(name, start.shape, nn.Zeros(), dtype=gnn.TensorType.of(start).dtype)
                  for name, start in self.starts.items()}
        pulls = {name: gnn.placeholder(f"pull/{name}", gnn.TensorType.of(pull[0])) for name, pull in self.pulls.items()}
        given, loss = list(pulls.values()), None
        ids = None if self.ids is None else gnn.placeholder("ids", gnn.TensorType.of(self.ids[0]))
        for name, p in params.items():
            seen = gnn.gather(p, ids) if ids is not None and name == "table" else p
            part = gnn.sum(pulls[name] * seen + 0.5 * (seen * seen))
            loss = part if loss is None else loss + part
        assert loss is not None
        updates = self.optimizer.updates(list(params.values()), gnn.gradients(loss, list(params.values())), loss)
        given += [] if ids is None else [ids]
        exe = gnn.compile(gnn.Graph.of("step", given, [loss], updates=updates))
        exe.state.update(self.starts)
        found: dict[str, list[np.ndarray]] = {name: [] for name in params}
        for i in range(STEPS):
            exe(*(pull[i] for pull in self.pulls.values()), *([] if self.ids is None else [self.ids[i]]))
            for name, steps in found.items():
                steps.append(exe.state[name].copy())
        return {name: np.stack(steps) for name, steps in found.items()}

    def theirs(self, real: torch.dtype) -> Arrays:
        params = {name: torch.tensor(start, dtype=real).requires_grad_() for name, start in self.starts.items()}
        others = [p for name, p in params.items() if name.startswith("other")]
        rest = [p for name, p in params.items() if not name.startswith("other")]
        optimizer = self.reference([{"params": rest}, {"params": others, **self.group}] if others else [{"params": rest}])
        found: dict[str, list[np.ndarray]] = {name: [] for name in params}
        for i in range(STEPS):
            optimizer.zero_grad()
            for name, p in params.items():
                look = self.ids is not None and name == "table"
                seen = functional.embedding(torch.tensor(self.ids[i]), p, sparse=True) if look and self.ids is not None else p
                (torch.tensor(self.pulls[name][i], dtype=real) * seen + 0.5 * seen * seen).sum().backward()
            self._clip(list(params.values()))
            optimizer.step()
            for name, steps in found.items():
                steps.append(params[name].detach().numpy().copy())
        return {name: np.stack(steps) for name, steps in found.items()}

    def _clip(self, params: list[Tensor]) -> None:
        if self.optimizer.clip_value is not None:
            clip_grad_value_(params, self.optimizer.clip_value)
        for limit, groups in ((self.optimizer.clip_norm, [[p] for p in params]), (self.optimizer.clip_global_norm, [params])):
            for group in groups if limit is not None else ():
                # clip_grad_norm_ divides by the norm plus 1e-6; this is without.
                total = get_total_norm([p.grad for p in group if p.grad is not None])
                clip_grads_with_norm_(group, limit or 0.0, total - 1e-6)


def descent(draw: Draw, kind: Callable[..., nn.Optimizer], reference: Callable[..., optim.Optimizer], ours: dict[str, Any],
            theirs: dict[str, Any]) -> Descent:
    """A problem for one optimiser with these settings, and with weight decay, clipping and a group by chance."""
    lr = draw.number(0.001, 0.1)
    decay = draw.choice(0.0, draw.number(0.0, 0.3))
    clips = {name: draw.number(0.2, 3.0) for name in ("clip_value", "clip_norm", "clip_global_norm") if draw.rng.random() < 0.25}
    groups, group = None, {}
    if draw.flag():
        scale, own = draw.number(0.1, 2.0), draw.number(0.0, 0.3)
        groups, group = {"other": {"lr_scale": scale, "weight_decay": own}}, {"lr": lr * scale, "weight_decay": own}
    shapes = {"w": (draw.size(1, 5), draw.size(1, 9)), "b": (draw.size(1, 9),), "other/w": (draw.size(1, 3), 2, 3), "other/b": ()}
    return Descent(kind(lr, weight_decay=decay, groups=groups, **clips, **ours),
                   lambda params: reference(params, lr=lr, weight_decay=decay, **theirs),
                   {name: np.asarray(draw.normal(*shape)) for name, shape in shapes.items()},
                   {name: draw.normal(STEPS, *shape) for name, shape in shapes.items()}, group=group)


@parity("optimisers", "SGD")
def sgd(draw: Draw) -> Descent:
    momentum = draw.choice(0.0, draw.number(0.1, 0.95))
    nesterov = draw.flag() and momentum > 0
    dampening = 0.0 if nesterov or not momentum else draw.choice(0.0, draw.number(0, 1))
    options = {"momentum": momentum, "nesterov": nesterov, "dampening": dampening}
    return descent(draw, nn.SGD, optim.SGD, options, options)


@parity("optimisers", "AdaGrad")
def ada_grad(draw: Draw) -> Descent:
    options = {"eps": draw.choice(1e-10, 1e-6, 1e-2)}
    return descent(draw, nn.AdaGrad, optim.Adagrad, options, options)


@parity("optimisers", "RMSProp")
def rms_prop(draw: Draw) -> Descent:
    options = {"eps": draw.choice(1e-8, 1e-2), "momentum": draw.choice(0.0, draw.number(0.1, 0.95)), "centered": draw.flag()}
    decay = draw.number(0.5, 0.99)
    return descent(draw, nn.RMSProp, optim.RMSprop, {"decay": decay, **options}, {"alpha": decay, **options})


def _moments(draw: Draw) -> tuple[dict[str, Any], dict[str, Any]]:
    beta1, beta2 = draw.number(0.0, 0.95), draw.number(0.5, 0.999)
    options = {"eps": draw.choice(1e-8, 1e-2), "amsgrad": draw.flag()}
    return {"beta1": beta1, "beta2": beta2, **options}, {"betas": (beta1, beta2), **options}


@parity("optimisers", "Adam")
def adam(draw: Draw) -> Descent:
    return descent(draw, nn.Adam, optim.Adam, *_moments(draw))


@parity("optimisers", "AdamW")
def adam_w(draw: Draw) -> Descent:
    return descent(draw, nn.AdamW, optim.AdamW, *_moments(draw))


def looked_up(draw: Draw, optimizer: nn.Optimizer, reference: Made) -> Descent:
    """A table of which some rows are looked up at each step, some of them more than once."""
    rows, size, count = draw.size(1, 12), draw.size(1, 5), draw.size(1, 6)
    return Descent(optimizer, reference, {"table": draw.normal(rows, size)}, {"table": draw.normal(STEPS, count, size)},
                   draw.ids(rows, STEPS, count))


@parity("optimisers", "SGD (rows)")
def sgd_of_rows(draw: Draw) -> Descent:
    lr, sparse = draw.number(0.001, 0.1), draw.flag()
    return looked_up(draw, nn.SGD(lr, sparse=sparse), lambda params: optim.SGD(params, lr=lr))


@parity("optimisers", "AdaGrad (rows)")
def ada_grad_of_rows(draw: Draw) -> Descent:
    lr = draw.number(0.001, 0.1)
    return looked_up(draw, nn.AdaGrad(lr, sparse=True), lambda params: optim.Adagrad(params, lr=lr))


@parity("optimisers", "Adam (rows)")
def adam_of_rows(draw: Draw) -> Descent:
    """SparseAdam adds eps before its correction, not after: a small one makes no difference."""
    lr, betas = draw.number(0.001, 0.1), (draw.number(0.0, 0.95), draw.number(0.5, 0.999))
    return looked_up(draw, nn.Adam(lr, *betas, eps=1e-16, sparse=True),
                     lambda params: optim.SparseAdam(params, lr=lr, betas=betas, eps=1e-16))
