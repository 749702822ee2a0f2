"""Sequences, attention and dense networks against PyTorch: whole training steps (forward, backward, Adam) and inference.

PyTorch runs eagerly, each network in its best form: nn.LSTM and its kin, scaled_dot_product_attention, a bag with sparse
gradients, the fused Adam.

    python -m bench sequences
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import graphnn as gnn
from bench.figures import Figure, at_least, medians
from graphnn import nn

if TYPE_CHECKING:
    import torch

CLASSES, VOCABULARY, BATCHES = 10, 50_000, 4


@dataclass(frozen=True)
class Case:
    """One network: `ours` makes its result of an input, `theirs` the peer's module; `shape` is that of a batch of inputs."""

    what: str
    shape: tuple[int, ...]
    ours: Callable[[gnn.Value], gnn.Value]
    theirs: Callable[[], torch.nn.Module]
    ids: int = 0                         # below which the inputs are whole numbers; 0: they are real
    classes: int = CLASSES
    training: bool = True
    inference: bool = True

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Several, so that nobody fits one by heart."""
        rng = np.random.default_rng(0)
        return [(rng.integers(0, self.ids, self.shape) if self.ids else rng.standard_normal(self.shape, np.float32),
                 rng.integers(0, self.classes, self.shape[0])) for _ in range(BATCHES)]

    def model(self) -> gnn.Model:
        x = gnn.Input(self.shape[1:], dtype="i64" if self.ids else "f32")
        made = gnn.Model(x, self.ours(x), name=self.what.partition(" ")[0].lower())
        return made.compile(optimizer=nn.Adam(1e-3, sparse=bool(self.ids)), loss=nn.CrossEntropy())


def our_calls(case: Case) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step, and inference."""
    model, batches = case.model(), case.batches()
    step, infer = model.training_step(*batches[0]), gnn.compile(model.graph, state=model.state)
    given = itertools.cycle(batches)
    return lambda: step(*next(given)), lambda: infer(next(given)[0])


def torch_calls(case: Case) -> tuple[Callable[[], object], Callable[[], object]]:
    """The peer's training step and inference."""
    import torch

    network, asked = case.theirs(), case.theirs().eval()
    loss_of = torch.nn.CrossEntropyLoss()
    tables = [m.weight for m in network.modules() if isinstance(m, torch.nn.EmbeddingBag)]
    others = [p for p in network.parameters() if not any(p is table for table in tables)]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.Adam(others, lr=1e-3, fused=True)]
    if tables:
        optimisers.append(torch.optim.SparseAdam(tables, lr=1e-3))
    given = itertools.cycle([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in case.batches()])

    def step() -> float:
        x, y = next(given)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss = loss_of(network(x), y)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        return loss.item()

    def infer() -> object:
        with torch.inference_mode():
            return asked(next(given)[0])

    return step, infer


