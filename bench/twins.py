"""Small networks written twice, in graphnn and in PyTorch, with layers that have weights in the same order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphnn import nn
from graphnn.ir import relu
from graphnn.ir.graph import Value


@dataclass(frozen=True)
class Twin:
    """A network on both sides: a function of its input, and a maker of a torch.nn.Module. `shape` is that of an example."""

    name: str
    shape: tuple[int, ...]
    batch: int
    ours: Callable[[Value], Value]
    theirs: Callable[[], Any]
    classifies: bool = True


def sequential(*layers: Callable[[Value], Value]) -> Callable[[Value], Value]:
    def call(x: Value) -> Value:
        for layer in layers:
            x = layer(x)
        return x

    return call


def rows_first() -> Any:
    """PyTorch's channels moved last and flattened, as our features are: no copy where they are last in memory."""
    import torch

    class RowsFirst(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.movedim(1, -1).flatten(1)

    return RowsFirst()


def image_of(h: int, w: int) -> Any:
    """The inverse of `rows_first`."""
    import torch

    class ImageOf(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.unflatten(1, (h, w, -1)).movedim(-1, 1)

    return ImageOf()


# ------------------------------------------------------------------------------------------------ the networks


def lenet(x: Value) -> Value:
    return sequential(
        nn.Conv2D(32, 5, padding=2, activation="relu"), nn.Pool2D(2),
        nn.Conv2D(64, 5, padding=2, activation="relu"), nn.Pool2D(2),
        nn.Flatten(), nn.Dropout(0.25), nn.FullyConnected(256, activation="relu"), nn.Dropout(0.5), nn.FullyConnected(10))(x)


def torch_lenet() -> Any:
    from torch.nn import Conv2d, Dropout, Linear, MaxPool2d, ReLU, Sequential

    return Sequential(
        Conv2d(1, 32, 5, padding=2), ReLU(), MaxPool2d(2), Conv2d(32, 64, 5, padding=2), ReLU(), MaxPool2d(2),
        rows_first(), Dropout(0.25), Linear(7 * 7 * 64, 256), ReLU(), Dropout(0.5), Linear(256, 10))


RESIDUAL = ((32, 1), (64, 2), (128, 2))             # channels and stride of each block


def resnet(x: Value) -> Value:
    h = relu(nn.BatchNorm2D()(nn.Conv2D(32, 3, padding=1, bias=False)(x)))
    channels = 32
    for out, stride in RESIDUAL:
        y = relu(nn.BatchNorm2D()(nn.Conv2D(out, 3, stride=stride, padding=1, bias=False)(h)))
        y = nn.BatchNorm2D()(nn.Conv2D(out, 3, padding=1, bias=False)(y))
        if (stride, channels) != (1, out):
            h = nn.BatchNorm2D()(nn.Conv2D(out, 1, stride=stride, bias=False)(h))
        h, channels = relu(y + h), out
    return nn.FullyConnected(10)(nn.GlobalPool()(h))


def torch_resnet() -> Any:
    import torch
    from torch.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential

    class Block(torch.nn.Module):
        def __init__(self, channels: int, out: int, stride: int) -> None:
            super().__init__()
            self.main = Sequential(
                Conv2d(channels, out, 3, stride, 1, bias=False), BatchNorm2d(out), ReLU(inplace=True),
                Conv2d(out, out, 3, 1, 1, bias=False), BatchNorm2d(out))
            skips = (stride, channels) == (1, out)
            self.side = Sequential() if skips else Sequential(Conv2d(channels, out, 1, stride, bias=False), BatchNorm2d(out))

        def forward(self, x: Any) -> Any:
            return torch.relu_(self.main(x) + self.side(x))

    blocks, channels = [], 32
    for out, stride in RESIDUAL:
        blocks.append(Block(channels, out, stride))
        channels = out
    return Sequential(
        Conv2d(3, 32, 3, padding=1, bias=False), BatchNorm2d(32), ReLU(inplace=True), *blocks,
        AdaptiveAvgPool2d(1), Flatten(), Linear(128, 10))


SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2))


