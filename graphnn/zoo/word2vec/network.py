"""The graph of one training step of word2vec: a stretch of text in, both tables of vectors updated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import graphnn as gnn
from graphnn.nn.initialisers import Init, as_initialiser
from graphnn.nn.sampling import AliasSampler
from graphnn.zoo.word2vec.vocabulary import Vocabulary, huffman

LOSSES = ("negative_sampling", "nce", "hierarchical_softmax")


@dataclass(frozen=True)
class Settings:
    """What the graph of a step is made of, beside the vocabulary."""

    embedding_dim: int
    window: int
    skip_gram: bool
    loss: str
    negatives: int
    noise_exponent: float
    subsample: float
    step_words: int
    init: Init | None


def _known(array: np.ndarray) -> Callable[..., np.ndarray]:
    return lambda shape, dtype, rng: array.astype(dtype)


def _table(name: str, array: np.ndarray) -> gnn.Value:
    """A state that training reads: what is worked out once, and too large to stand in the graph."""
    return gnn.state(name, array.shape, _known(array), dtype=str(array.dtype))


def training_graph(settings: Settings, vocabulary: Vocabulary) -> gnn.Graph:
    """The step: word ids i32[N], -1 after each sentence, and the learning rate in; loss and number of examples out."""
    v, d = len(vocabulary), settings.embedding_dim
    ids, lr = gnn.placeholder("ids", "i32[N]"), gnn.placeholder("lr", "f32[]")
    (n,) = ids.shape
    seed = gnn.state("seed", (), lambda shape, dtype, rng: rng.integers(0, 2**63, shape, dtype), dtype="i64")
    step = gnn.state("step", (), _known(np.zeros(())), dtype="i64")

    keep = _table("keep", vocabulary.keep_probabilities(settings.subsample).astype(np.float32))
    draws = gnn.random_uniform(seed, step, (n,), stream=0)
    radius = gnn.random_integers(seed, step, (n,), 1, settings.window + 1, stream=1, dtype="i32")
    words, left, right = gnn.context_windows(ids, keep, draws, radius)

    tree = settings.loss == "hierarchical_softmax"
    outputs = v - 1 if tree else v
    init = _uniform(d) if settings.init is None else as_initialiser(settings.init)
    inside = gnn.parameter("input_vectors", (v, d), init)
    outside = gnn.parameter("output_vectors", (outputs, d), _known(np.zeros((outputs, d))))
    bias, offset = gnn.zeros((outputs,)), gnn.zeros((outputs,))
    if tree:
        targets, labels = _path(vocabulary, words)
    else:
        targets, labels = _noise(settings, vocabulary, words, seed, step)
    biased = settings.loss == "nce"
    if biased:
        bias = gnn.parameter("output_bias", (outputs,), _known(np.zeros(outputs)))
        offset = _table("offset", np.log(settings.negatives * vocabulary.noise(settings.noise_exponent)).astype(np.float32))

    new_inside, new_outside, new_bias, losses = gnn.word_vector_steps(
        inside, outside, bias, offset, words, left, right, gnn.check_index(targets, outputs, low=-1, what="target"), labels, lr,
        chunk=settings.step_words, window=settings.window, pooled=not settings.skip_gram, biased=biased, whole=True)
    contexts = gnn.cast(left + right, "i64")
    examples = gnn.sum(contexts if settings.skip_gram else gnn.minimum(contexts, 1))
    updates = [(inside, new_inside), (outside, new_outside), (step, step + 1)] + [(bias, new_bias)] * biased
    return gnn.Graph.of("train", [ids, lr], [gnn.sum(gnn.cast(losses, "f64")), examples], updates=updates)


def lookup_graph(train: gnn.Graph) -> gnn.Graph:
    """Word ids in, their vectors out."""
    ids = gnn.Input((), name="ids", dtype="i64")
    return gnn.Graph.of("vectors", [ids], [gnn.gather(_read(train, "input_vectors"), ids, what="word id")])


def prediction_graph(settings: Settings, vocabulary: Vocabulary, train: gnn.Graph) -> gnn.Graph:
    """The vector of a context word (skip-gram) or the mean of several (CBOW) in, the logarithm of each word's probability out.

    Negative sampling learns log p(word | context) - log k Q(word), so the noise comes in again. (Levy and Goldberg, 2014)
    """
    context = gnn.Input((settings.embedding_dim,), name="context")
    logits = context @ gnn.matrix_transpose(_read(train, "output_vectors"))
    if settings.loss == "hierarchical_softmax":
        nodes, turns = (_read(train, f"tree/{part}") for part in ("nodes", "turns"))
        total = gnn.zeros((context.shape[0], len(vocabulary)))
        for level in range(int(nodes.shape[1])):  # pyright: ignore[reportArgumentType]
            node = nodes[:, level]
            turned = gnn.gather(logits, gnn.maximum(node, 0), axis=1) * (2.0 * turns[:, level] - 1.0)
            total = total + gnn.where(gnn.less(node, 0), 0.0, gnn.log_sigmoid(turned))
        return gnn.Graph.of("log_probabilities", [context], [total])
    if settings.loss == "nce":
        logits = logits + _read(train, "output_bias")
    else:
        logits = logits + _table("log_noise", np.log(vocabulary.noise(settings.noise_exponent)).astype(np.float32))
    return gnn.Graph.of("log_probabilities", [context], [gnn.log_softmax(logits)])


def _read(graph: gnn.Graph, name: str) -> gnn.Value:
    """The parameter or state of this name."""
    return next(value for value in graph.inputs if value.name == name)


def _uniform(dim: int) -> Callable[..., np.ndarray]:
    """Uniform in [-1 / dim, 1 / dim): small, so that the first gradients find all logits near 0."""
    return lambda shape, dtype, rng: rng.uniform(-1.0 / dim, 1.0 / dim, shape).astype(dtype)


def _noise(settings: Settings, vocabulary: Vocabulary, words: gnn.Value, seed: gnn.Value,
           step: gnn.Value) -> tuple[gnn.Value, gnn.Value]:
    """Each word and its negatives, [N, 1 + negatives], and their labels 1, 0, 0, ...: a negative that is the word is none."""
    sampler = AliasSampler(vocabulary.noise(settings.noise_exponent))
    tables = {name: _table(f"noise/{name}", table) for name, table in sampler.tables.items()}
    (n,) = words.shape
    drawn = gnn.cast(sampler.draw(seed, step, (n, settings.negatives), stream=2, tables=tables), "i32")
    words = gnn.expand_dims(words, 1)
    drawn = gnn.where(gnn.equal(drawn, words), gnn.constant(np.int32(-1)), drawn)
    labels = gnn.constant(np.eye(1, 1 + settings.negatives, dtype=np.float32))
    return gnn.concat([words, drawn], 1), gnn.expand(labels, (n, 1 + settings.negatives))


def _path(vocabulary: Vocabulary, words: gnn.Value) -> tuple[gnn.Value, gnn.Value]:
    """The inner nodes on the way to each word, [N, L], and 1 where the way goes left."""
    nodes, turns = huffman(vocabulary.counts)
    words = gnn.maximum(words, 0)                        # what is no word has no context either
    return gnn.gather(_table("tree/nodes", nodes), words), gnn.gather(_table("tree/turns", turns), words)
