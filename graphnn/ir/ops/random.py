"""Random numbers as pure functions of (seed, step) and the op's stream id: see philox.py for the generator.

Element i of a 32-bit kind (bits, bernoulli, float32 uniform and normal) is word i % 4 of block i // 4. Element i of a 64-bit
kind (float64, integers) is words 2 * (i % 2) (low) and the next (high) of block i // 2. Bits, uniform, bernoulli and integers are
equal to the bit on every back end; normal numbers to a few units in the last place. No op here has a gradient.

Inside the body of a scan these functions fold the step's index into the seed, so that every step draws other numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from graphnn.errors import DTypeError, NumericsError, ShapeError
from graphnn.ir.dims import Size, bind_size, is_size, product
from graphnn.ir.graph import Value
from graphnn.ir.op import Fusion, Op, Sample, Types
from graphnn.ir.ops import philox
from graphnn.ir.ops.operands import located
from graphnn.ir.types import DType, DTypeLike, TensorType, as_dtype, as_shape

_SCALAR = TensorType(DType.i64, ())
_folded: ContextVar[tuple[Value, ...]] = ContextVar("graphnn_scan_indices", default=())


@dataclass(frozen=True)
class RandomOp(Op):
    """What all random ops share: shape and stream id, and the inputs seed and step."""

    fusion = Fusion.OPAQUE
    shape: tuple[Size, ...]
    stream: int

    @property
    def result(self) -> DType:
        """The dtype of the result."""
        raise NotImplementedError

    def infer(self, seed: TensorType, step: TensorType) -> Types:
        check_scalars(seed, step)
        check_stream(self.stream)
        return (TensorType(self.result, self.shape),)

    def words32(self, seed: np.ndarray, step: np.ndarray) -> np.ndarray:
        """One 32-bit word an element."""
        n = bind_size(product(self.shape), {})
        found = philox.words(int(seed), int(step), self.stream, -(-n // 4))
        return found.reshape(-1)[:n].reshape(self.bound_shape)

    def words64(self, seed: np.ndarray, step: np.ndarray) -> np.ndarray:
        """One 64-bit word an element."""
        n = bind_size(product(self.shape), {})
        found = philox.words(int(seed), int(step), self.stream, -(-n // 2)).reshape(-1, 2)[:n]
        return (found[:, 0] | (found[:, 1] << np.uint64(32))).reshape(self.bound_shape)

    @property
    def bound_shape(self) -> tuple[int, ...]:
        return tuple(bind_size(size, {}) for size in self.shape)


def check_scalars(*types: TensorType) -> None:
    for t in types:
        if t != _SCALAR:
            raise DTypeError(f"takes seed and step as i64[], not {t}", hint='use constant(3, "i64"), or cast(x, "i64")')


def check_stream(stream: int) -> None:
    if not isinstance(stream, int) or not 0 <= stream < 1 << 63:
        raise NumericsError(f"a stream id is a whole number from 0 to 2**63 - 1, not {stream!r}")


def check_random_float(dtype: DType) -> None:
    if not dtype.is_float:
        raise DTypeError(f"draws f32 or f64, not {dtype}", hint="use random_integers")


@dataclass(frozen=True)
class RandomBits(RandomOp):
    """32 random bits an element, as i32."""

    name = "random_bits"

    @property
    def result(self) -> DType:
        return DType.i32

    def numpy(self, seed: np.ndarray, step: np.ndarray) -> np.ndarray:
        return self.words32(seed, step).astype(np.uint32).view(np.int32)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return (Sample(cls(shape, stream), inputs, ("", "")) for shape, stream, inputs in _examples())


@dataclass(frozen=True)
class RandomUniform(RandomOp):
    """Uniform in [0, 1): k * 2**-24 from the upper 24 of 32 bits for f32, k * 2**-53 from the upper 53 of 64 bits for f64."""

    name = "random_uniform"
    dtype: DType

    @property
    def result(self) -> DType:
        check_random_float(self.dtype)
        return self.dtype

    def numpy(self, seed: np.ndarray, step: np.ndarray) -> np.ndarray:
        if self.dtype is DType.f32:
            return ((self.words32(seed, step) >> np.uint64(8)) * 2.0**-24).astype(np.float32)
        return (self.words64(seed, step) >> np.uint64(11)) * 2.0**-53

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return (Sample(cls(shape, stream, dtype), inputs, ("", "")) for dtype in (DType.f32, DType.f64)
                for shape, stream, inputs in _examples())


@dataclass(frozen=True)
class RandomNormal(RandomOp):
    """Normal with mean 0 and variance 1, by Box and Muller's method.

    Elements 2j and 2j + 1 are r cos(2 pi u) and r sin(2 pi u), r = sqrt(-2 log v), where v = (k + 1) * 2**-bits in (0, 1] is
    made of the word of element 2j and u = k * 2**-bits of that of element 2j + 1: the upper 24 bits of a 32-bit word for f32,
    the upper 53 bits of a 64-bit word for f64.
    """

    name = "random_normal"
    dtype: DType

    @property
    def result(self) -> DType:
        check_random_float(self.dtype)
        return self.dtype

    def numpy(self, seed: np.ndarray, step: np.ndarray) -> np.ndarray:
        n = bind_size(product(self.shape), {})
        pairs = type(self)((n + n % 2,), self.stream, self.dtype)
        if self.dtype is DType.f32:
            k, unit = pairs.words32(seed, step) >> np.uint64(8), 2.0**-24
        else:
            k, unit = pairs.words64(seed, step) >> np.uint64(11), 2.0**-53
        k = k.reshape(-1, 2)
        r = np.sqrt(-2.0 * np.log((k[:, 0] + np.uint64(1)) * unit))
        cos, sin = cos_sin_turns(k[:, 1] * unit)
        return np.stack((r * cos, r * sin), axis=-1).reshape(-1)[:n].reshape(self.bound_shape).astype(self.dtype.numpy)

    def flops(self, *inputs: TensorType) -> Size:
        return 20 * product(self.shape)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return (Sample(cls(shape, stream, dtype), inputs, ("", "")) for dtype in (DType.f32, DType.f64)
                for shape, stream, inputs in _examples())


def cos_sin_turns(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos(2 pi u) and sin(2 pi u) for u in [0, 1), exact near their zeros: the quarter turn is split off before pi comes in."""
    quarter = np.floor(4.0 * u)
    t = 4.0 * u - quarter                               # exact, in [0, 1)
    # sin and cos of the quarter's part, each from the side where its argument is small
    sin = np.where(t <= 0.5, np.sin(t * (np.pi / 2)), np.cos((1.0 - t) * (np.pi / 2)))
    cos = np.where(t <= 0.5, np.cos(t * (np.pi / 2)), np.sin((1.0 - t) * (np.pi / 2)))
    turned = [(cos, sin), (-sin, cos), (-cos, -sin), (sin, -cos)]
    return (np.select([quarter == q for q in range(4)], [c for c, _ in turned]),
            np.select([quarter == q for q in range(4)], [s for _, s in turned]))


