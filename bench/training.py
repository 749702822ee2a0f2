"""A training step of 784-512-512-10, batch 128, Adam, against PyTorch: eager with the fused Adam, and torch.compile.

    python -m bench training
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator

import numpy as np

import graphnn as gnn
from bench.figures import Figure, at_least, medians
from graphnn import nn

WIDTHS, BATCH, BATCHES = (784, 512, 512, 10), 128, 8


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Several, so that nobody fits one by heart and computes with denormals."""
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((BATCH, WIDTHS[0]), np.float32), rng.integers(0, WIDTHS[-1], BATCH))
            for _ in range(BATCHES)]


def model() -> gnn.Model:
    """The network, compiled for training."""
    x = gnn.Input((WIDTHS[0],))
    h = x
    for width in WIDTHS[1:-1]:
        h = nn.FullyConnected(width, activation="relu")(h)
    made = gnn.Model(x, nn.FullyConnected(WIDTHS[-1])(h), name="mlp")
    return made.compile(optimizer=nn.Adam(1e-3), loss=nn.CrossEntropy())


def our_step() -> Callable[[], object]:
    made = model()
    step = made.training_step(*batches()[0])
    given = itertools.cycle(batches())
    return lambda: step(*next(given))


def torch_step(*, compiled: bool) -> Callable[[], object]:
    """Raises RuntimeError where torch.compile has no compiler to call."""
    import torch

    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(WIDTHS):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    loss_of = torch.nn.CrossEntropyLoss()
    adam = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss_of(network(x), y)

    run = torch.compile(forward) if compiled else forward
    given = itertools.cycle([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches()])

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        run(*next(given)).backward()
        adam.step()

    step()
    return step


def figures() -> Iterator[Figure]:
    import torch

    ours = our_step()
    peers = {"eager": torch_step(compiled=False)}
    note = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peers["torch.compile"] = torch_step(compiled=True)
    except Exception as error:  # torch raises many kinds: no compiler, no headers, no Triton
        note = f"; torch.compile does not work here: {type(error).__name__}"
    for count in sorted({1, gnn.threads()}):
        before = gnn.threads()
        gnn.set_threads(count)
        torch.set_num_threads(count)
        mine, *theirs = medians(ours, *peers.values(), seconds=4.0, slice_seconds=0.03)
        gnn.set_threads(before)
        detail = f"{1e3 * mine:.2f} ms; " + ", ".join(
            f"{name} {1e3 * seconds:.2f}" for name, seconds in zip(peers, theirs, strict=True))
        what = f"training step {'-'.join(map(str, WIDTHS))}, batch {BATCH}, Adam, against PyTorch, {threads_text(count)}"
        yield at_least(what, min(theirs) / mine, 1.5, detail + note)


def threads_text(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
