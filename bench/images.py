"""Small image and sequence networks against PyTorch: whole training steps with Adam, and predictions, from the same weights.

    python -m bench images

PyTorch runs eagerly with its fused Adam, in both of its memory formats, and the faster one counts. The networks stand in
bench/twins.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import graphnn as gnn
from bench.figures import Figure, at_least, medians
from bench.training import threads_text
from bench.twins import TWINS, Twin
from graphnn import nn
from graphnn.ir.dims import numbers

BATCHES, RATE = 4, 1e-3


def model(twin: Twin) -> gnn.Model:
    """Our side, compiled for training."""
    x = gnn.Input(twin.shape)
    made = gnn.Model(x, twin.ours(x))
    return made.compile(optimizer=nn.Adam(RATE), loss=nn.CrossEntropy() if twin.classifies else nn.SquaredError())


def batches(twin: Twin, made: gnn.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random inputs, several; ids of classes, or what is to be made."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(BATCHES):
        x = rng.standard_normal((twin.batch, *twin.shape), np.float32)
        like = numbers(made.outputs[0].type.bind({"N": twin.batch}).shape)
        y = rng.integers(0, like[-1], twin.batch) if twin.classifies else rng.random(like, np.float32)
        found.append((x, y))
    return found


class Peer:
    """The other side, with our weights, in a memory format of PyTorch."""

    def __init__(self, twin: Twin, made: gnn.Model, memory_format: Any) -> None:
        import torch

        self.network = twin.theirs()
        copy_weights(made, self.network)
        self.channels_last = memory_format is torch.channels_last
        if self.channels_last:
            self.network = self.network.to(memory_format=memory_format)
        self.loss_of = torch.nn.CrossEntropyLoss() if twin.classifies else torch.nn.MSELoss()
        self.adam = torch.optim.Adam(self.network.parameters(), lr=RATE, fused=True)

    def tensor(self, array: np.ndarray) -> Any:
        """The same numbers with channels second, laid out as this peer likes it."""
        import torch

        if array.ndim < 3:
            return torch.from_numpy(array)
        moved = torch.from_numpy(array).movedim(-1, 1)
        return moved if self.channels_last else moved.contiguous()

    def step(self, x: Any, y: Any) -> None:
        self.network.train()
        self.adam.zero_grad(set_to_none=True)
        self.loss_of(self.network(x), y).backward()
        self.adam.step()

    def predict(self, x: Any) -> Any:
        import torch

        self.network.eval()
        with torch.inference_mode():
            return self.network(x)


def copy_weights(made: gnn.Model, network: Any) -> None:
    """Give PyTorch's layers the weights of ours, in order, in its own layouts."""
    import torch

    ours = iter(made.get_weights()[value.name] for value in made.parameters)
    with torch.no_grad():
        for layer in network.modules():
            for name, value in layer.named_parameters(recurse=False):
                weight = torch.from_numpy(next(ours))
                if isinstance(layer, torch.nn.ConvTranspose2d) and name == "weight":
                    weight = weight.movedim((2, 3), (0, 1))
                elif isinstance(layer, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)) and name == "weight":
                    weight = weight.movedim((-1, -2), (0, 1))
                value.copy_(weight)


def figures() -> Iterator[Figure]:
    for twin in TWINS:
        yield from figures_of(twin)


def figures_of(twin: Twin) -> Iterator[Figure]:
    import torch

    made = model(twin)
    formats = (torch.contiguous_format, torch.channels_last) if len(twin.shape) != 2 else (torch.contiguous_format,)
    peers = [Peer(twin, made, memory_format) for memory_format in formats]
    data = batches(twin, made)
    check_same(made, peers, data[0][0])
    step = made.training_step(*data[0])
    given = [[(peer.tensor(x), peer.tensor(y)) for x, y in data] for peer in peers]
    training: list[Callable[[], object]] = [taking(step, data)]
    training += [taking(peer.step, mine) for peer, mine in zip(peers, given, strict=True)]
    x = data[0][0]
    predicting: list[Callable[[], object]] = [lambda: made.predict(x)]
    predicting += [(lambda peer=peer, x=mine[0][0]: peer.predict(x)) for peer, mine in zip(peers, given, strict=True)]
    for what, calls in (("training step", training), ("prediction", predicting)):
        for count in sorted({1, gnn.threads()}):
            before = gnn.threads()
            gnn.set_threads(count)
            torch.set_num_threads(count)
            mine, *theirs = medians(*calls, seconds=2.0, slice_seconds=0.03)
            gnn.set_threads(before)
            times = f"{1e3 * mine:.2f} ms; " + ", ".join(f"{1e3 * seconds:.2f}" for seconds in theirs)
            yield at_least(f"{twin.name}, {what} of {twin.batch}, against PyTorch, {threads_text(count)}",
                           min(theirs) / mine, 1.0, times)


def taking(call: Callable[..., object], data: list[Any]) -> Callable[[], object]:
    """`call` on one batch after the other, so that nobody fits one by heart and computes with denormals."""
    given = itertools.cycle(data)
    return lambda: call(*next(given))


def check_same(made: gnn.Model, peers: list[Peer], x: np.ndarray) -> None:
    """Raise AssertionError unless all compute the same."""
    ours = made.predict(x)
    for peer in peers:
        theirs = peer.predict(peer.tensor(x)).numpy()
        theirs = np.moveaxis(theirs, 1, -1) if theirs.ndim > 2 else theirs
        if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(ours).max()):
            raise AssertionError(f"the networks differ by {np.abs(ours - theirs).max()}")