@dataclass(frozen=True)
class RandomBernoulli(RandomOp):
    """True with probability p, which is rounded to a multiple of 2**-32: the element's word < p * 2**32."""

    name = "random_bernoulli"
    p: float

    @property
    def result(self) -> DType:
        if not 0.0 <= self.p <= 1.0:
            raise NumericsError(f"a probability lies between 0 and 1; p is {self.p}")
        return DType.bool

    @property
    def threshold(self) -> int:
        return round(self.p * 2.0**32)

    def numpy(self, seed: np.ndarray, step: np.ndarray) -> np.ndarray:
        return self.words32(seed, step) < np.uint64(self.threshold)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        return (Sample(cls(shape, stream, p), inputs, ("", "")) for p in (0.0, 0.3, 1.0) for shape, stream, inputs in _examples())


@dataclass(frozen=True)
class RandomIntegers(RandomOp):
    """Integers from [low, high): low + the upper half of (64 random bits) * (high - low), so that no value is likelier than
    another by more than 2**-32 of its probability. high - low is at most 2**32."""

    name = "random_integers"
    low: Size
    high: Size
    dtype: DType

    @property
    def result(self) -> DType:
        if not self.dtype.is_integer:
            raise DTypeError(f"draws i32 or i64, not {self.dtype}", hint="use random_uniform, or cast the integers")
        if not is_size(self.low) or not is_size(self.high):
            raise DTypeError(f"low and high are whole numbers, not {self.low!r} and {self.high!r}")
        if isinstance(self.low, int) and isinstance(self.high, int):
            limit = 1 << (8 * self.dtype.itemsize - 1)
            if not -limit <= self.low < self.high <= limit or self.high - self.low > 1 << 32:
                raise NumericsError(f"cannot draw {self.dtype} from [{self.low}, {self.high})",
                                    hint="low must be below high, by at most 2**32, and the dtype must hold both")
        return self.dtype

    def numpy(self, seed: np.ndarray, step: np.ndarray) -> np.ndarray:
        low, high = bind_size(self.low, {}), bind_size(self.high, {})
        bits, span, half = self.words64(seed, step), np.uint64(high - low), np.uint64(32)
        # The upper 64 bits of bits * span, in parts that do not overflow: span <= 2**32.
        upper = ((bits >> half) * span + (((bits & np.uint64(0xFFFFFFFF)) * span) >> half)) >> half
        return (upper.astype(np.int64) + low).astype(self.dtype.numpy)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        for low, high in ((0, 10), (-3, 4), (5, 6), (-(2**31), 2**31)):
            for dtype in (DType.i32, DType.i64):
                yield Sample(cls((7,), 1, low, high, dtype), _inputs(3, 4), ("", ""))
        yield from (Sample(cls(shape, stream, 0, 2**32, DType.i64), inputs, ("", "")) for shape, stream, inputs in _examples())


