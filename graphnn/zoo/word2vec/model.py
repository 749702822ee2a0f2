"""Word2Vec: vectors of words, learnt from the words around them. (Mikolov, Chen, Corrado and Dean, 2013; Mikolov, Sutskever,
Chen, Corrado and Dean, 2013)"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphnn.errors import DTypeError, NumericsError, VerifyError
from graphnn.nn.arguments import as_count, is_number
from graphnn.nn.described import DescriptionError
from graphnn.nn.history import History
from graphnn.nn.initialisers import Init, as_initialiser
from graphnn.zoo.network import Network
from graphnn.zoo.word2vec.corpus import SENTENCE_END, Corpus, Tokenizer, all_ids, known_ids, renumber, sentences, words_of
from graphnn.zoo.word2vec.network import LOSSES, Settings, lookup_graph, prediction_graph, training_graph
from graphnn.zoo.word2vec.vectors import Words, WordVectors
from graphnn.zoo.word2vec.vocabulary import ENGLISH, Vocabulary, choose

BLOCK = 1 << 14                                          # words a call of the step
LARGEST_STEP = 256
RANKED = 512                                             # examples that evaluate ranks at once


@dataclass(eq=False, repr=False)
class Word2Vec(Network):
    """Vectors of words, such that a word's vector tells which words stand around it.

    >>> from graphnn import zoo
    >>> text = [["the", "cat", "drinks", "milk"], ["the", "dog", "drinks", "water"]] * 50
    >>> model = zoo.Word2Vec(8, min_count=1, epochs=2)
    >>> len(model.fit(text, verbose=False)), model.vector("cat").shape
    (2, (8,))

    - `skip_gram=True` predicts a word from each word around it, False (CBOW) from their mean.
    - `loss` is "negative_sampling", the default, "nce" (noise-contrastive estimation, with a bias for each word) or
      "hierarchical_softmax" (a Huffman tree). The first two have `negatives` words drawn for each word of the text, from the
      distribution count ** `noise_exponent`, which all its contexts share; one that is the word itself counts for nothing.
    - `window`: how many words on either side are context, at most; for each word of the text a number from 1 to `window`
      is drawn, so that nearer words count more.
    - The vocabulary is the words that come at least `min_count` times, the `max_tokens` most frequent of them, without
      `stop_words` (a collection, or "english"). All other words are left out of the text. Of a word that makes up a part f of the
      text only a part sqrt(t / f) + t / f is kept, anew in each epoch, with t = `subsample`; 0 keeps all.
    - The learning rate falls linearly from `lr` to `min_lr` over `epochs` epochs. `step_words` words of the text make one step
      of gradient descent, at the sum of their losses; None takes the most, up to 256, with which a frequent word stays stable.
    - `init` gives the first input vectors; by default they are uniform in [-1 / dim, 1 / dim). The output vectors start as 0.

    All that is random follows from `seed`, and is the same for any number of threads. Reported losses are means over examples:
    pairs of a word and a context word (skip-gram), or words with a context.
    """

    embedding_dim: int = 100
    window: int = field(default=5, kw_only=True)
    skip_gram: bool = field(default=False, kw_only=True)
    loss: str = field(default="negative_sampling", kw_only=True)
    negatives: int = field(default=5, kw_only=True)
    noise_exponent: float = field(default=0.75, kw_only=True)
    min_count: int = field(default=5, kw_only=True)
    max_tokens: int | None = field(default=None, kw_only=True)
    stop_words: str | Collection[str] = field(default=(), kw_only=True)
    subsample: float = field(default=1e-3, kw_only=True)
    lr: float = field(default=0.025, kw_only=True)
    min_lr: float = field(default=1e-4, kw_only=True)
    epochs: int = field(default=5, kw_only=True)
    step_words: int | None = field(default=None, kw_only=True)
    init: Init | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("embedding_dim", "window", "negatives", "min_count", "epochs"):
            setattr(self, name, as_count(getattr(self, name), f"Word2Vec: {name}"))
        for name, least in (("max_tokens", 2), ("step_words", 1)):
            if getattr(self, name) is not None:
                setattr(self, name, as_count(getattr(self, name), f"Word2Vec: {name}", least))
        for name in ("noise_exponent", "subsample", "lr", "min_lr"):
            value = getattr(self, name)
            free = name == "noise_exponent"
            if not is_number(value) or (value < 0 and not free):
                raise NumericsError(f"Word2Vec: {name} is {value!r}; it must be a number{'' if free else ', at least 0'}")
            setattr(self, name, float(value))
        if not isinstance(self.skip_gram, bool):
            raise DTypeError(f"Word2Vec: skip_gram is {self.skip_gram!r}; it is True or False")
        if self.loss not in LOSSES:
            raise DescriptionError(f"Word2Vec: there is no loss {self.loss!r}; there are {', '.join(LOSSES)}")
        if isinstance(self.stop_words, str) and self.stop_words != "english":
            raise DescriptionError(f"Word2Vec: stop_words is {self.stop_words!r}; it is 'english' or a collection of words")
        if not isinstance(self.stop_words, str):
            if not isinstance(self.stop_words, Collection) or not all(isinstance(word, str) for word in self.stop_words):
                raise DTypeError(f"Word2Vec: stop_words is {self.stop_words!r:.60}; it is 'english' or a collection of words")
            self.stop_words = tuple(sorted(set(self.stop_words)))
        if self.init is not None:
            self.init = as_initialiser(self.init)
        self.vocabulary: Vocabulary | None = None

    # ------------------------------------------------------------------------------------------ the text

    def build_vocabulary(self, corpus: Corpus, *, tokenize: Tokenizer = words_of, encoding: str = "utf-8-sig") -> Vocabulary:
        """Choose the words from a corpus, and make the first vectors. `fit` does so if there is no vocabulary yet."""
        if self.vocabulary is not None:
            raise VerifyError("the model has its vocabulary already; another one needs another model")
        self._first_ids(corpus, tokenize, encoding)
        assert self.vocabulary is not None
        return self.vocabulary

    def encode(self, corpus: Corpus, *, tokenize: Tokenizer = words_of, encoding: str = "utf-8-sig") -> np.ndarray:
        """The text as ids of the vocabulary, i32, -1 after each sentence: what `fit` and `evaluate` take as well as a corpus."""
        return known_ids(sentences(corpus, tokenize, encoding), self._known().index)

    def _first_ids(self, corpus: Corpus, tokenize: Tokenizer, encoding: str) -> np.ndarray:
        ids, words = all_ids(sentences(corpus, tokenize, encoding))
        counts = np.zeros(len(words), np.int64)
        for first in range(0, len(ids), 1 << 20):
            part = ids[first:first + (1 << 20)]
            counts += np.bincount(part[part >= 0], minlength=len(words))
        stop = ENGLISH if self.stop_words == "english" else frozenset(self.stop_words)
        vocabulary, new = choose(words, counts, min_count=self.min_count, max_tokens=self.max_tokens, stop_words=stop)
        ids = _with_neighbours(renumber(ids, new))
        settings = Settings(self.embedding_dim, self.window, self.skip_gram, self.loss, self.negatives, self.noise_exponent,
                            self.subsample, self.step_words or self._stable_step(vocabulary), self.init)
        train = training_graph(settings, vocabulary)
        predict = prediction_graph(settings, vocabulary, train)
        self.add({"train": train, "vectors": lookup_graph(train), "log_probabilities": predict})
        self.vocabulary = vocabulary
        return ids

    def _stable_step(self, vocabulary: Vocabulary) -> int:
        """How many words may share a step: gradients that all push one row the same way must not carry it too far."""
        kept = vocabulary.counts * vocabulary.keep_probabilities(self.subsample)
        part = float((kept / kept.sum()).max())
        if self.loss == "hierarchical_softmax":
            often = 1.0                                  # the root is a target of every word
        else:
            often = max(part * (1 + self.negatives), self.negatives * float(vocabulary.noise(self.noise_exponent).max()))
        contexts = self.window + 1 if self.skip_gram else 1
        # Measured: from about 2.5 / (lr * often * contexts) words on, training diverges.
        words = int(np.clip(1.0 / max(self.lr * often * contexts, 1e-9), 1, LARGEST_STEP))
        return words - words % 16 if words > 16 else words

    def _known(self) -> Vocabulary:
        if self.vocabulary is None:
            raise VerifyError("the model has no vocabulary yet", hint="model.fit(corpus), or model.build_vocabulary(corpus)")
        return self.vocabulary

    # ------------------------------------------------------------------------------------------ training

    def fit(self, corpus: Corpus, *, epochs: int | None = None, tokenize: Tokenizer = words_of, encoding: str = "utf-8-sig",
            verbose: bool = True, callbacks: Any = ()) -> History:
        """Train for `epochs` more epochs, by default those that are left of the model's; returns the history.

        `corpus` is a text file's path, one sentence a line; an iterable whose items are sentences (lists of words, or strings,
        which `tokenize` splits) or paths (`os.PathLike`) of files; or what `encode` made. It is read once, and kept as 4 bytes
        a word. An epoch that was interrupted is gone on with where it was, if the corpus is the same.

        Raises NumericsError for an empty corpus, FileFormatError for a file that is not text, OSError for one that is not there;
        the model is as before then.
        """
        left = max(self.epochs - self.epoch, 0) if epochs is None else as_count(epochs, "fit: epochs", 0)
        ids = self._ids(corpus, tokenize, encoding)
        blocks = -(-len(ids) // BLOCK)
        if self._done > blocks:
            raise VerifyError(f"the epoch that was begun had {self._done} blocks of {BLOCK} words, this corpus has {blocks}",
                              hint="go on with the corpus that it was begun with")
        step = self["train"]

        def run(epoch: int, done: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
            for block in range(done, blocks):
                lr = self._rate(epoch + block / blocks)
                loss, examples = step(_block(ids, block), np.array(lr, np.float32))
                yield int(examples), {"loss": loss / max(examples, 1)}

        return self._fit(run, epochs=left, examples=None, callbacks=callbacks, verbose=verbose)

    def _ids(self, corpus: Corpus, tokenize: Tokenizer, encoding: str) -> np.ndarray:
        if isinstance(corpus, np.ndarray) and corpus.dtype.kind not in "UO":                 # an array of strings is sentences
            known = len(self._known())
            if corpus.dtype != np.int32 or corpus.ndim != 1:
                raise DTypeError(f"a corpus of ids is i32[N], as `encode` makes it, not {corpus.dtype} of shape {corpus.shape}")
            if len(corpus) and not -1 <= int(corpus.min()) <= int(corpus.max()) < known:
                raise NumericsError(f"the ids of a corpus lie from -1 to {known - 1}")
            ids = corpus
        elif self.vocabulary is None:
            ids = self._first_ids(corpus, tokenize, encoding)
        else:
            ids = self.encode(corpus, tokenize=tokenize, encoding=encoding)
        if not len(ids) or int(ids.max()) < 0:
            raise NumericsError("the corpus is empty: it has no word of the vocabulary")
        return _with_neighbours(ids)

    def _rate(self, epochs: float) -> float:
        """The learning rate after so many epochs."""
        return max(self.lr - (self.lr - self.min_lr) * epochs / self.epochs, min(self.lr, self.min_lr))

    # ------------------------------------------------------------------------------------------ what was learnt

    @property
    def vectors(self) -> WordVectors:
        """The vectors of all words as they are now. For many questions keep it: it is made anew each time."""
        return WordVectors(self._known(), self.state["input_vectors"])

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word. Raises VerifyError for one that is not in the vocabulary."""
        return self.run("vectors", [self._known().id(word)])[0]

    def similarity(self, first: str, second: str) -> float:
        """The cosine between the vectors of two words."""
        return self.vectors.similarity(first, second)

    def most_similar(self, positive: Words = (), negative: Words = (), *, top: int = 10) -> list[tuple[str, float]]:
        """The words nearest to some words: see `WordVectors.most_similar`."""
        return self.vectors.most_similar(positive, negative, top=top)

    def analogy(self, a: str, b: str, c: str, *, top: int = 10) -> list[tuple[str, float]]:
        """a is to b as c is to which words?"""
        return self.vectors.analogy(a, b, c, top=top)

    def save_text(self, path: str | os.PathLike[str]) -> None:
        """Write the vectors in the text format of the original word2vec program, which gensim and others read."""
        self.vectors.save_text(path)

    def predict(self, context: str | Collection[str], *, top: int = 10) -> list[tuple[str, float]]:
        """The words most likely to stand where the words of `context` stand around them, and their probabilities.

        With skip-gram the probabilities that each of the words gives are multiplied, and made to sum to 1.
        """
        words = [context] if isinstance(context, str) else list(context)
        if not words:
            raise VerifyError("predict: the context is empty")
        x = self.run("vectors", [self._known().id(word) for word in words])
        given = x if self.skip_gram else x.mean(axis=0, keepdims=True)
        log_p = self.run("log_probabilities", given).sum(axis=0, dtype=np.float64)
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        order = np.argsort(-p, kind="stable")[:as_count(top, "predict: top", 0)]
        return [(self._known().words[i], float(p[i])) for i in order.tolist()]

    def evaluate(self, corpus: Corpus, *, most: int = 20_000, tokenize: Tokenizer = words_of,
                 encoding: str = "utf-8-sig") -> dict[str, float]:
        """How well the words of a text are told from those around them: over at most `most` examples, evenly chosen,

        - "loss": the mean of -log p(word | context), over all words of the vocabulary, and
        - "mean_rank": the mean rank of the word among all words in order of p, from 1; of words with the same p the middle.

        Windows are whole, and no word is left out for being frequent.
        """
        x, targets = self._examples_of(self._ids(corpus, tokenize, encoding), as_count(most, "evaluate: most"))
        loss = rank = 0.0
        for first in range(0, len(x), RANKED):
            log_p = self.run("log_probabilities", x[first:first + RANKED])
            own = np.take_along_axis(log_p, targets[first:first + RANKED, None], 1)
            loss -= float(own.sum(dtype=np.float64))
            rank += 0.5 * float((log_p > own).sum() + (log_p >= own).sum() + len(own))
        return {"loss": loss / len(x), "mean_rank": rank / len(x)}

    def _examples_of(self, ids: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """What the model is given, and the words it is to tell."""
        vectors = self.state["input_vectors"]
        ends = np.flatnonzero(np.append(ids, SENTENCE_END) < 0)
        place = np.arange(len(ids))
        end = ends[np.searchsorted(ends, place)]
        start = np.append(0, ends + 1)[np.searchsorted(ends, place)]
        offsets = np.array([o for o in range(-self.window, self.window + 1) if o])
        at = place[ids >= 0, None] + offsets
        valid = (at >= start[ids >= 0, None]) & (at < end[ids >= 0, None])
        targets = ids[ids >= 0].astype(np.int64)
        if self.skip_gram:
            rows, columns = np.nonzero(valid)
        else:
            rows, columns = np.flatnonzero(valid.any(axis=1)), None
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
        rows = rows[chosen]
        if columns is not None:
            return vectors[ids[at[rows, columns[chosen]]]], targets[rows]
        weights = valid[rows].astype(np.float32)
        weights /= weights.sum(axis=1, keepdims=True)
        x = np.stack([w @ vectors[ids[np.clip(a, 0, len(ids) - 1)]] for w, a in zip(weights, at[rows], strict=True)])
        return x, targets[rows]

    # ------------------------------------------------------------------------------------------ files

    def _facts(self) -> dict[str, Any]:
        vocabulary = self._known()
        return {**super()._facts(), "words": list(vocabulary.words), "counts": vocabulary.counts.tolist()}

    def _take_facts(self, meta: Mapping[str, Any], train: Mapping[str, Any]) -> None:
        super()._take_facts(meta, train)
        words, counts = meta["words"], np.array(meta["counts"], np.int64)
        if not all(isinstance(word, str) for word in words) or not len(words) == len(counts) == len(self.state["input_vectors"]):
            raise VerifyError("its words and vectors do not fit together")
        self.vocabulary = Vocabulary(tuple(words), counts)
        self.meta.clear()                                # it has all words once more


def _with_neighbours(ids: np.ndarray) -> np.ndarray:
    """The ids. Raises NumericsError when no two words stand side by side in a sentence: there is nothing to learn then."""
    for first in range(0, len(ids), 1 << 20):
        part = ids[first:first + (1 << 20) + 1] >= 0
        if np.any(part[1:] & part[:-1]):
            return ids
    raise NumericsError("no word of the corpus has another one beside it",
                        hint="the items of a corpus are sentences; words alone are a list of one sentence: fit([words])")


def _block(ids: np.ndarray, number: int) -> np.ndarray:
    """A stretch of the text. The last of several is filled up with ends of sentences, so that all are of one size."""
    part = ids[number * BLOCK:(number + 1) * BLOCK]
    return np.pad(part, (0, BLOCK - len(part)), constant_values=SENTENCE_END) if number and len(part) < BLOCK else part
