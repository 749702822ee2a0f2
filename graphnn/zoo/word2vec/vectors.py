"""Word vectors: which words are near which, analogies, and the text format of the original word2vec program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from graphnn.errors import DTypeError, FileFormatError, ShapeError, VerifyError
from graphnn.files.atomic import write_atomically
from graphnn.nn.arguments import as_count
from graphnn.zoo.word2vec.vocabulary import Vocabulary

Words = str | np.ndarray | Sequence[str | np.ndarray]


class WordVectors:
    """A vector for each word of a vocabulary, (V, D).

    >>> vectors = WordVectors(["king", "queen", "car"], np.array([[1.0, 0.9], [0.9, 1.0], [-1.0, 0.2]]))
    >>> [word for word, _ in vectors.most_similar("king")]
    ['queen', 'car']
    """

    def __init__(self, words: Sequence[str] | Vocabulary, array: np.ndarray) -> None:
        known = words if isinstance(words, Vocabulary) else Vocabulary(tuple(words), np.ones(len(words), np.int64))
        if array.ndim != 2 or len(array) != len(known):
            raise ShapeError(f"there are {len(known)} words; their vectors must be ({len(known)}, D), not {array.shape}")
        if len(known.index) != len(known):
            raise VerifyError("a word comes twice")
        self.vocabulary, self.array = known, array
        wide = array.astype(np.float64)
        self._unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-300)

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of a word. Raises VerifyError for one that is not there."""
        return self.array[self.vocabulary.id(word)]

    def __contains__(self, word: object) -> bool:
        return word in self.vocabulary

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"<WordVectors of {len(self)} words, {self.array.shape[1]} numbers each>"

    def similarity(self, first: str, second: str) -> float:
        """The cosine between the vectors of two words."""
        return float(self._unit[self.vocabulary.id(first)] @ self._unit[self.vocabulary.id(second)])

    def most_similar(self, positive: Words = (), negative: Words = (), *, top: int = 10) -> list[tuple[str, float]]:
        """The `top` words nearest, by cosine, to the sum of the directions of `positive` less those of `negative`.

        Each is a word, a vector, or several. The words that are given do not come back.
        """
        top = as_count(top, "most_similar: top", 0)
        given: set[int] = set()
        query = self._sum(positive, given) - self._sum(negative, given)
        size = np.linalg.norm(query)
        if not size > 0:
            raise VerifyError("most_similar: the words given add up to no direction", hint="give at least one word")
        cosines = self._unit @ (query / size)
        order = np.argsort(-cosines, kind="stable")[:top + len(given)]
        found = [(self.vocabulary.words[i], float(cosines[i])) for i in order.tolist() if i not in given]
        return found[:top]

    def analogy(self, a: str, b: str, c: str, *, top: int = 10) -> list[tuple[str, float]]:
        """Words d such that a is to b as c is to d: those nearest to b - a + c. (Mikolov, Yih and Zweig, 2013)"""
        return self.most_similar([b, c], [a], top=top)

    def _sum(self, items: Words, given: set[int]) -> np.ndarray:
        """The sum of directions; the ids of words join `given`."""
        if isinstance(items, str) or (isinstance(items, np.ndarray) and items.ndim == 1 and items.dtype.kind == "f"):
            items = [items]
        if not isinstance(items, Iterable) or not all(isinstance(item, (str, np.ndarray)) for item in items):
            raise DTypeError(f"a word is a string, a vector an array; {items!r:.60} is neither, nor a list of them")
        total = np.zeros(self._unit.shape[1])
        for item in items:
            if isinstance(item, str):
                number = self.vocabulary.id(item)
                given.add(number)
                total += self._unit[number]
            else:
                vector = np.asarray(item, np.float64)
                if vector.shape != total.shape:
                    raise ShapeError(f"a vector has the shape {vector.shape}; it must be {total.shape}")
                total += vector / max(float(np.linalg.norm(vector)), 1e-300)
        return total

    # ------------------------------------------------------------------------------------------ files

    def save_text(self, path: str | os.PathLike[str]) -> None:
        """Write the text format of word2vec: a line "V D", then a line a word, its numbers separated by spaces.

        Numbers are written so that reading gives the same float32 again. Raises VerifyError for a word with a space in it.
        """
        for word in self.vocabulary:
            if not word or word.split() != [word]:
                raise VerifyError(f"the word {word!r} cannot stand in the text format: spaces end a word there")
        write_atomically(path, self._text())

    def _text(self) -> Iterator[bytes]:
        yield f"{len(self)} {self.array.shape[1]}\n".encode()
        for word, vector in zip(self.vocabulary, self.array.astype(np.float32), strict=True):
            yield f"{word} {' '.join(map(str, vector))}\n".encode()

    @classmethod
    def read_text(cls, path: str | os.PathLike[str]) -> WordVectors:
        """Read what `save_text`, the original word2vec or gensim wrote as text. Raises FileFormatError, OSError."""
        with Path(path).open(encoding="utf-8") as file:
            try:
                return cls(*_parsed(file))
            except (ValueError, UnicodeDecodeError) as error:
                raise FileFormatError(f"{os.fspath(path)}: not word vectors as text: {error}") from None


def _parsed(lines: Iterable[str]) -> tuple[list[str], np.ndarray]:
    rows = iter(lines)
    head = next(rows, "").split()
    if len(head) != 2 or not all(part.isdigit() for part in head):
        raise ValueError("the first line is not two numbers, words and size")
    many, dim = map(int, head)
    words: list[str] = []
    vectors: list[np.ndarray] = []
    for line in rows:
        word, *numbers = line.rstrip().split(" ")
        if len(numbers) != dim:
            raise ValueError(f"line {len(words) + 2} has {len(numbers)} numbers, not {dim}")
        words.append(word)
        vectors.append(np.array(numbers, np.float32))
    if len(words) != many:
        raise ValueError(f"there are {len(words)} words, the first line says {many}")
    return words, np.array(vectors, np.float32).reshape(many, dim)
