"""Word2Vec: vocabulary and text against counts by hand, training to what chance cannot reach, resuming bit for bit, bad input."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn, zoo
from graphnn.errors import DTypeError, FileFormatError, NumericsError, ShapeError, VerifyError
from graphnn.nn.described import DescriptionError
from graphnn.zoo.word2vec import corpus as corpus_module
from graphnn.zoo.word2vec import model as model_module
from graphnn.zoo.word2vec.corpus import all_ids, renumber, sentences, words_of
from graphnn.zoo.word2vec.vocabulary import huffman

TOPICS = 4
SAVED = ("negative_sampling", "nce", "hierarchical_softmax")


def topics(sentences: int = 400, seed: int = 0) -> list[list[str]]:
    """Sentences of six words, each about one of four topics with five words of its own: a word tells its topic, no more."""
    rng = np.random.default_rng(seed)
    return [[f"{'abcd'[topic]}{i}" for i in rng.integers(0, 5, 6)] for topic in rng.integers(0, TOPICS, sentences)]


def small(**arguments: Any) -> zoo.Word2Vec:
    given = {"window": 3, "min_count": 1, "subsample": 0.0, "lr": 0.1, "seed": 1, "epochs": 4} | arguments
    return zoo.Word2Vec(given.pop("embedding_dim", 12), **given)


@contextmanager
def threads(count: int) -> Iterator[None]:
    gnn.set_threads(count)
    try:
        yield
    finally:
        gnn.set_threads(None)


def arrays(model: zoo.Word2Vec) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state.arrays().items()}


# ------------------------------------------------------------------------------------------------ text


def test_all_forms_of_a_corpus_are_the_same_text(tmp_path: Path) -> None:
    lists = [["one", "two", "two"], ["it's", "a", "well-known", "one"]]
    lines = ["One, two -- TWO!", "(It's a well-known 'one'.)"]
    path, other = tmp_path / "first.txt", tmp_path / "second.txt"
    path.write_text("﻿" + "\n".join(lines), encoding="utf-8")
    other.write_text(lines[1], encoding="utf-8")
    first_only = tmp_path / "only.txt"
    first_only.write_text(lines[0], encoding="utf-8")
    forms = (lists, tuple(lists), (s for s in lists), [iter(s) for s in lists], lines, iter(lines), path, str(path),
             [first_only, other], [first_only, lines[1]], np.array(lines))
    expected = small()
    expected.fit(lists, epochs=1, verbose=False)
    assert expected.vocabulary is not None
    counts = dict(zip(expected.vocabulary.words, expected.vocabulary.counts.tolist(), strict=True))
    assert counts == Counter(itertools.chain(*lists))
    for form in forms:
        model = small()
        model.fit(form, epochs=1, verbose=False)
        assert arrays(model) == arrays(expected)
    assert expected.encode(path).tolist() == expected.encode(lists).tolist()
    assert expected.encode([["two", "unknown", "one"], []]).tolist() == [*map(expected.vocabulary.id, ("two", "one")), -1, -1]


@pytest.mark.parametrize("text", ["one two\nthree four five six seven\n\neight", "words " * 9 + "x" * 40 + "\nend", "a\tb" * 9])
def test_lines_longer_than_a_piece_are_read_in_pieces(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8")
    for piece in (1, 2, 7, 8, 1000):
        monkeypatch.setattr(corpus_module, "PIECE", piece)
        assert [list(sentence) for sentence in sentences(path)] == [words_of(line) for line in text.splitlines()]
        ids, _ = all_ids(sentences(path))
        assert (ids < 0).sum() == len(text.splitlines())
        assert len([0 for _ in sentences(path)]) == len(text.splitlines())       # though nobody reads the words
    path.write_bytes(b"one two three\xff")
    monkeypatch.setattr(corpus_module, "PIECE", 4)
    with pytest.raises(FileFormatError, match=r"long\.txt: not text in utf-8"):
        all_ids(sentences(path))


def test_the_vocabulary_is_chosen_by_count_and_first_come() -> None:
    text = [["b", "the", "c", "b"], ["the", "a", "c", "d", "the", "e"], ["a", "the"]]
    words = small(min_count=2).build_vocabulary(text)
    assert words.words == ("the", "b", "c", "a")
    assert words.counts.tolist() == [4, 2, 2, 2]
    assert small(min_count=1, max_tokens=3).build_vocabulary(text).words == ("the", "b", "c")
    assert small(min_count=2, stop_words=["b", "x"]).build_vocabulary(text).words == ("the", "c", "a")
    assert small(min_count=2, stop_words="english").build_vocabulary(text).words == ("b", "c")


def test_probabilities_of_the_vocabulary() -> None:
    words = zoo.Vocabulary(("a", "b", "c"), np.array([900, 90, 10]))
    expected = [np.sqrt(0.01 / f) + 0.01 / f for f in (0.9, 0.09)]
    np.testing.assert_allclose(words.keep_probabilities(0.01), [*expected, 1.0])
    assert words.keep_probabilities(0.0).tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(words.noise(0.0), [1 / 3] * 3)
    np.testing.assert_allclose(words.noise(-1.0), np.array([1 / 900, 1 / 90, 1 / 10]) / (1 / 900 + 1 / 90 + 1 / 10))
    with pytest.raises(NumericsError, match="noise_exponent is 1e\\+06"):
        words.noise(1e6)
    np.testing.assert_allclose(words.noise(1.0), [0.9, 0.09, 0.01])
    np.testing.assert_allclose(words.noise(0.75), np.array([900, 90, 10]) ** 0.75 / (900**0.75 + 90**0.75 + 10**0.75))


@pytest.mark.parametrize("counts", [[1, 1], [8, 4, 2, 1, 1], [5, 5, 5, 5], [100, 1, 1, 1, 1, 1, 1], list(range(40, 0, -1))])
def test_huffman_codes_are_a_full_prefix_code_of_least_length(counts: list[int]) -> None:
    nodes, turns = huffman(counts)
    lengths = (nodes >= 0).sum(axis=1)
    codes = ["".join("01"[int(t)] for t in turns[i, :length]) for i, length in enumerate(lengths)]
    assert not any(a != b and b.startswith(a) for a in codes for b in codes)
    assert sum(2.0**-length for length in lengths) == 1.0                    # nothing is left over (Kraft)
    merged, total = sorted(counts), 0
    while len(merged) > 1:
        both = merged[0] + merged[1]
        total += both                                                        # each merge makes these codes longer by one
        merged = sorted([both, *merged[2:]])
    assert int((lengths * np.array(counts)).sum()) == total
    for i, length in enumerate(lengths):                                     # two ways part at the node where the codes do
        assert nodes[i, 0] == 0
        for j in range(i):
            common = next(k for k in range(length) if codes[i][k] != codes[j][k])
            assert nodes[i, :common + 1].tolist() == nodes[j, :common + 1].tolist()
    assert nodes.max() == len(counts) - 2


def test_ids_are_renumbered_in_their_own_memory() -> None:
    ids, words = all_ids([["a", "b", "a"], ["c"]])
    assert (ids.tolist(), words) == ([0, 1, 0, -1, 2, -1], ["a", "b", "c"])
    new = renumber(ids, np.array([1, -2, 0], np.int32))
    assert new.tolist() == [1, 1, -1, 0, -1]
    assert np.shares_memory(ids, new)


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("skip_gram", [True, False])
@pytest.mark.parametrize("loss", SAVED)
def test_words_of_a_topic_come_together(skip_gram: bool, loss: str) -> None:
    model = small(skip_gram=skip_gram, loss=loss, epochs=20)
    untrained = small(skip_gram=skip_gram, loss=loss)
    untrained.build_vocabulary(topics())
    history = model.fit(topics(), verbose=False)
    assert history["loss"][-1] < 0.85 * history["loss"][0]
    vectors = model.vectors
    for word in vectors.vocabulary:
        assert {near[0] for near, _ in vectors.most_similar(word, top=4)} == {word[0]}
    held = topics(60, seed=9)
    # A word is one of the five of its topic: a mean rank near 3 of 20 words, where chance gives 10.5.
    found = model.evaluate(held)
    assert found["mean_rank"] < 3.6
    assert found["loss"] < np.log(5.0) + 0.2
    assert untrained.evaluate(held)["mean_rank"] > 8.0
    assert {word[0] for word, _ in model.predict(["b0", "b1", "b2"], top=5)} == {"b"}


@pytest.mark.parametrize("skip_gram", [True, False])
def test_compiled_training_is_what_numpy_means(skip_gram: bool) -> None:
    models = [small(skip_gram=skip_gram, epochs=2, subsample=0.05, backend=backend) for backend in ("numba", "numpy")]
    compiled, meant = ((m.fit(topics(60), verbose=False), m.state["input_vectors"], m.state["step"]) for m in models)
    np.testing.assert_allclose(compiled[0]["loss"], meant[0]["loss"], rtol=1e-5)
    np.testing.assert_allclose(compiled[1], meant[1], rtol=1e-3, atol=1e-5)
    assert compiled[2] == meant[2] == 2


@pytest.mark.parametrize("skip_gram", [True, False])
def test_the_same_seed_gives_the_same_bits_for_any_number_of_threads(skip_gram: bool) -> None:
    found = {}
    for count, seed in ((1, 1), (2, 1), (3, 1), (1, 2)):
        with threads(count):
            model = small(skip_gram=skip_gram, seed=seed, lr=0.01, step_words=64)    # as many as several threads share
            model.fit(topics(), verbose=False)
        found[count, seed] = arrays(model)
    assert found[1, 1] == found[2, 1] == found[3, 1]
    assert found[1, 1]["input_vectors"] != found[1, 2]["input_vectors"]


def test_subsampling_leaves_frequent_words_out_of_as_many_examples_as_it_says() -> None:
    text = [["often"] * 8 + ["a", "b"]] * 3000
    model = small(subsample=0.05, skip_gram=False, window=1)
    seen: list[int] = []
    keep = model.build_vocabulary(text).keep_probabilities(0.05)
    step = model["train"]
    ids = model.encode(text)
    for at in range(0, 16500, 1100):
        seen.append(int(step(ids[at:at + 1100], np.array(0.0, np.float32))[1]))
    # Every kept word has a neighbour, but for a sentence of which one word alone is left.
    expected = 100 * (8 * keep[0] + keep[1] + keep[2])
    assert abs(np.mean(seen) / expected - 1.0) < 0.05
    assert len(set(seen)) > 1


def test_the_learning_rate_falls_linearly_over_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "BLOCK", 700)
    model = small(lr=0.2, min_lr=0.05, epochs=2)
    model.build_vocabulary(topics(300))
    rates: list[float] = []
    step = model["train"]

    class Watched:
        def __call__(self, ids: np.ndarray, lr: np.ndarray) -> Any:
            rates.append(float(lr))
            return step(ids, lr)

    monkeypatch.setitem(model._executables, "train", Watched())
    model.fit(topics(300), verbose=False)
    np.testing.assert_allclose(rates, [0.2 - 0.15 * i / 6 for i in range(6)], rtol=1e-6)
    model.fit(topics(300), epochs=1, verbose=False)                          # beyond the plan it stays the least
    np.testing.assert_allclose(rates[6:], 0.05, rtol=1e-6)


# ------------------------------------------------------------------------------------------------ files


class Stop(Exception):
    """What a test interrupts training with."""


class SaveAndStop:
    """Saves after a block of an epoch, then ends training as an interrupt does."""

    def __init__(self, path: Path, epoch: int, block: int) -> None:
        self.path, self.wanted, self.epoch = path, (epoch, block), 0

    def on_epoch_begin(self, model: zoo.Word2Vec, epoch: int) -> None:
        self.epoch = epoch

    def on_batch_end(self, model: zoo.Word2Vec, step: int, numbers: dict[str, float]) -> None:
        if (self.epoch, step) == self.wanted:
            model.save(self.path)
            raise Stop


@pytest.mark.parametrize("loss", SAVED)
def test_training_goes_on_bit_for_bit_amid_an_epoch(loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "BLOCK", 500)
    whole, part = (small(loss=loss, stop_words=["a0"], lr=0.02, step_words=64) for _ in range(2))
    with threads(1):
        whole.fit(topics(), verbose=False)
    with threads(2), pytest.raises(Stop):
        part.fit(topics(), verbose=False, callbacks=[SaveAndStop(tmp_path / "part.gnn", 2, 3)])
    resumed = zoo.Word2Vec.load(tmp_path / "part.gnn")
    for model in (part, resumed):                                            # the interrupted one itself, and the file
        assert model.epoch == 1
        with threads(3):
            model.fit(topics(), verbose=False)
        assert arrays(model) == arrays(whole)
        assert model.history.columns == whole.history.columns
    resumed.save(tmp_path / "again.gnn")
    part.save(tmp_path / "whole.gnn")
    assert (tmp_path / "again.gnn").read_bytes() == (tmp_path / "whole.gnn").read_bytes()


def test_an_epoch_that_was_begun_needs_its_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "BLOCK", 500)
    model = small()
    with pytest.raises(Stop):
        model.fit(topics(), verbose=False, callbacks=[SaveAndStop(tmp_path / "part.gnn", 1, 4)])
    with pytest.raises(VerifyError, match="had 4 blocks"):
        model.fit(topics(50), verbose=False)


def test_a_file_needs_no_class_to_give_vectors(tmp_path: Path) -> None:
    model = small()
    model.fit(topics(100), verbose=False)
    model.save(tmp_path / "words.gnn")
    script = ("import sys, graphnn as gnn; b = gnn.load(sys.argv[1]); "
              "assert 'graphnn.zoo' not in sys.modules; print(b.run('vectors', [3, 0]).tolist())")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "words.gnn")], check=True, capture_output=True, text=True)
    np.testing.assert_array_equal(np.array(eval(done.stdout), np.float32), model.state["input_vectors"][[3, 0]])
    loaded = zoo.Word2Vec.load(tmp_path / "words.gnn")
    assert loaded.most_similar("a1") == model.most_similar("a1")
    assert loaded.arguments() == model.arguments()


def test_vectors_as_text_come_back_to_the_bit(tmp_path: Path) -> None:
    model = small()
    model.fit(topics(100), verbose=False)
    model.save_text(tmp_path / "words.txt")
    lines = (tmp_path / "words.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "20 12"
    assert lines[1].split(" ")[0] == model.vectors.vocabulary.words[0]
    again = zoo.WordVectors.read_text(tmp_path / "words.txt")
    assert again.vocabulary.words == model.vectors.vocabulary.words
    assert again.array.tobytes() == model.vectors.array.tobytes()
    # The original program ends lines with a space.
    (tmp_path / "words.txt").write_text("2 2\nein 1 -2.5 \nzwei 3e-05 4\n", encoding="utf-8")
    assert zoo.WordVectors.read_text(tmp_path / "words.txt")["ein"].tolist() == [1.0, -2.5]
    for bad in ("", "2\n", "2 2\na 1 2\n", "1 2\na 1\n", "1 2\na x 1\n", "2 1\na 1\na 2\n", "a b\n"):
        (tmp_path / "bad.txt").write_text(bad, encoding="utf-8")
        with pytest.raises(FileFormatError, match=r"bad\.txt"):
            zoo.WordVectors.read_text(tmp_path / "bad.txt")
    with pytest.raises(VerifyError, match="'two words'"):
        zoo.WordVectors(["two words", "b"], np.eye(2)).save_text(tmp_path / "words.txt")


def test_another_file_is_no_word2vec(tmp_path: Path) -> None:
    x = gnn.Input((2,), name="x")
    gnn.Model(x, nn.FullyConnected(1)(x)).save(tmp_path / "dense.gnn")
    with pytest.raises(FileFormatError, match="no Word2Vec can be made"):
        zoo.Word2Vec.load(tmp_path / "dense.gnn")


# ------------------------------------------------------------------------------------------------ what was learnt


def test_neighbours_and_analogies_by_hand() -> None:
    vectors = zoo.WordVectors(["king", "queen", "man", "woman", "car"],
                              np.array([[1, 1, 0], [1, -1, 0], [0, 1, 1], [0, -1, 1], [-1, 0, -1]], np.float32))
    assert [word for word, _ in vectors.analogy("man", "king", "woman", top=1)] == ["queen"]
    found = vectors.most_similar("king", top=9)
    assert [word for word, _ in found] == ["man", "queen", "woman", "car"]
    np.testing.assert_allclose([cosine for _, cosine in found], [0.5, 0.0, -0.5, -0.5], atol=1e-12)
    assert vectors.most_similar(vectors["king"], top=1)[0][0] == "king"      # a vector is no word that would be left out
    assert vectors.most_similar(["king", vectors["man"]], ["car"], top=0) == []
    assert vectors.similarity("king", "man") == pytest.approx(0.5)
    assert "king" in vectors
    assert "duke" not in vectors
    with pytest.raises(VerifyError, match="'duke'"):
        vectors.most_similar("duke")
    with pytest.raises(VerifyError, match="no direction"):
        vectors.most_similar("king", "king")
    with pytest.raises(ShapeError, match="shape"):
        vectors.most_similar(np.ones(2))
    for no_word in (5, None, [None], [["king"]]):
        with pytest.raises(DTypeError, match="a word is a string"):
            vectors.most_similar(no_word)  # pyright: ignore[reportArgumentType]
    with pytest.raises(VerifyError, match="twice"):
        zoo.WordVectors(["a", "a"], np.eye(2))


@pytest.mark.parametrize("skip_gram", [True, False])
def test_evaluate_ranks_each_word_by_what_stands_around_it(skip_gram: bool) -> None:
    model = small(skip_gram=skip_gram, window=2)
    model.fit(topics(80), verbose=False)
    held = [["a0", "b1", "unknown", "c2", "d3"], ["a1"], ["c0", "c1"]]
    inside, outside = model.state["input_vectors"].astype(np.float64), model.state["output_vectors"].astype(np.float64)
    vocabulary = model.vectors.vocabulary
    noise = vocabulary.noise(0.75)
    losses, ranks = [], []
    for sentence in held:
        ids = [vocabulary.id(word) for word in sentence if word in vocabulary]
        for i, target in enumerate(ids):
            around = [ids[j] for j in range(max(0, i - 2), min(len(ids), i + 3)) if j != i]
            given = [inside[a] for a in around] if skip_gram else [inside[around].mean(axis=0)] if around else []
            for x in given:
                p = np.exp(outside @ x) * noise
                p /= p.sum()
                losses.append(-np.log(p[target]))
                ranks.append(1 + int((p > p[target]).sum()))
    found = model.evaluate(held)
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["mean_rank"] == pytest.approx(np.mean(ranks))


@pytest.mark.parametrize("loss", SAVED)
def test_probabilities_of_all_words_sum_to_one(loss: str) -> None:
    model = small(loss=loss)
    model.fit(topics(80), verbose=False)
    found = model.predict(["a0", "b1"], top=100)
    assert len(found) == 20
    assert sum(p for _, p in found) == pytest.approx(1.0)
    log_p = model.run("log_probabilities", np.random.default_rng(0).normal(size=(3, 12)))
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, rtol=1e-5)


# ------------------------------------------------------------------------------------------------ bad input


def test_a_bad_corpus_is_an_error_and_the_model_as_before(tmp_path: Path) -> None:
    binary, latin = tmp_path / "binary", tmp_path / "latin.txt"
    binary.write_bytes(b"some words\n\x00\x01\x02")
    latin.write_bytes("größe und maß\n".encode("latin-1"))
    bad: list[tuple[Any, type[Exception], str]] = [
        ([], NumericsError, "empty"), ([[], []], NumericsError, "empty"), (["?!", ""], NumericsError, "empty"),
        ([["once"]], NumericsError, "needs at least 2"), (tmp_path / "gone.txt", FileNotFoundError, r"gone\.txt"),
        ([tmp_path / "gone.txt"], FileNotFoundError, r"gone\.txt"), (tmp_path, OSError, tmp_path.name),
        (binary, FileFormatError, "line 2 is not text"), (latin, FileFormatError, "not text in utf-8"),
        (7, DTypeError, "int"), (b"bytes", DTypeError, "bytes"), ([["a"], 7], DTypeError, "sentence 1"),
        ([["a", "b"], ["c", 7]], DTypeError, "int 7"), ([["a", ["b"]]], DTypeError, "sentence 0"), ([None], DTypeError, "None"),
        ([str(latin), str(latin)], DTypeError, "is the name of a file"), ("one line\nanother", DTypeError, "not the text itself"),
        ("a " * 3000, DTypeError, "not the text itself"), (["words", "not", "sentences"], NumericsError, "beside it"),
    ]
    for corpus, error, message in bad:
        model = small()
        with pytest.raises(error, match=message):
            model.fit(corpus, verbose=False)
        assert model.vocabulary is None
        assert not model.graphs
    model = small(min_count=1)
    model.fit(latin, encoding="latin-1", epochs=1, verbose=False)
    before = arrays(model)
    for corpus, error in ((tmp_path / "gone.txt", OSError), (binary, FileFormatError), ([["nothing", "known"]], NumericsError),
                          (np.zeros(3), DTypeError), (np.array([3], np.int32), NumericsError),
                          (np.zeros(0, np.int32), NumericsError)):
        with pytest.raises(error):
            model.fit(corpus, verbose=False)
        assert arrays(model) == before
    with pytest.raises(DTypeError, match="tokenize is a function"):
        small().fit(["a b"], tokenize=5, verbose=False)  # pyright: ignore[reportArgumentType]
    with pytest.raises(VerifyError, match="vocabulary already"):
        model.build_vocabulary([["a", "b"]])
    with pytest.raises(NumericsError, match="no word of the corpus has another one beside it"):
        model.evaluate([["und"]])


def test_a_file_that_vanishes_while_it_is_read_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("some words\n", encoding="utf-8")

    def vanishing() -> Any:
        yield paths[0]
        paths[1].unlink()
        yield paths[1]

    model = small()
    with pytest.raises(FileNotFoundError):
        model.fit(vanishing(), verbose=False)
    assert model.vocabulary is None
    model.fit(paths[0], verbose=False)


@pytest.mark.parametrize("skip_gram", [True, False])
def test_fewer_words_than_negatives_train_and_do_not_hang(skip_gram: bool) -> None:
    model = small(negatives=64, skip_gram=skip_gram)
    history = model.fit([["yes", "no", "yes"]] * 20, verbose=False)
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(model.state["input_vectors"]).all()
    small(loss="hierarchical_softmax").fit([["yes", "no"]] * 5, verbose=False)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"embedding_dim": 0}, ShapeError, "embedding_dim is 0"), ({"window": -1}, ShapeError, "window is -1"),
    ({"negatives": 2.5}, ShapeError, "negatives is 2.5"), ({"min_count": 0}, ShapeError, "min_count is 0"),
    ({"epochs": 0}, ShapeError, "epochs is 0"), ({"max_tokens": 1}, ShapeError, "max_tokens is 1"),
    ({"stop_words": [1, "a"]}, DTypeError, "stop_words is"), ({"stop_words": 5}, DTypeError, "stop_words is 5"),
    ({"step_words": 0}, ShapeError, "step_words is 0"), ({"subsample": -1}, NumericsError, "subsample is -1"),
    ({"lr": float("nan")}, NumericsError, "lr is nan"), ({"noise_exponent": "x"}, NumericsError, "noise_exponent is 'x'"),
    ({"loss": "softmax"}, DescriptionError, "no loss 'softmax'"), ({"stop_words": "german"}, DescriptionError, "'german'"),
    ({"skip_gram": 1}, DTypeError, "skip_gram is 1"), ({"init": "nonsense"}, DescriptionError, "nonsense"),
])
def test_arguments_out_of_range_are_refused_by_name(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small(**arguments)


def test_questions_before_training_say_what_to_do() -> None:
    model = small()
    for ask in (lambda: model.vectors, lambda: model.most_similar("a"), lambda: model.encode([["a"]]), lambda: model.predict("a"),
                lambda: model.fit(np.zeros(3, np.int32), verbose=False), lambda: model.save("never.gnn")):
        with pytest.raises(VerifyError, match="no vocabulary yet"):
            ask()


def test_callbacks_and_initialisers() -> None:
    model = small(init="normal(std=0.5)")
    model.build_vocabulary(topics())
    assert 0.3 < float(model.state["input_vectors"].std()) < 0.7
    epochs: list[int] = []

    def stop(model: zoo.Word2Vec, epoch: int, numbers: dict[str, float]) -> None:
        epochs.append(epoch)
        model.stop_training = epoch == 2

    history = model.fit(topics(), epochs=9, verbose=False, callbacks=[stop])
    assert epochs == [1, 2]
    assert len(history) == 2