def separable(x: Value) -> Value:
    h = relu(nn.BatchNorm2D()(nn.Conv2D(32, 3, stride=2, padding=1, bias=False)(x)))
    channels = 32
    for out, stride in SEPARABLE:
        h = relu(nn.BatchNorm2D()(nn.Conv2D(channels, 3, stride=stride, padding=1, groups=channels, bias=False)(h)))
        h = relu(nn.BatchNorm2D()(nn.Conv2D(out, 1, bias=False)(h)))
        channels = out
    return nn.FullyConnected(10)(nn.GlobalPool()(h))


def torch_separable() -> Any:
    from torch.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential

    layers, channels = [Conv2d(3, 32, 3, 2, 1, bias=False), BatchNorm2d(32), ReLU(inplace=True)], 32
    for out, stride in SEPARABLE:
        layers += [Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), BatchNorm2d(channels)]
        layers += [ReLU(inplace=True)]
        layers += [Conv2d(channels, out, 1, bias=False), BatchNorm2d(out), ReLU(inplace=True)]
        channels = out
    return Sequential(*layers, AdaptiveAvgPool2d(1), Flatten(), Linear(channels, 10))


def generator(x: Value) -> Value:
    return sequential(
        nn.FullyConnected(4 * 4 * 256), nn.Reshape((4, 4, 256)), nn.BatchNorm2D(), relu,
        nn.Deconv2D(128, 4, stride=2, padding=1), nn.BatchNorm2D(), relu,
        nn.Deconv2D(64, 4, stride=2, padding=1), nn.BatchNorm2D(), relu,
        nn.Deconv2D(3, 4, stride=2, padding=1, activation="tanh"))(x)


def torch_generator() -> Any:
    from torch.nn import BatchNorm2d, ConvTranspose2d, Linear, ReLU, Sequential, Tanh

    return Sequential(
        Linear(100, 4 * 4 * 256), image_of(4, 4), BatchNorm2d(256), ReLU(inplace=True),
        ConvTranspose2d(256, 128, 4, 2, 1), BatchNorm2d(128), ReLU(inplace=True),
        ConvTranspose2d(128, 64, 4, 2, 1), BatchNorm2d(64), ReLU(inplace=True),
        ConvTranspose2d(64, 3, 4, 2, 1), Tanh())


def discriminator(x: Value) -> Value:
    leaky = nn.LeakyReLU(alpha=0.2)
    return sequential(
        nn.Conv2D(64, 4, stride=2, padding=1), leaky, nn.Conv2D(128, 4, stride=2, padding=1, bias=False), nn.BatchNorm2D(), leaky,
        nn.Conv2D(256, 4, stride=2, padding=1, bias=False), nn.BatchNorm2D(), leaky, nn.Flatten(), nn.FullyConnected(2))(x)


def torch_discriminator() -> Any:
    from torch.nn import BatchNorm2d, Conv2d, LeakyReLU, Linear, Sequential

    return Sequential(
        Conv2d(3, 64, 4, 2, 1), LeakyReLU(0.2, inplace=True), Conv2d(64, 128, 4, 2, 1, bias=False), BatchNorm2d(128),
        LeakyReLU(0.2, inplace=True), Conv2d(128, 256, 4, 2, 1, bias=False), BatchNorm2d(256), LeakyReLU(0.2, inplace=True),
        rows_first(), Linear(4 * 4 * 256, 2))


def normed(x: Value) -> Value:
    return sequential(
        nn.Conv2D(32, 3, padding=1), nn.GroupNorm(8), relu, nn.Pool2D(2, mode="average"),
        nn.Conv2D(64, 3, padding=1), nn.LayerNorm2D(), relu, nn.Pool2D(2, mode="average"),
        nn.Conv2D(128, 3, padding=1, groups=4), nn.GroupNorm(8), relu, nn.GlobalPool(), nn.FullyConnected(10))(x)


