"""Word vectors of Python's own documentation: its library's docstrings and help topics, which are on every machine.

    python examples/word2vec.py [folder for the files]

Prints words and their neighbours, analogies, and how well words that were held out are told from those around them; writes
word2vec.png, a map of some words; word2vec.gnn, the model; word2vec.txt, the vectors for other programs.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np

from graphnn import zoo

SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
HELD_OUT = 10                                            # every tenth sentence
EPOCHS = 15
ENOUGH = 400.0                                           # the mean rank; of about 4300 words, chance is half of that
ASKED = ("file", "list", "exception", "thread", "socket", "regex", "integer", "month", "http", "decorator")
ANALOGIES = (("list", "append", "dict"), ("read", "reader", "write"), ("string", "strings", "integer"))
MAP = {
    "types": ("int", "float", "str", "bytes", "tuple", "list", "dict", "set", "bool", "complex"),
    "files": ("file", "directory", "path", "filename", "stream", "archive", "zip", "tar"),
    "network": ("socket", "server", "client", "http", "url", "request", "connection", "ssl"),
    "errors": ("exception", "raise", "raised", "raises", "valueerror", "typeerror", "traceback", "error"),
    "time": ("day", "month", "year", "hour", "minute", "datetime", "timezone", "calendar"),
    "running": ("thread", "process", "lock", "event", "loop", "coroutine", "task", "future"),
}


def docstrings() -> list[str]:
    """Every docstring of the standard library's modules, classes and functions, and the texts of `help()`."""
    texts: list[str] = []
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if SKIPPED.intersection(path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):        # templates of lib2to3 and the like
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                texts.append(ast.get_docstring(node) or "")
    from pydoc_data.topics import topics

    return texts + list(topics.values())


def corpus() -> list[list[str]]:
    """Sentences of words in small letters."""
    found = []
    for text in docstrings():
        for sentence in re.split(r"(?<=[.!?:;])\s+|\n\s*\n", text.lower()):
            words = re.findall(r"[a-z_]*[a-z][a-z_]*", sentence)
            if len(words) > 1:
                found.append(words)
    return found


def draw(vectors: zoo.WordVectors, path: Path) -> None:
    """The words of MAP in the plane in which they lie farthest apart."""
    from matplotlib.figure import Figure

    groups = {name: [word for word in words if word in vectors] for name, words in MAP.items()}
    chosen = np.stack([vectors[word] for words in groups.values() for word in words])
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    centred = chosen - chosen.mean(axis=0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    first = 0
    for name, words in groups.items():
        places = plane[first:first + len(words)]
        first += len(words)
        points = axes.scatter(*places.T, s=14, label=name)
        for word, place in zip(words, places, strict=True):
            axes.annotate(word, place, xytext=(3, 3), textcoords="offset points", fontsize=8, color=points.get_facecolor()[0])
    axes.set(title="words of Python's documentation: the two principal directions", xticks=[], yticks=[])
    axes.margins(0.1)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    text = corpus()
    held = text[::HELD_OUT]
    train = [sentence for i, sentence in enumerate(text) if i % HELD_OUT]
    words = sum(map(len, train))
    print(f"{len(train)} sentences, {words} words; {len(held)} sentences are held out")

    model = zoo.Word2Vec(100, skip_gram=True, epochs=EPOCHS, lr=0.05, seed=1)
    ids_of = model.build_vocabulary(train)
    print(ids_of)
    began = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - began
    print(f"{EPOCHS} epochs in {seconds:.1f} s, compiling included: {EPOCHS * words / seconds:,.0f} words/s")

    vectors = model.vectors
    for word in ASKED:
        if word in vectors:
            print(f"{word:>10}  " + ", ".join(near for near, _ in vectors.most_similar(word, top=7)))
    for a, b, c in ANALOGIES:
        print(f"{a} : {b} = {c} : " + ", ".join(word for word, _ in vectors.analogy(a, b, c, top=4)))
    print("open the ... in  ->  " + ", ".join(f"{word} {p:.2f}" for word, p in model.predict(["open", "the", "in"], top=5)))
    rank = model.evaluate(held)["mean_rank"]
    print(f"held-out neighbouring words: mean rank {rank:.0f} of {len(vectors)} (chance: {(len(vectors) + 1) / 2:.0f})")

    model.save(folder / "word2vec.gnn")
    model.save_text(folder / "word2vec.txt")
    same = zoo.Word2Vec.load(folder / "word2vec.gnn").most_similar("file") == model.most_similar("file")
    print(f"written to {folder}: word2vec.gnn ({'the same when loaded' if same else 'DIFFERS when loaded'}), word2vec.txt")
    try:
        draw(vectors, folder / "word2vec.png")
        print(f"written to {folder}: word2vec.png")
    except ImportError:
        print("no picture: pip install 'graphnn[train]'")
    if rank > ENOUGH or not same:
        print(f"the demo failed: it needs a mean rank of at most {ENOUGH:.0f}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
