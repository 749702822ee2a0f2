"""The words that a model knows: which of a corpus's, how often they came, and codes for a softmax over a tree."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphnn.errors import NumericsError, VerifyError

_ENGLISH = """
a about above after again against all also am an and any are as at be because been before being below between both but by can
cannot could did do does doing down during each few for from further had has have having he her here hers herself him himself
his how i if in into is it its itself just me might more most must my myself no nor not now of off on once only or other our
ours ourselves out over own same shall she should so some such than that the their theirs them themselves then there these
they this those through to too under until up upon very was we were what when where which while who whom why will with would
you your yours yourself yourselves
"""
ENGLISH = frozenset(_ENGLISH.split())
"""English words that carry little meaning of their own: `stop_words="english"`."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words in order of their ids, the most frequent first, and how often each came.

    >>> vocabulary = Vocabulary(("the", "cat"), np.array([5, 2]))
    >>> vocabulary.id("cat"), "dog" in vocabulary, len(vocabulary)
    (1, False, 2)
    """

    words: tuple[str, ...]
    counts: np.ndarray

    @cached_property
    def index(self) -> dict[str, int]:
        """The id of each word."""
        return {word: i for i, word in enumerate(self.words)}

    def id(self, word: str) -> int:
        """The id of a word. Raises VerifyError for one that is not there."""
        if word not in self.index:
            raise VerifyError(f"the word {word!r:.60} is not in the vocabulary",
                              hint="it was too rare (min_count), or never seen in training")
        return self.index[word]

    def __contains__(self, word: object) -> bool:
        return word in self.index

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)} words: {', '.join(self.words[:5])}{', ...' if len(self) > 5 else ''}>"

    @property
    def total(self) -> int:
        """How many words the corpus had that are in the vocabulary."""
        return int(self.counts.sum())

    def keep_probabilities(self, subsample: float) -> np.ndarray:
        """With which probability an occurrence of each word is kept: sqrt(t / f) + t / f, at most 1, for a word whose part of
        the text is f and the threshold t = `subsample`; 1 when that is 0. (Mikolov et al., 2013, as in their program)"""
        if subsample == 0:
            return np.ones(len(self))
        ratio = subsample * self.total / self.counts
        return np.minimum(1.0, np.sqrt(ratio) + ratio)

    def noise(self, exponent: float) -> np.ndarray:
        """The distribution of negatives: count ** exponent, made to sum to 1. Raises NumericsError for words without a part."""
        logs = exponent * np.log(self.counts.astype(np.float64))
        weights = np.exp(logs - logs.max())
        if not weights.min() > 0:
            raise NumericsError(f"noise_exponent is {exponent:g}: some words would never be drawn", hint="0.75 is usual")
        return weights / weights.sum()


def choose(words: list[str], counts: np.ndarray, *, min_count: int, max_tokens: int | None,
           stop_words: Collection[str]) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary, and the id of each of `words` in it, -2 for those that are not. Of equal counts the first stays first."""
    good = counts >= min_count
    if stop_words:
        good &= np.array([word not in stop_words for word in words])
    order = np.argsort(-counts, kind="stable")
    order = order[good[order]][:max_tokens]
    if len(order) < 2:
        raise NumericsError(f"the vocabulary has {len(order)} words of the corpus's {len(words)}; it needs at least 2",
                            hint=f"a word counts when it comes {min_count} times and is no stop word: give a smaller min_count")
    new = np.full(len(words), -2, np.int32)
    new[order] = np.arange(len(order))
    return Vocabulary(tuple(words[i] for i in order), counts[order]), new


def huffman(counts: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each word the inner nodes of Huffman's tree on the way to it, i32[V, L] with -1 behind the end, and whether the way
    goes left at each (1) or right (0), f32[V, L]. Node 0 is the root. (Huffman, 1952; Morin & Bengio, 2005)

    >>> huffman([4, 2, 1])
    (array([[ 0, -1],
           [ 0,  1],
           [ 0,  1]], dtype=int32), array([[0., 0.],
           [1., 0.],
           [1., 1.]], dtype=float32))
    """
    heap = [(int(count), i) for i, count in enumerate(counts)]
    words = len(heap)
    heapq.heapify(heap)
    parent, left = np.zeros(2 * words - 1, np.int64), np.zeros(2 * words - 1, bool)
    for node in range(words, 2 * words - 1):
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        parent[first[1]] = parent[second[1]] = node
        left[first[1]] = True
        heapq.heappush(heap, (first[0] + second[0], node))
    root = 2 * words - 2
    # From the leaves up, all words at once; each way is then turned round.
    ways, turns, at = [], [], np.arange(words)
    while (at != root).any():
        inside = at != root
        turns.append(np.where(inside, left[at], False))
        at = np.where(inside, parent[at], root)
        ways.append(np.where(inside, root - at, -1))
    nodes, codes = np.stack(ways, axis=1), np.stack(turns, axis=1)
    length = (nodes >= 0).sum(axis=1, keepdims=True)
    place = length - 1 - np.arange(nodes.shape[1])
    valid = place >= 0
    place = np.maximum(place, 0)
    nodes, codes = np.take_along_axis(nodes, place, 1), np.take_along_axis(codes, place, 1)
    return np.where(valid, nodes, -1).astype(np.int32), np.where(valid, codes, False).astype(np.float32)