@dataclass(frozen=True)
class FoldSeed(Op):
    """A seed made from a seed and a number, unlike both: how each step of a scan draws other numbers."""

    name = "fold_seed"
    fusion = Fusion.OPAQUE

    def infer(self, seed: TensorType, data: TensorType) -> Types:
        check_scalars(seed, data)
        return (_SCALAR,)

    def numpy(self, seed: np.ndarray, data: np.ndarray) -> np.ndarray:
        low, high = philox.fold(int(seed), int(data), purpose=1)
        return np.array(low | high << 32, np.uint64).view(np.int64)[()]

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), _inputs(0, 0), ("", ""))
        yield Sample(cls(), _inputs(-1, 2**40 + 3), ("", ""))


def _inputs(seed: int, step: int) -> tuple[np.ndarray, ...]:
    return np.array(seed, np.int64), np.array(step, np.int64)


def _examples() -> Iterator[tuple[tuple[int, ...], int, tuple[np.ndarray, ...]]]:
    yield (5, 7), 3, _inputs(0, 0)
    yield (), 0, _inputs(-5, 2**33 + 1)
    yield (1,), 2**40, _inputs(2**62 + 9, 3)
    yield (0, 3), 1, _inputs(1, 1)
    yield (3, 2, 101), 9, _inputs(12345, -1)


# ------------------------------------------------------------------------------------------------ what users call

@contextmanager
def scan_index(index: Value) -> Iterator[None]:
    """While a scan's body is traced: random functions called inside fold `index` into their seed."""
    token = _folded.set((*_folded.get(), index))
    try:
        yield
    finally:
        _folded.reset(token)


def fold_seed(seed: Value, data: Value) -> Value:
    """A seed (i64[]) made from a seed and a number."""
    return FoldSeed().one(seed, data)


def _seed(seed: Value) -> Value:
    for index in _folded.get():
        seed = fold_seed(seed, index)
    return seed


@located
def random_bits(seed: Value, step: Value, shape: Sequence[Size | str], *, stream: int) -> Value:
    """32 random bits an element, as i32, for seed and step (i64[]) and the number of the stream."""
    return RandomBits(as_shape(shape), stream).one(_seed(seed), step)


@located
def random_uniform(seed: Value, step: Value, shape: Sequence[Size | str], *, stream: int, dtype: DTypeLike = DType.f32) -> Value:
    """Uniform numbers in [0, 1)."""
    return RandomUniform(as_shape(shape), stream, as_dtype(dtype)).one(_seed(seed), step)


@located
def random_normal(seed: Value, step: Value, shape: Sequence[Size | str], *, stream: int, dtype: DTypeLike = DType.f32) -> Value:
    """Normal numbers with mean 0 and variance 1."""
    return RandomNormal(as_shape(shape), stream, as_dtype(dtype)).one(_seed(seed), step)


@located
def random_bernoulli(seed: Value, step: Value, shape: Sequence[Size | str], p: float, *, stream: int) -> Value:
    """True with probability p, else False."""
    return RandomBernoulli(as_shape(shape), stream, float(p)).one(_seed(seed), step)


@located
def random_integers(seed: Value, step: Value, shape: Sequence[Size | str], low: Size, high: Size, *, stream: int,
                    dtype: DTypeLike = DType.i64) -> Value:
    """Integers from [low, high), each as likely."""
    if not is_size(low) or not is_size(high):
        raise ShapeError(f"low and high are whole numbers or sizes, not {low!r} and {high!r}")
    return RandomIntegers(as_shape(shape), stream, low, high, as_dtype(dtype)).one(_seed(seed), step)
