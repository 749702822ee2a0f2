"""Word2Vec against gensim's, with the same settings, threads and text: words a second, and held-out neighbouring words.

    python -m bench word2vec

The text is that of examples/word2vec.py. Quality is the mean rank, among all words, of a held-out sentence's word in the order of
the probabilities that the words around it give, by `zoo.Word2Vec.evaluate` for both: a graphnn model is given gensim's vectors.
No worse means: not by more than two standard errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import mean, median, variance
from typing import Any

import numpy as np

import graphnn as gnn
from bench.figures import Figure, at_least, at_most
from examples.word2vec import corpus
from graphnn import zoo

DIM, WINDOW, NEGATIVES, EPOCHS = 100, 5, 5, 5
TURNS, SEEDS = 5, 4
KINDS = {"skip-gram": True, "CBOW": False}


def ours(text: list[list[str]], *, skip_gram: bool, tree: bool, seed: int = 1) -> zoo.Word2Vec:
    """A model with its vocabulary, its kernels ready."""
    loss = "hierarchical_softmax" if tree else "negative_sampling"
    model = zoo.Word2Vec(DIM, window=WINDOW, skip_gram=skip_gram, loss=loss, negatives=NEGATIVES, epochs=EPOCHS, seed=seed)
    model.build_vocabulary(text)
    return model


def theirs(text: list[list[str]], *, skip_gram: bool, tree: bool, threads: int, seed: int = 1) -> Any:
    """gensim's model with its vocabulary."""
    from gensim.models import Word2Vec  # pyright: ignore[reportMissingImports]

    model = Word2Vec(vector_size=DIM, window=WINDOW, sg=int(skip_gram), hs=int(tree), negative=0 if tree else NEGATIVES,
                     min_count=5, sample=1e-3, alpha=0.025, min_alpha=1e-4, workers=threads, seed=seed)
    model.build_vocab(text)
    return model


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rate(text: list[list[str]], *, skip_gram: bool, tree: bool, threads: int) -> tuple[float, float]:
    """Words a second of a training of some epochs, ours and gensim's: medians of turns. Reading and coding the text is in it."""
    words = EPOCHS * sum(map(len, text))
    gnn.set_threads(threads)
    mine, peer = ours(text, skip_gram=skip_gram, tree=tree), theirs(text, skip_gram=skip_gram, tree=tree, threads=threads)
    mine.fit(text, epochs=1, verbose=False)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(TURNS):
        times[0].append(seconds(lambda: mine.fit(text, epochs=EPOCHS, verbose=False)))
        times[1].append(seconds(lambda: peer.train(text, total_examples=len(text), epochs=EPOCHS)))
    gnn.set_threads(None)
    return words / median(times[0]), words / median(times[1])


def quality(train: list[list[str]], held: list[list[str]], *, skip_gram: bool, threads: int) -> tuple[list[float], list[float]]:
    """Mean ranks of held-out words, ours and gensim's, one a seed."""
    found: tuple[list[float], list[float]] = ([], [])
    for seed in range(SEEDS):
        mine = ours(train, skip_gram=skip_gram, tree=False, seed=seed)
        mine.fit(train, verbose=False)
        found[0].append(mine.evaluate(held)["mean_rank"])
        peer = theirs(train, skip_gram=skip_gram, tree=False, threads=threads, seed=seed)
        peer.train(train, total_examples=len(train), epochs=EPOCHS)
        assert mine.vocabulary is not None
        order = np.array([peer.wv.key_to_index[word] for word in mine.vocabulary])
        mine.state.update({"input_vectors": peer.wv.vectors[order], "output_vectors": peer.syn1neg[order]})
        found[1].append(mine.evaluate(held)["mean_rank"])
    return found


def figures() -> Iterator[Figure]:
    text = corpus()
    for name, skip_gram in KINDS.items():
        for tree in (False, True):
            for threads in sorted({1, gnn.threads()}):
                mine, peer = rate(text, skip_gram=skip_gram, tree=tree, threads=threads)
                loss = "hierarchical softmax" if tree else f"{NEGATIVES} negatives"
                what = f"word2vec, {name}, {loss}, {threads} thread{'s' * (threads > 1)}, against gensim"
                yield at_least(what, mine / peer, 1.0, f"{mine:,.0f} words/s; gensim {peer:,.0f}")
    held, train = text[::10], [sentence for i, sentence in enumerate(text) if i % 10]
    for name, skip_gram in KINDS.items():
        mine, peer = quality(train, held, skip_gram=skip_gram, threads=gnn.threads())
        error = ((variance(mine) + variance(peer)) / SEEDS) ** 0.5           # of the difference of the means, by seeds
        detail = f"{mean(mine):.1f}; gensim {mean(peer):.1f}; {SEEDS} seeds, standard error {error:.1f}"
        yield at_most(f"word2vec, {name}: mean rank of held-out neighbours, to gensim's", mean(mine) / mean(peer),
                      1.0 + 2.0 * error / mean(peer), detail, form="{:.4f}x")
