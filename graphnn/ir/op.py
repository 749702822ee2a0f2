"""Op: the meaning of one kind of node. One op = one frozen dataclass = one place to read.

A subclass's fields are its attributes. It carries the type rule, the NumPy meaning, the gradient (written in IR ops, so
that it can be differentiated again), its fusion class, and samples for the conformance suite. See docs/add_an_op.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, ClassVar, Self

import numpy as np

from graphnn.errors import DTypeError, GraphnnError, ShapeError, VerifyError
from graphnn.ir.attrs import bind_attribute
from graphnn.ir.dims import Size
from graphnn.ir.graph import Node, Value
from graphnn.ir.loc import Loc, here
from graphnn.ir.types import TensorType

Types = tuple[TensorType, ...]
Arrays = np.ndarray | tuple[np.ndarray, ...]
Cotangents = tuple[Value | None, ...]


class Fusion(Enum):
    """How a node can be merged with its neighbours."""

    ELEMENTWISE = "each output element needs the broadcast same element of each input"
    VIEW = "moves no data, or only reorders it"
    REDUCE = "folds axes; elementwise work can precede and follow"
    CONTRACT = "matmul and convolution; an elementwise tail can join"
    OPAQUE = "runs alone"


@dataclass(frozen=True)
class Sample:
    """One example of an op for the conformance suite.

    `inputs` are arrays; float64 ones are also tried as float32. `symbolic` gives the shapes with names, e.g.
    ("N,3", "3,4"). `smooth` says that finite differences apply at these inputs. `order` is the highest order of
    differentiation to check.
    """

    op: Op
    inputs: tuple[np.ndarray, ...]
    symbolic: tuple[str, ...] = ()
    smooth: bool = True
    order: int = 2

    def __str__(self) -> str:
        return f"{self.op}({', '.join(str(TensorType.of(x)) for x in self.inputs)})"


class Op:
    """Base of all ops. Calling an op on values makes a node."""

    name: ClassVar[str]
    fusion: ClassVar[Fusion] = Fusion.OPAQUE
    view_of: ClassVar[int | None] = None          # the input whose very bytes are the output: reshape
    may_fail: ClassVar[bool] = False              # a run may end at it: it comes before any state is written
    checks_first: ClassVar[bool] = False          # it may fail only before its first write, so it may work in a state's memory
    registry: ClassVar[dict[str, type[Op]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return
        known = Op.registry.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise VerifyError(f"two ops are named {cls.name!r}: {known.__module__}.{known.__qualname__} and "
                              f"{cls.__module__}.{cls.__qualname__}")
        Op.registry[cls.name] = cls

    def infer(self, *inputs: TensorType) -> Types:
        """The output types. Raises ShapeError or DTypeError."""
        raise NotImplementedError(f"{type(self).__name__}.infer")

    def numpy(self, *inputs: np.ndarray) -> Arrays:
        """The meaning: plain NumPy, sizes bound to numbers. Returns one array, or a tuple for several outputs."""
        raise NotImplementedError(f"{type(self).__name__}.numpy")

    def grad(self, node: Node, *d_outputs: Value | None) -> Cotangents:
        """The cotangent of each input, given those of the outputs (None: none). None for an input without gradient."""
        return (None,) * len(node.inputs)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Examples over every attribute value, odd sizes and size one."""
        return ()

    def decompose(self, *inputs: Value) -> tuple[Value, ...] | None:
        """The same in other IR ops, for back ends without a kernel; None when there is none."""
        return None

    def flops(self, *inputs: TensorType) -> Size:
        """Floating-point operations: one an output element unless overridden."""
        if self.fusion is Fusion.VIEW:
            return 0
        return self.infer(*inputs)[0].elements

    def failure(self, code: int) -> str:
        """What it means that the op's kernel returned `code`."""
        return f"the kernel failed with code {code}"

    def in_place(self, *inputs: TensorType) -> tuple[tuple[int, int], ...]:
        """Pairs (output, input) that may share memory: each element is read before its place is written."""
        if self.fusion is not Fusion.ELEMENTWISE:
            return ()
        (output,) = self.infer(*inputs)
        return tuple((0, i) for i, type in enumerate(inputs) if type == output)

    def bind(self, sizes: Mapping[str, int]) -> Self:
        """This op with numbers for names, in every field."""
        changed = {}
        for field in fields(self):  # pyright: ignore[reportArgumentType]
            old = getattr(self, field.name)
            new = bind_attribute(old, sizes)
            if new is not old:
                changed[field.name] = new
        return replace(self, **changed) if changed else self  # pyright: ignore[reportArgumentType]

    def attributes(self) -> dict[str, Any]:
        """The fields that are part of the op's meaning (and of text and files), by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.compare}  # pyright: ignore[reportArgumentType]

    def __call__(self, *inputs: Value) -> Value | tuple[Value, ...]:
        """Apply to values: infer types, note the place, make the node."""
        outputs = make_node(self, inputs).outputs
        return outputs[0] if len(outputs) == 1 else outputs

    def one(self, *inputs: Value) -> Value:
        """Apply to values; the only output."""
        return make_node(self, inputs).output

    def __str__(self) -> str:
        return self.name


def make_node(op: Op, inputs: tuple[Value, ...], loc: Loc | None = None) -> Node:
    """A node of `op` on `inputs`; an error names the operands, the layer and the user's line."""
    for value in inputs:
        if not isinstance(value, Value):
            raise DTypeError(f"{op.name}: {type(value).__name__} is no Value of a graph",
                             hint="wrap arrays in gnn.constant(array)")
    loc = loc or here()
    types = tuple(value.type for value in inputs)
    try:
        return Node(op, inputs, op.infer(*types), loc)
    except GraphnnError as error:
        error.locate(f"{op.name}: ", describe(types, loc))
        raise
    except TypeError as error:
        if "positional argument" not in str(error):
            raise
        raise ShapeError(f"{op.name}: does not take {len(inputs)} operands").with_traceback(error.__traceback__) from None


def describe(types: tuple[TensorType, ...], loc: Loc) -> list[str]:
    """The notes of an error at a node: operands, layer, place."""
    notes = [f"  operands  {', '.join(map(str, types))}"] if types else []
    if loc.scope:
        notes.append(f"  layer     {loc.scope}")
    if loc.called_at:
        notes.append(f"  called at {loc.called_at}")
    return notes
