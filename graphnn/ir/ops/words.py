"""Words and the words around them: the windows of a text, and steps of stochastic gradient descent on word vectors.

Both are ops because no graph of others does them at the speed of memory: windows have no regular shape, and a step touches a
few rows of two large tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphnn.errors import NumericsError, ShapeError
from graphnn.ir.dims import MAX_SIZE, Size, dim_min, product
from graphnn.ir.graph import Value
from graphnn.ir.op import Fusion, Op, Sample, Types, make_node
from graphnn.ir.ops.index import check_ids
from graphnn.ir.ops.operands import located, require_float, require_integer, require_same_dtype
from graphnn.ir.types import DType, TensorType

_I32 = DType.i32


def _require_i32(*types: TensorType) -> None:
    for t in types:
        require_integer(t)
    require_same_dtype(*types, TensorType(_I32, ()))


def _require_shape(t: TensorType, shape: tuple[Size, ...], what: str) -> None:
    if t.shape != shape:
        expected = t.of_shape(shape)
        raise ShapeError(f"{what} must be {expected}, not {t}")


@dataclass(frozen=True)
class ContextWindows(Op):
    """The words of a text that are kept, moved together, and how many kept words of the sentence stand in each one's window.

    Inputs: ids i32[N], where -1 ends a sentence; keep[V], the probability of keeping each word; draws[N], uniform in [0, 1): a
    word is kept where its draw is below; radius i32[N], how far the window around each word reaches. Outputs: words i32[N], the
    kept ids and then -1 to the end; left i32[N] and right i32[N], the numbers of words of the window on either side.
    """

    name = "context_windows"
    fusion = Fusion.OPAQUE
    may_fail = True

    def infer(self, ids: TensorType, keep: TensorType, draws: TensorType, radius: TensorType) -> Types:
        _require_i32(ids, radius)
        require_float(keep, draws)
        require_same_dtype(keep, draws)
        if ids.rank != 1 or keep.rank != 1:
            raise ShapeError(f"the ids and the probabilities are vectors, not {ids} and {keep}")
        _require_shape(draws, ids.shape, "the draws")
        _require_shape(radius, ids.shape, "the radii")
        return (ids, ids, ids)

    def numpy(self, ids: np.ndarray, keep: np.ndarray, draws: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, ...]:
        check_ids(ids, -1, len(keep), "word id")
        words = np.full_like(ids, -1)
        left, right = np.zeros_like(ids), np.zeros_like(ids)
        n = 0
        for sentence in np.split(np.arange(len(ids)), np.flatnonzero(ids < 0)):
            sentence = sentence[ids[sentence] >= 0]
            kept = sentence[draws[sentence] < keep[ids[sentence]]]
            place, m = np.arange(len(kept)), len(kept)
            words[n:n + m] = ids[kept]
            left[n:n + m] = np.clip(radius[kept], 0, place)
            right[n:n + m] = np.clip(radius[kept], 0, m - 1 - place)
            n += m
        return words, left, right

    def flops(self, *inputs: TensorType) -> Size:
        return 0

    def failure(self, code: int) -> str:
        return "a word id lies outside [-1, number of words)"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(50)

        def sample(ids: list[int], words: int, keep: float, reach: int) -> Sample:
            n = len(ids)
            return Sample(cls(), (np.array(ids, np.int32), rng.uniform(keep, 1.0, words), rng.uniform(size=n),
                                  rng.integers(1, reach + 1, n).astype(np.int32)), ("N", "V", "N", "N"), smooth=False)

        yield sample([2, 0, -1, 1, 3, 3, 0, -1, -1, 2], 4, 0.3, 3)
        yield sample([int(i) for i in rng.integers(-1, 7, 101)], 7, 0.2, 5)
        yield sample([0, 0, 0, 0], 1, 1.0, 1)
        yield sample([0], 1, 0.0, 2)
        yield sample([-1], 3, 1.0, 2)
        yield sample([], 3, 1.0, 2)


@dataclass(frozen=True)
class WordVectorSteps(Op):
    """Steps of gradient descent on vectors that predict words from the words around them: the inner loop of word2vec.

    Position p of `words` i32[N] (-1: none) has left[p] + right[p] context words next to it, and K targets with labels in [0, 1]
    (a target -1 is none). With x the vector of a context word in `inputs` [V, D], or, if `pooled`, the mean over the context
    words, the logit of target t is

        s = x . outputs[t] + bias[t] - offset[t]

    and the loss is the sum, over p, x and t, of softplus(s) - label * s. Each `chunk` positions are one step: the sum's gradient
    at the vectors that the step before left, times `lr`, is subtracted from inputs, outputs and, if `biased`, bias. left and
    right are at most `window`. With `whole`, each word of a mean takes the mean's gradient as it is, not divided by their number,
    as the original word2vec program does. Outputs: the new inputs, outputs and bias, and the loss of each position, [N].
    """

    name = "word_vector_steps"
    fusion = Fusion.OPAQUE
    may_fail = True
    checks_first = True
    chunk: int
    window: int
    pooled: bool
    biased: bool
    whole: bool

    def infer(self, inputs: TensorType, outputs: TensorType, bias: TensorType, offset: TensorType, words: TensorType,
              left: TensorType, right: TensorType, targets: TensorType, labels: TensorType, lr: TensorType) -> Types:
        if self.chunk < 1 or self.window < 1:
            raise NumericsError(f"chunk and window are at least 1, not {self.chunk} and {self.window}")
        require_float(inputs)
        require_same_dtype(inputs, outputs, bias, offset, labels, lr)
        _require_i32(words, left, right, targets)
        if inputs.rank != 2 or outputs.rank != 2 or inputs.shape[1] != outputs.shape[1]:
            raise ShapeError(f"the two tables are [words, size] and [targets, size], not {inputs} and {outputs}")
        if words.rank != 1 or targets.rank != 2:
            raise ShapeError(f"words are [N] and targets [N, K], not {words} and {targets}")
        _require_shape(bias, outputs.shape[:1], "the bias")
        _require_shape(offset, outputs.shape[:1], "the offset")
        for t, what in ((left, "left"), (right, "right")):
            _require_shape(t, words.shape, what)
        _require_shape(targets, (words.shape[0], targets.shape[1]), "the targets")
        _require_shape(labels, targets.shape, "the labels")
        _require_shape(lr, (), "the learning rate")
        return (inputs, outputs, bias, inputs.of_shape(words.shape))

    def numpy(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        dtype = arrays[0].dtype
        inputs, outputs, bias, offset = (array.astype(np.float64) for array in arrays[:4])
        words, left, right, targets, labels, lr = arrays[4:]
        n = len(words)
        check_ids(words, -1, len(inputs), "word id")
        check_ids(targets, -1, len(outputs), "target")
        place, window = np.arange(n), min(self.window, n)
        most_left, most_right = np.minimum(place, window), np.minimum(n - 1 - place, window)
        if np.any((left < 0) | (right < 0) | (left > most_left) | (right > most_right)):
            raise NumericsError(self.failure(3))
        loss = np.zeros(n)
        for first in range(0, n, self.chunk):
            if (words[first:first + self.chunk] < 0).all():
                continue
            d_inputs, d_outputs, d_bias = np.zeros_like(inputs), np.zeros_like(outputs), np.zeros_like(bias)
            for p in range(first, min(first + self.chunk, n)):
                if words[p] < 0 or left[p] + right[p] == 0:
                    continue
                context = np.r_[words[p - left[p]:p], words[p + 1:p + 1 + right[p]]]
                if np.any(context < 0):
                    raise NumericsError(self.failure(3))
                ids, y = targets[p][targets[p] >= 0], labels[p][targets[p] >= 0]
                x, t = inputs[context], outputs[ids]
                if self.pooled:
                    x = x.mean(axis=0, keepdims=True)
                s = x @ t.T + bias[ids] - offset[ids]
                loss[p] = (np.logaddexp(0.0, s) - y * s).sum()
                ds = 1.0 / (1.0 + np.exp(-s)) - y
                np.add.at(d_inputs, context, ds @ t / (len(context) if self.pooled and not self.whole else 1))
                np.add.at(d_outputs, ids, ds.T @ x)
                np.add.at(d_bias, ids, ds.sum(axis=0) if self.biased else 0.0)
            inputs, outputs, bias = inputs - lr * d_inputs, outputs - lr * d_outputs, bias - lr * d_bias
        return inputs.astype(dtype), outputs.astype(dtype), bias.astype(dtype), loss.astype(dtype)

    def flops(self, *inputs: TensorType) -> Size:
        contexts = 1 if self.pooled else dim_min(min(self.window, MAX_SIZE), inputs[4].shape[0])
        return 6 * contexts * product(inputs[7].shape) * inputs[0].shape[1]

    def in_place(self, *inputs: TensorType) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (1, 1), (2, 2))

    def failure(self, code: int) -> str:
        return ("a word id lies outside [-1, number of words)", "a target lies outside [-1, number of targets)",
                f"a window reaches beyond {self.window} words, or the words of the text")[code - 1]

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        rng = np.random.default_rng(51)
        symbolic = ("V,D", "C,D", "C", "C", "N", "N", "N", "N,K", "N,K", "")

        def sample(op: WordVectorSteps, n: int, v: int, c: int, k: int, d: int) -> Sample:
            ids = rng.integers(-1, v, n).astype(np.int32)
            windows = ContextWindows().numpy(ids, np.ones(v), np.zeros(n), rng.integers(1, op.window + 1, n).astype(np.int32))
            targets = rng.integers(-1, c, (n, k)).astype(np.int32)
            labels = rng.choice([0.0, 0.25, 1.0], (n, k))
            tables = rng.normal(size=(v, d)), rng.normal(size=(c, d)), rng.normal(size=c), rng.normal(size=c)
            return Sample(op, (*tables, *windows, targets, labels, np.array(0.1)), symbolic, smooth=False)

        for pooled in (False, True):
            for biased in (False, True):
                yield sample(cls(16, 3, pooled, biased, biased), 41, 6, 5, 3, 7)
            yield sample(cls(200, 5, pooled, True, False), 150, 40, 30, 6, 37)
            yield sample(cls(1, 1, pooled, True, False), 3, 2, 1, 1, 1)
        yield sample(cls(70, 9, False, True, False), 141, 17, 12, 11, 67)
        yield sample(cls(8, 2, False, True, False), 0, 2, 2, 2, 3)
        yield sample(cls(8, 2, False, False, False), 5, 2, 2, 0, 3)


# ------------------------------------------------------------------------------------------------ what users call

@located
def context_windows(ids: Value, keep: Value, draws: Value, radius: Value) -> tuple[Value, Value, Value]:
    """The kept words of a text, and how many of them stand in the window left and right of each: see ContextWindows."""
    words, left, right = make_node(ContextWindows(), (ids, keep, draws, radius)).outputs
    return words, left, right


@located
def word_vector_steps(
    inputs: Value, outputs: Value, bias: Value, offset: Value, words: Value, left: Value, right: Value, targets: Value,
    labels: Value, lr: Value, *, chunk: int, window: int, pooled: bool = False, biased: bool = False, whole: bool = False,
) -> tuple[Value, Value, Value, Value]:
    """The tables of word vectors after gradient descent over a text, and the loss of each position: see WordVectorSteps."""
    op = WordVectorSteps(chunk, window, pooled, biased, whole)
    operands = (inputs, outputs, bias, offset, words, left, right, targets, labels, lr)
    new_inputs, new_outputs, new_bias, loss = make_node(op, operands).outputs
    return new_inputs, new_outputs, new_bias, loss