def torch_modules() -> dict[str, Any]:
    """The peer's networks that are no module of its own."""
    import torch
    from torch import nn as theirs

    class Last(theirs.Module):
        """A recurrent network, its last result to a classifier."""

        def __init__(self, inside: theirs.Module, width: int) -> None:
            super().__init__()
            self.inside, self.head = inside, theirs.Linear(width, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.inside(x)[0][:, -1])

    class BothWays(Last):
        """The last result of each direction."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ends = self.inside(x)[1][0]
            return self.head(torch.cat([ends[0], ends[1]], 1))

    class Mean(theirs.Module):
        """The mean over time to a classifier."""

        def __init__(self, *inside: theirs.Module, width: int) -> None:
            super().__init__()
            self.inside, self.head = theirs.Sequential(*inside), theirs.Linear(width, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.inside(x).mean(1))

    class Causal(theirs.Module):
        """Multi-headed causal self-attention by scaled_dot_product_attention."""

        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.inside, self.output, self.heads = theirs.Linear(width, 3 * width), theirs.Linear(width, width), heads

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, t, c = x.shape
            q, k, v = self.inside(x).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            y = theirs.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.output(y.transpose(1, 2).reshape(n, t, c))

    return {"Last": Last, "BothWays": BothWays, "Mean": Mean, "Causal": Causal}


def recurrent_cases() -> Iterator[Case]:
    from torch import nn as theirs

    made, shape, width = torch_modules(), (32, 50, 64), 128
    head = lambda h: nn.FullyConnected(CLASSES)(h)  # noqa: E731
    pairs = ((nn.LSTM, theirs.LSTM), (nn.GRU, theirs.GRU), (nn.RNN, theirs.RNN))
    for our, their in pairs:
        yield Case(f"{our.__name__} 64-128, batch 32, T 50", shape,
                   lambda x, our=our: head(our(width, return_sequences=False)(x)),
                   lambda their=their: made["Last"](their(64, width, batch_first=True), width))
    yield Case("BidirectionalLSTM 64-128, batch 32, T 50", shape,
               lambda x: head(nn.BidirectionalLSTM(width, return_sequences=False)(x)),
               lambda: made["BothWays"](theirs.LSTM(64, width, batch_first=True, bidirectional=True), 2 * width))


def attention_cases() -> Iterator[Case]:
    from torch import nn as theirs

    made, width, heads = torch_modules(), 128, 4

    def encoder(x: gnn.Value, p: float) -> gnn.Value:
        for _ in range(2):
            x = nn.TransformerEncoderBlock(heads, 4 * width, dropout_p=p)(x)
        return nn.FullyConnected(CLASSES)(gnn.mean(x, 1))

    for p in (0.0, 0.1):
        yield Case(f"two TransformerEncoderBlocks d 128, 4 heads, dropout {p:g}, batch 16, T 128", (16, 128, width),
                   lambda x, p=p: encoder(x, p),
                   lambda p=p: made["Mean"](*(theirs.TransformerEncoderLayer(width, heads, 4 * width, p, batch_first=True)
                                              for _ in range(2)), width=width),
                   inference=p == 0.0)
    yield Case("causal MultiHeadedAttentionModule d 128, 4 heads, batch 4, T 512", (4, 512, width),
               lambda x: nn.FullyConnected(CLASSES)(gnn.mean(nn.MultiHeadedAttentionModule(heads, causal=True)(x), 1)),
               lambda: made["Mean"](made["Causal"](width, heads), width=width))


def dense_cases() -> Iterator[Case]:
    from torch import nn as theirs

    def mlp(x: gnn.Value) -> gnn.Value:
        for _ in range(2):
            x = nn.Dropout(0.2)(nn.LayerNorm1D()(nn.FullyConnected(512, activation="relu")(x)))
        return nn.FullyConnected(CLASSES)(x)

    def text(x: gnn.Value) -> gnn.Value:
        return nn.FullyConnected(CLASSES)(nn.FullyConnected(64, activation="relu")(nn.Embedding(VOCABULARY, 64, pool="mean")(x)))

    def block(inside: int) -> list[theirs.Module]:
        return [theirs.Linear(inside, 512), theirs.ReLU(), theirs.LayerNorm(512), theirs.Dropout(0.2)]

    yield Case("MLP 784-512-512-10 with layer norm and dropout 0.2, batch 128", (128, 784), mlp,
               lambda: theirs.Sequential(*block(784), *block(512), theirs.Linear(512, CLASSES)))
    yield Case(f"Embedding of {VOCABULARY:,} words, mean of 100, 64-64-10, batch 64, sparse", (64, 100), text,
               lambda: theirs.Sequential(theirs.EmbeddingBag(VOCABULARY, 64, mode="mean", sparse=True), theirs.Linear(64, 64),
                                         theirs.ReLU(), theirs.Linear(64, CLASSES)), ids=VOCABULARY)
    yield Case("classifier of 10,000 classes 256-10000, batch 64", (64, 256), lambda x: nn.FullyConnected(10_000)(x),
               lambda: theirs.Linear(256, 10_000), classes=10_000)


def figures() -> Iterator[Figure]:
    import torch

    before = gnn.threads()
    for case in (*recurrent_cases(), *attention_cases(), *dense_cases()):
        ours, theirs = our_calls(case), torch_calls(case)
        for what, asked, mine, peer in (("training step", case.training, ours[0], theirs[0]),
                                        ("inference", case.inference, ours[1], theirs[1])):
            for count in sorted({1, before}) if asked else ():
                gnn.set_threads(count)
                torch.set_num_threads(count)
                a, b = medians(mine, peer, seconds=2.0, slice_seconds=0.02)
                gnn.set_threads(before)
                yield at_least(f"{what} of {case.what}, against PyTorch, {count} thread{'s' if count > 1 else ''}", b / a, 1.0,
                               f"{1e3 * a:.2f} ms; {1e3 * b:.2f}")