def torch_normed() -> Any:
    import torch
    from torch.nn import AdaptiveAvgPool2d, AvgPool2d, Conv2d, Flatten, GroupNorm, Linear, ReLU, Sequential

    class LayerNormImage(torch.nn.LayerNorm):
        """With weights of rows, columns, channels, as ours; no copies where channels are last in memory."""

        def forward(self, input: Any) -> Any:
            return super().forward(input.movedim(1, -1)).movedim(-1, 1)

    return Sequential(
        Conv2d(3, 32, 3, padding=1), GroupNorm(8, 32), ReLU(inplace=True), AvgPool2d(2),
        Conv2d(32, 64, 3, padding=1), LayerNormImage([16, 16, 64]), ReLU(inplace=True), AvgPool2d(2),
        Conv2d(64, 128, 3, padding=1, groups=4), GroupNorm(8, 128), ReLU(inplace=True),
        AdaptiveAvgPool2d(1), Flatten(), Linear(128, 10))


def decoder(x: Value) -> Value:
    return sequential(
        nn.FullyConnected(7 * 7 * 64, activation="relu"), nn.Reshape((7, 7, 64)),
        nn.UpSampling2D(2), nn.Conv2D(32, 3, padding=1, activation="relu"),
        nn.UpSampling2D(2), nn.Conv2D(16, 3, padding=1, activation="relu"), nn.Conv2D(1, 3, padding=1, activation="sigmoid"))(x)


def torch_decoder() -> Any:
    from torch.nn import Conv2d, Linear, ReLU, Sequential, Sigmoid, Upsample

    return Sequential(
        Linear(32, 7 * 7 * 64), ReLU(), image_of(7, 7), Upsample(scale_factor=2), Conv2d(64, 32, 3, padding=1), ReLU(),
        Upsample(scale_factor=2), Conv2d(32, 16, 3, padding=1), ReLU(), Conv2d(16, 1, 3, padding=1), Sigmoid())


DILATIONS = (1, 2, 4, 8, 16, 32)


def wavenet(x: Value) -> Value:
    h, skip = nn.Conv1D(32, 1)(x), None
    for dilation in DILATIONS:
        h, skip = nn.WavenetResidualModule(32, 32, dilation, skip_channels=64)(h, skip)
    assert skip is not None
    return nn.Conv1D(1, 1)(relu(skip))


def torch_wavenet() -> Any:
    import torch
    from torch.nn import Conv1d

    class Block(torch.nn.Module):
        """With the residual's weights of the block before, as the last block's residual leads nowhere."""

        def __init__(self, dilation: int) -> None:
            super().__init__()
            self.dilation = dilation
            self.residual = None if dilation == DILATIONS[0] else Conv1d(32, 32, 1)
            self.filter, self.gate = Conv1d(32, 32, 2, dilation=dilation), Conv1d(32, 32, 2, dilation=dilation)
            self.skip = Conv1d(32, 64, 1)

        def forward(self, x: Any, gated: Any) -> Any:
            h = x if self.residual is None else x + self.residual(gated)
            padded = torch.nn.functional.pad(h, (self.dilation, 0))
            gated = torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded))
            return h, gated, self.skip(gated)

    class Wavenet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Conv1d(1, 32, 1)
            self.blocks = torch.nn.ModuleList(Block(dilation) for dilation in DILATIONS)
            self.last = Conv1d(64, 1, 1)

        def forward(self, x: Any) -> Any:
            h, gated, total = self.first(x), None, torch.zeros(())
            for block in self.blocks:
                h, gated, skip = block(h, gated)
                total = total + skip
            return self.last(torch.relu(total))

    return Wavenet()


TWINS = (
    Twin("LeNet 28x28", (28, 28, 1), 64, lenet, torch_lenet),
    Twin("ResNet 32x32", (32, 32, 3), 32, resnet, torch_resnet),
    Twin("depthwise separable 32x32", (32, 32, 3), 32, separable, torch_separable),
    Twin("DCGAN generator 32x32", (100,), 32, generator, torch_generator, classifies=False),
    Twin("DCGAN discriminator 32x32", (32, 32, 3), 32, discriminator, torch_discriminator),
    Twin("GroupNorm, LayerNorm2D, groups 32x32", (32, 32, 3), 32, normed, torch_normed),
    Twin("UpSampling2D decoder 28x28", (32,), 64, decoder, torch_decoder, classifies=False),
    Twin("WaveNet of 2,048 steps", (2048, 1), 4, wavenet, torch_wavenet, classifies=False),
)
