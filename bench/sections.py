"""The sections of the benchmark, and how one is measured. A module of its own, so that a new process can import it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import (
    determinism,
    digits_accuracy,
    images,
    kernels,
    memory,
    predict,
    rbm,
    sequences,
    sparse,
    startup,
    training,
    vae,
    word2vec,
)
from bench.figures import Figure

SECTIONS: dict[str, Callable[[], Iterator[Figure]]] = {
    "convolution": kernels.convolution,
    "elementwise": kernels.elementwise,
    "empty_row": kernels.empty_row,
    "predict": predict.figures,
    "training": training.figures,
    "sequences": sequences.figures,
    "startup": startup.figures,
    "memory": memory.figures,
    "determinism": determinism.figures,
    "digits_accuracy": digits_accuracy.figures,
    "images": images.figures,
    "vae": vae.figures,
    "rbm": rbm.figures,
    "word2vec": word2vec.figures,
    "sparse": sparse.figures,
}
NAMES = ("matmul", *SECTIONS)


def measure(name: str, count: int = 0) -> list[Figure]:
    """The figures of a section, printed as they come."""
    found: list[Figure] = []
    for figure in kernels.matmul(count) if name == "matmul" else SECTIONS[name]():
        print(f"  {figure.verdict:7s} {figure.what}: {figure.result}   goal {figure.goal}", flush=True)
        found.append(figure)
    return found
