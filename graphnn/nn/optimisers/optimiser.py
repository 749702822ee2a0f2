"""What an optimiser is: the next value of each parameter, written in IR, so that a whole training step is one compiled graph.

The learning rate of the next step is a state, `<name>/lr`: set it between steps without compiling again, or give a scheduler,
which sets it at the end of each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar
from warnings import warn

from graphnn import ir
from graphnn.errors import ShapeError, VerifyError
from graphnn.ir.graph import IDENTIFIER, Value
from graphnn.ir.loc import scope
from graphnn.ir.ops.inputs import state
from graphnn.ir.types import DType
from graphnn.nn.arguments import is_number
from graphnn.nn.described import DescriptionError, require_flags
from graphnn.nn.initialisers import Constant, zeros
from graphnn.nn.layer import snake_case
from graphnn.nn.optimisers.rows import Rows
from graphnn.nn.schedulers import Scheduler, as_scheduler

Updates = list[tuple[Value, Value]]
Rate = float | Scheduler | str | Mapping[str, Any]
Groups = Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]]

# What is the same for all parameters: no group has its own.
COMMON = ("lr", "name", "groups", "clip_global_norm")


@dataclass(frozen=True)
class Optimizer:
    """Base of optimisers. `lr` is the first learning rate, or a scheduler (object, string or dictionary). `name` is the first
    part of the names of its states, by default the class's name in lower case; optimisers that share a state (a critic's and
    a generator's) need names of their own.

    The gradient g of each parameter p is first made smaller, in this order:

        clip_value        each element is kept within [-clip_value, clip_value]
        clip_norm         g = g clip_norm / |g|, for a tensor of norm |g| > clip_norm
        clip_global_norm  the same for all gradients together, |g| being the norm of all their elements
        weight_decay      g = g + weight_decay p  (AdamW: the parameter shrinks by itself instead)

    `groups` gives parameters settings of their own: {"*/bias": {"weight_decay": 0}, "encoder": {"lr_scale": 0.1}}. A pattern is
    a parameter's whole name, the front of it ("encoder" is all of "encoder/..."), or has wildcards; where two patterns fit, the
    later one wins. A group may have any argument of the optimiser but name and clip_global_norm; `lr_scale` multiplies the
    learning rate at every step, `lr` is the same written as a rate beside the optimiser's. A list of dictionaries with the
    pattern (or patterns) under "params" does as well. A pattern that fits no parameter is warned of.

    With `sparse` the step of a table whose rows are looked up by id (an embedding) costs what these rows cost: all others stay
    as they are, their slots too, without decay of moments or weights until they are looked up again. A row looked up several
    times in a step gets one update, by the sum. Other parameters are updated as ever.

    Every slot and count is a state: saved and loaded, training goes on bit for bit. Frozen parameters are not handed in.

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> w = gnn.parameter("layer/w", (3,), nn.Ones())
    >>> loss = gnn.sum(w * w)
    >>> optimizer = nn.SGD("exponential_scheduler(initial_lr=0.5)", groups={"layer": {"lr_scale": 0.5}})
    >>> updates = optimizer.updates([w], gnn.gradients(loss, [w]), loss)
    >>> step = gnn.compile(gnn.Graph.of("step", [], [loss], updates=updates), backend="numpy")
    >>> float(step()), step.state["layer/w"].tolist(), int(step.state["sgd/step"])
    (3.0, [0.5, 0.5, 0.5], 1)
    """

    counts: ClassVar[bool] = False
    decoupled: ClassVar[bool] = False

    lr: Rate
    weight_decay: float = field(default=0.0, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_global_norm: float | None = field(default=None, kw_only=True)
    sparse: bool = field(default=False, kw_only=True)
    groups: Groups | None = field(default=None, kw_only=True, hash=False)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._require(self.name is None or (isinstance(self.name, str) and IDENTIFIER.match(self.name) is not None),
                      f"name is {self.name!r}; use letters, digits, _ . / -")
        if isinstance(self.lr, (str, Mapping)):
            try:
                object.__setattr__(self, "lr", as_scheduler(self.lr))
            except DescriptionError as error:
                raise DescriptionError(f"{type(self).__name__}: lr is {self.lr!r}: {error}", hint=error.hint) from error
        if not isinstance(self.lr, Scheduler):
            self._require_number("lr", 0.0, None)
        self._require_number("weight_decay", 0.0, None)
        require_flags(self)
        for clip in ("clip_value", "clip_norm", "clip_global_norm"):
            value = getattr(self, clip)
            self._require(value is None or (is_number(value) and value > 0), f"{clip} is {value!r}; it must be a number above 0")
        if self.groups is not None:
            object.__setattr__(self, "groups", self._as_groups(self.groups))

    @property
    def label(self) -> str:
        """The first part of the names of this optimiser's states."""
        return self.name or snake_case(type(self).__name__)

    @property
    def needs_loss(self) -> bool:
        """Whether `updates` must be given the loss, which the scheduler looks at."""
        return isinstance(self.lr, Scheduler) and self.lr.needs_loss

    def updates(self, params: Sequence[Value], grads: Sequence[Value], loss: Value | None = None) -> Updates:
        """Pairs (state, next value) for the parameters and the optimiser's own states. `loss` is the step's, one number; only
        schedulers that look at it need it.

        Raises ShapeError when the gradients do not fit the parameters, VerifyError when the loss is missing.
        """
        if len(params) != len(grads):
            raise ShapeError(f"{self.label}: {len(params)} parameters and {len(grads)} gradients")
        for param, grad in zip(params, grads, strict=True):
            if param.type != grad.type:
                raise ShapeError(f"{self.label}: the gradient of {param.name!r} is {grad.type}, the parameter {param.type}")
        with scope(self.label):
            # As exact as the parameters need it.
            dtype = DType.f64 if any(param.dtype is DType.f64 for param in params) else DType.f32
            first = self.lr.first if isinstance(self.lr, Scheduler) else float(self.lr)  # type: ignore[arg-type]
            lr = state(f"{self.label}/lr", (), Constant(first), dtype=dtype)
            step = state(f"{self.label}/step", (), zeros, dtype=DType.i64)
            result = self._schedule(lr, step, loss)
            if self.counts or isinstance(self.lr, Scheduler):
                result.append((step, step + 1))
            for pattern in self.groups or ():
                if not any(fits(str(pattern), param.name) for param in params):
                    warn(f"{self.label}: the group {pattern!r} fits none of the {len(params)} parameters", stacklevel=2)
            rows = self._rows(params, grads)
            small = self._clipped(params, [rows[i].sums if i in rows else g for i, g in enumerate(grads)])
            for own, scale, which in self._by_group(params):
                rate = lr if scale == 1 else lr * scale
                dense = [i for i in which if i not in rows]
                result += own._decayed_updates(step, rate, [params[i] for i in dense], [small[i] for i in dense])
                for table in (replace(rows[i], sums=small[i]) for i in which if i in rows):
                    param, grad = table.stand_ins()
                    result += table.updates(own._decayed_updates(step, rate, [param], [grad]), param, grad)
            return result

    def _updates(self, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        raise NotImplementedError(f"{type(self).__name__}._updates")

    def _counted_updates(self, step: Value, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        """`_updates` for optimisers that need the number of steps made before; these have `counts` True."""
        return self._updates(lr, params, grads)

    def _decayed_updates(self, step: Value, lr: Value, params: Sequence[Value], grads: Sequence[Value]) -> Updates:
        if self.weight_decay and not self.decoupled:
            grads = [g + self.weight_decay * p for p, g in zip(params, grads, strict=True)]
        return self._counted_updates(step, lr, params, grads) if params else []

    def _rows(self, params: Sequence[Value], grads: Sequence[Value]) -> dict[int, Rows]:
        """The gradients that are taken as rows, by position."""
        found = {i: Rows.of(params[i], grads[i]) for own, _, which in self._by_group(params) if own.sparse for i in which}
        return {i: rows for i, rows in found.items() if rows is not None}

    def _slot(self, param: Value, label: str) -> Value:
        """A state of the parameter's type, 0 at first."""
        return state(f"{self.label}/{label}/{param.name}", param.shape, zeros, dtype=param.dtype)

    def _schedule(self, lr: Value, step: Value, loss: Value | None) -> Updates:
        """The learning rate's next value and the states of the scheduler."""
        if not isinstance(self.lr, Scheduler):
            return []
        if self.lr.needs_loss and loss is None:
            raise VerifyError(f"{self.label}: {type(self.lr).__name__} looks at the loss, and updates was given none",
                              hint="optimizer.updates(params, grads, loss)")
        if loss is not None and (loss.rank != 0 or not loss.dtype.is_float):
            raise ShapeError(f"{self.label}: the loss is {loss.type}; a scheduler looks at one real number")
        seen = None if loss is None else ir.cast(loss, DType.f64)
        new, own = self.lr.next(step + 1, ir.cast(lr, DType.f64), seen, self.label)
        return [(lr, ir.cast(new, lr.dtype)), *own]

    def _clipped(self, params: Sequence[Value], grads: Sequence[Value]) -> list[Value]:
        clipped = list(grads)
        for own, _, which in self._by_group(params):
            for i in which:
                if own.clip_value is not None:
                    clipped[i] = ir.clip(clipped[i], -own.clip_value, own.clip_value)
                if own.clip_norm is not None:
                    clipped[i] = clipped[i] * _shrink(own.clip_norm, [clipped[i]], clipped[i].dtype)
        if self.clip_global_norm is None or not clipped:
            return clipped
        return [g * _shrink(self.clip_global_norm, clipped, g.dtype) for g in clipped]

    # ------------------------------------------------------------------------------------------ groups

    def _as_groups(self, groups: Any) -> dict[str, dict[str, Any]]:
        """{pattern: settings}, each of them checked."""
        if not isinstance(groups, Mapping):
            self._require(isinstance(groups, (list, tuple)) and all(isinstance(g, Mapping) and "params" in g for g in groups),
                          f"groups is {groups!r}; it must be {{pattern: settings}} or a list of dictionaries with 'params'")
            listed = [(group["params"], {k: v for k, v in group.items() if k != "params"}) for group in groups]
        else:
            listed = list(groups.items())
        result: dict[str, dict[str, Any]] = {}
        for patterns, settings in listed:
            for pattern in [patterns] if isinstance(patterns, str) else patterns:
                self._require(isinstance(pattern, str) and isinstance(settings, Mapping),
                              f"groups has {pattern!r}: {settings!r}; it must have patterns and dictionaries of settings")
                # The pattern that is given last wins.
                result[pattern] = {**result.pop(pattern, {}), **settings}
        for pattern, settings in result.items():
            try:
                self._own(settings)
            except DescriptionError as error:
                raise DescriptionError(f"group {pattern!r}: {error}") from error
        return result

    def _own(self, settings: Mapping[str, Any]) -> tuple[Optimizer, float]:
        """The optimiser of a group, and by how much it multiplies the learning rate."""
        known = [f.name for f in fields(self) if f.name not in COMMON]
        for key in settings:
            self._require(key in (*known, "lr", "lr_scale"), f"there is no setting {key!r}; there are "
                                                             f"{', '.join(['lr', 'lr_scale', *known])}")
        for key in ("lr", "lr_scale"):
            value = settings.get(key, 1.0)
            self._require(is_number(value) and value >= 0, f"{key} is {value!r}; it must be a number, at least 0")
        scale = float(settings.get("lr_scale", 1.0))
        if "lr" in settings:
            self._require(is_number(self.lr) and self.lr != 0,
                          f"lr is a rate beside the optimiser's, which is {self.lr!r}; use lr_scale")
            scale *= settings["lr"] / self.lr
        mine = {key: value for key, value in settings.items() if key not in ("lr", "lr_scale")}
        return replace(self, groups=None, name=self.label, **mine), scale

    def _by_group(self, params: Sequence[Value]) -> list[tuple[Optimizer, float, list[int]]]:
        """The parameters' positions by the settings that they share: (optimiser, scale of the learning rate, positions)."""
        groups = self.groups
        if not groups:
            return [(self, 1.0, list(range(len(params))))]
        assert isinstance(groups, Mapping)
        found: list[tuple[dict[str, Any], list[int]]] = []
        for i, param in enumerate(params):
            settings: dict[str, Any] = {}
            for pattern in groups:
                if fits(pattern, param.name):
                    settings |= groups[pattern]
            for known, which in found:
                if known == settings:
                    which.append(i)
                    break
            else:
                found.append((settings, [i]))
        return [(*self._own(settings), which) for settings, which in found]

    def _require(self, good: bool, what: str) -> None:
        if not good:
            raise DescriptionError(f"{type(self).__name__}: {what}")

    def _require_number(self, name: str, low: float, below: float | None) -> None:
        value = getattr(self, name)
        wanted = f"a number, at least {low:g}" + ("" if below is None else f" and below {below:g}")
        self._require(is_number(value) and value >= low and (below is None or value < below),
                      f"{name} is {value!r}; it must be {wanted}")


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern is the name, the front of its path, or has wildcards that fit it."""
    return name == pattern or name.startswith(f"{pattern}/") or fnmatchcase(name, pattern)


def _shrink(limit: float, grads: Sequence[Value], dtype: DType) -> Value:
    """limit / norm where the norm of all elements is above the limit, else 1. Sums in f64: squares overflow f32."""
    squares = [ir.sum(wide * wide) for wide in (ir.cast(g, DType.f64) for g in grads)]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return ir.cast(limit / ir.maximum(ir.sqrt(total), limit), dtype)
