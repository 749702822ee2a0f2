"""Text as sentences of words, from files, lists or any iterable, and as one array of word ids."""

from __future__ import annotations

import os
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np

from graphnn.errors import DTypeError, FileFormatError, NumericsError

Tokenizer = Callable[[str], Iterable[str]]
Corpus = str | os.PathLike[str] | Iterable[os.PathLike[str] | str | Iterable[str]] | np.ndarray

SENTENCE_END, UNKNOWN = -1, -2
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation; hyphens and apostrophes within words stay.

    >>> words_of("It's state-of-the-art, isn't it?")
    ["it's", 'state-of-the-art', "isn't", 'it']
    """
    return _WORD.findall(text.lower())


def sentences(corpus: Corpus, tokenize: Tokenizer = words_of, encoding: str = "utf-8-sig") -> Iterator[Iterable[str]]:
    """The sentences of a corpus, each an iterable of words, one after the other.

    A path, a string or `os.PathLike`, is a text file with a sentence a line. Of an iterable each item is a sentence: a string
    that `tokenize` splits or words in order; an `os.PathLike` among them is a file. Raises OSError for a file that cannot be
    read, FileFormatError for one that is not text, DTypeError for what is no sentence.
    """
    if isinstance(corpus, (str, os.PathLike)):
        yield from _lines(corpus, tokenize, encoding)
        return
    if isinstance(corpus, bytes) or not isinstance(corpus, Iterable):
        raise DTypeError(f"a corpus is a text file's path or an iterable of sentences, not {type(corpus).__name__}")
    for number, item in enumerate(corpus):
        if isinstance(item, os.PathLike):
            yield from _lines(item, tokenize, encoding)
        elif isinstance(item, str):
            yield tokenize(item)
        elif isinstance(item, Iterable) and not isinstance(item, bytes):
            yield item
        else:
            raise DTypeError(f"sentence {number} is {type(item).__name__} {item!r:.60}; give a list of words, a string or a Path")


def _lines(path: str | os.PathLike[str], tokenize: Tokenizer, encoding: str) -> Iterator[Iterable[str]]:
    number = 0
    try:
        with Path(path).open(encoding=encoding) as file:
            for number, line in enumerate(file, 1):
                if "\0" in line:
                    raise FileFormatError(f"{os.fspath(path)}: line {number} is not text: it has a zero character")
                yield tokenize(line)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{os.fspath(path)}: not text in {encoding}, after line {number}: {error.reason}",
                              hint="give its encoding: fit(..., encoding='latin-1')") from None


def all_ids(corpus: Iterable[Iterable[str]]) -> tuple[np.ndarray, list[str]]:
    """The ids of all words, numbered as they first come, -1 after each sentence; and the words. One pass, 4 bytes a word."""
    known: defaultdict[str, int] = defaultdict()
    known.default_factory = known.__len__                # a word that is new gets the next number
    ids = _ids_of(corpus, lambda sentence: map(known.__getitem__, sentence))
    for word in known:
        if not isinstance(word, str):
            raise DTypeError(f"a word is a string, not {type(word).__name__} {word!r:.60}")
    if not known:
        raise NumericsError("the corpus is empty: it has no word")
    return ids, list(known)


def known_ids(corpus: Iterable[Iterable[str]], index: dict[str, int]) -> np.ndarray:
    """The ids of the words that `index` has, -1 after each sentence. Others are left out."""
    ids = _ids_of(corpus, lambda sentence: map(index.get, sentence, repeat(UNKNOWN)))
    return renumber(ids, np.arange(len(index)))


def _ids_of(corpus: Iterable[Iterable[str]], numbers: Callable[[Iterable[str]], Iterable[int]]) -> np.ndarray:
    ids = array("i")
    for number, sentence in enumerate(corpus):
        try:
            ids.extend(numbers(sentence))
        except TypeError:
            raise DTypeError(f"sentence {number} is no list of words: {sentence!r:.60}") from None
        ids.append(SENTENCE_END)
    return np.frombuffer(ids, np.int32) if ids else np.zeros(0, np.int32)


def renumber(ids: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`ids` with new[id] for each id and -1 as it is, without those that are or become UNKNOWN; written over the old ones."""
    table = np.concatenate([new, [UNKNOWN, SENTENCE_END]]).astype(np.int32)                # -2 and -1 take the last two
    kept = 0
    for first in range(0, len(ids), 1 << 20):
        part = table[ids[first:first + (1 << 20)]]
        part = part[part >= SENTENCE_END]
        ids[kept:kept + len(part)] = part
        kept += len(part)
    return ids[:kept]
