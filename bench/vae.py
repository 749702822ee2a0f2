"""BernoulliVAE against the same network in PyTorch: from the same weights, the same digits in the same order, noise of their own.

    python -m bench vae

The figure is the loss of unseen digits after each of the last epochs: it falls as PyTorch's does. And the time of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.figures import Figure, at_least, at_most, medians
from examples.vae import data
from graphnn.nn.data import epoch_order
from graphnn.zoo import BernoulliVAE

EPOCHS, LAST, BATCH, CODES, RATE = 10, 3, 64, 5, 1e-3


def network() -> BernoulliVAE:
    return BernoulliVAE(T=CODES, shape=(28, 28, 1), optimizer=f"adam(lr={RATE})", seed=0)


class Twin:
    """The same network in PyTorch, with the weights of ours."""

    def __init__(self, vae: BernoulliVAE) -> None:
        import torch

        weights = {name: torch.from_numpy(array) for name, array in vae.get_weights().items()}
        conv = torch.nn.Conv2d
        self.encoder = torch.nn.Sequential(
            conv(1, 32, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), conv(32, 64, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2, 1),
            torch.nn.Flatten(), torch.nn.Linear(7 * 7 * 64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 2 * CODES))
        self.decoder = torch.nn.Sequential(torch.nn.Linear(CODES, 256), torch.nn.ReLU(), torch.nn.Linear(256, 784))
        named = ((self.encoder[0], "encoder/Conv1"), (self.encoder[3], "encoder/Conv2"), (self.encoder[7], "encoder/FC4"),
                 (self.encoder[9], "encoder/FC5"), (self.decoder[0], "decoder/FC1"), (self.decoder[2], "decoder/FC2"))
        with torch.no_grad():
            for layer, name in named:
                weight: Any = weights[f"{name}/weight"]
                if weight.ndim == 4:
                    weight = weight.permute(3, 2, 0, 1)
                elif name == "encoder/FC4":              # its features are rows, columns, channels; PyTorch's channels first
                    weight = weight.reshape(7, 7, 64, 256).permute(3, 2, 0, 1).reshape(256, -1)
                else:
                    weight = weight.T
                layer.weight.copy_(weight)  # pyright: ignore[reportCallIssue]
                layer.bias.copy_(weights[f"{name}/bias"])  # pyright: ignore[reportCallIssue]
        self.adam = torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], lr=RATE, fused=True)
        torch.manual_seed(0)

    def loss(self, x: Any, *, noisy: bool) -> Any:
        import torch

        mean, log_var = self.encoder(x).chunk(2, 1)
        t = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean) if noisy else mean
        logits = self.decoder(t)
        reconstruction = torch.nn.functional.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
        return (reconstruction - 0.5 * torch.sum(1 + log_var - mean**2 - torch.exp(log_var))) / len(x)

    def step(self, x: Any) -> float:
        self.adam.zero_grad()
        loss = self.loss(x, noisy=True)
        loss.backward()
        self.adam.step()
        return float(loss.detach())

    def evaluate(self, x: Any) -> float:
        import torch

        with torch.no_grad():
            return float(self.loss(x, noisy=False))


def figures() -> Iterator[Figure]:
    import torch

    images, _, unseen, _ = data()
    vae = network()
    twin = Twin(vae)
    first = vae.evaluate(unseen)["loss"]
    theirs_images, theirs_unseen = (torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in (images, unseen))
    start = twin.evaluate(theirs_unseen)
    if abs(first / start - 1) > 1e-4:
        raise AssertionError(f"the two networks differ before training: {first} and {start}")
    theirs = []
    for epoch in range(EPOCHS):
        order = epoch_order(len(images), seed=vae.state.seed, epoch=epoch)
        for at in range(0, len(order), BATCH):
            twin.step(theirs_images[order[at : at + BATCH]])
        theirs.append(twin.evaluate(theirs_unseen))
    ours = vae.fit(images, epochs=EPOCHS, batch_size=BATCH, validation_data=unseen, verbose=False)["val_loss"]
    apart = max(abs(a / b - 1) for a, b in zip(ours[-LAST:], theirs[-LAST:], strict=True))
    course = f"{first:.1f} -> {ours[-1]:.2f}, PyTorch {theirs[-1]:.2f}"
    yield at_most(f"VAE: test loss after {EPOCHS} epochs, apart from PyTorch's", 100 * apart, 2.0, course, form="{:.2f} %")
    yield speed(vae, twin, images, theirs_images)


def speed(vae: BernoulliVAE, twin: Twin, images: np.ndarray, theirs: Any) -> Figure:
    one, other = medians(lambda: vae["step"](images[:BATCH]), lambda: twin.step(theirs[:BATCH]), seconds=5.0)
    return at_least(f"VAE: training step of {BATCH} images, against PyTorch", other / one, 1.0,
                    f"{1e3 * one:.1f} ms, PyTorch {1e3 * other:.1f} ms")
