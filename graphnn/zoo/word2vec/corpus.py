"""Text as sentences of words, from files, lists or any iterable, and as one array of word ids."""

from __future__ import annotations

import os
import re
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count, repeat
from pathlib import Path
from typing import TextIO

import numpy as np

from graphnn.errors import DTypeError, FileFormatError, NumericsError

Tokenizer = Callable[[str], Iterable[str]]
Corpus = str | os.PathLike[str] | Iterable[os.PathLike[str] | str | Iterable[str]] | np.ndarray

SENTENCE_END, UNKNOWN = -1, -2
PIECE = 1 << 20                                          # characters of a line that are read at once
LONGEST_PATH = 4096
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
    if not callable(tokenize):
        raise DTypeError(f"tokenize is a function from a string to its words, not {type(tokenize).__name__} {tokenize!r:.60}")
    if isinstance(corpus, str) and ("\n" in corpus or len(corpus) > LONGEST_PATH):
        raise DTypeError(f"a corpus that is a string is the path of a file, not the text itself: {corpus!r:.60}",
                         hint="a text is a list of sentences: fit(text.splitlines())")
    if isinstance(corpus, (str, os.PathLike)):
        yield from _lines(corpus, tokenize, encoding)
        return
    if isinstance(corpus, bytes) or not isinstance(corpus, Iterable):
        raise DTypeError(f"a corpus is a text file's path or an iterable of sentences, not {type(corpus).__name__}")
    for number, item in enumerate(corpus):
        if isinstance(item, os.PathLike):
            yield from _lines(item, tokenize, encoding)
        elif isinstance(item, str):
            if number == 0 and len(item) <= LONGEST_PATH and os.path.isfile(item):
                raise DTypeError(f"sentence 0, {item!r:.60}, is the name of a file",
                                 hint="a file among sentences is a Path, not a string")
            yield tokenize(item)
        elif isinstance(item, Iterable) and not isinstance(item, bytes):
            yield item
        else:
            raise DTypeError(f"sentence {number} is {type(item).__name__} {item!r:.60}; give a list of words, a string or a Path")


def _lines(path: str | os.PathLike[str], tokenize: Tokenizer, encoding: str) -> Iterator[Iterable[str]]:
    with Path(path).open(encoding=encoding) as file:
        for number in count(1):
            piece = _piece(file, number)
            if not piece:
                return
            if _ends(piece):
                yield tokenize(piece)
            else:
                words = _long_line(file, number, piece, tokenize)
                yield words
                deque(words, 0)                          # to the end of the line, if nobody has been there


def _long_line(file: TextIO, number: int, piece: str, tokenize: Tokenizer) -> Iterator[str]:
    """The words of a line of which `piece` has been read; it may be a whole corpus, and is never all in memory."""
    cut = ""
    while piece:
        # A word is not cut in two: what stands behind the last space waits for the next piece.
        whole, _, cut = (cut + piece).rpartition(" ")
        yield from tokenize(whole)
        piece = "" if _ends(piece) else _piece(file, number)
    yield from tokenize(cut)


def _piece(file: TextIO, line: int) -> str:
    try:
        piece = file.readline(PIECE)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file.name}: not text in {file.encoding}, after line {line - 1}: {error.reason}",
                              hint="give its encoding: fit(..., encoding='latin-1')") from None
    if "\0" in piece:
        raise FileFormatError(f"{file.name}: line {line} is not text: it has a zero character")
    return piece


def _ends(piece: str) -> bool:
    """Whether a line is at its end."""
    return len(piece) < PIECE or piece.endswith("\n")


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
