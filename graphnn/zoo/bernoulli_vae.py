"""BernoulliVAE: a variational autoencoder of images in [0, 1], with a convolutional encoder and a dense decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

import graphnn as gnn
from graphnn import nn
from graphnn.errors import NumericsError, ShapeError
from graphnn.nn.arguments import Padding, Pair, as_count, as_flag, as_padding, as_pair, is_whole
from graphnn.nn.data import Gatherer, check_batch_size, epoch_order, minibatches
from graphnn.nn.initialisers import Init, as_initialiser
from graphnn.nn.optimisers import as_optimiser
from graphnn.zoo.network import PART, Network, as_examples, as_real

CHECKS: tuple[tuple[str, Callable[[Any, str], Any]], ...] = (
    ("T", as_count), ("hidden_features", as_count), ("out_channels", as_count), ("kernel_size", as_pair), ("stride", as_pair),
    ("padding", as_padding),
)


class Encoder(nn.Layer):
    """Images (N, H, W, C) -> (N, 2 T): the mean and the logarithm of the variance of each number of the code."""

    def __init__(self, net: BernoulliVAE) -> None:
        super().__init__(name="encoder")
        given: dict[str, Any] = {"activation": "relu", "init": net.init}
        self._layers = [
            nn.Conv2D(net.enc_conv1_out_channels, net.enc_conv1_kernel_size, net.enc_conv1_stride, net.enc_conv1_padding,
                      name="Conv1", **given),
            nn.Pool2D(net.enc_pool1_kernel_size, net.enc_pool1_stride, name="Pool1"),
            nn.Conv2D(net.enc_conv2_out_channels, net.enc_conv2_kernel_size, net.enc_conv2_stride, net.enc_conv2_padding,
                      name="Conv2", **given),
            nn.Pool2D(net.enc_pool2_kernel_size, net.enc_pool2_stride, name="Pool2"),
            nn.Flatten(name="Flatten3"),
            nn.FullyConnected(net.hidden_features, name="FC4", **given),
            nn.FullyConnected(2 * net.T, init=net.init, name="FC5"),
        ]

    def call(self, x: gnn.Value) -> gnn.Value:
        for layer in self._layers:
            x = layer(x)
        return x


class Decoder(nn.Layer):
    """Codes (N, T) -> logits of the pixels (N, H, W, C)."""

    def __init__(self, net: BernoulliVAE, shape: tuple[int, ...]) -> None:
        super().__init__(name="decoder")
        self._hidden = nn.FullyConnected(net.hidden_features, "relu", init=net.init, name="FC1")
        self._pixels = nn.FullyConnected(int(np.prod(shape)), init=net.init, name="FC2")
        self._shape = nn.Reshape(shape, name="Shape")

    def call(self, t: gnn.Value) -> gnn.Value:
        return self._shape(self._pixels(self._hidden(t)))


class Sampler(nn.Layer):
    """A code drawn from N(mean, exp(log_var)): mean + exp(log_var / 2) noise, with noise of its own at each training step."""

    def call(self, mean: gnn.Value, log_var: gnn.Value) -> gnn.Value:
        seed, step = self.randomness()
        noise = gnn.random_normal(seed, step, mean.shape, stream=self.stream(), dtype=mean.dtype)
        return self.advance(drawn(mean, log_var, noise))


def drawn(mean: gnn.Value, log_var: gnn.Value, noise: gnn.Value) -> gnn.Value:
    return mean + gnn.exp(0.5 * log_var) * noise


@dataclass(eq=False, repr=False)
class BernoulliVAE(Network):
    """A variational autoencoder of images x in [0, 1], (N, H, W, C) (Kingma & Welling, 2014).

        encoder   x -> Conv1, relu, Pool1, Conv2, relu, Pool2, FC4, relu, FC5 -> mean, log_var of the code, (N, T) each
        code      t = mean + exp(log_var / 2) noise,  noise ~ N(0, 1)
        decoder   t -> FC1, relu, FC2, sigmoid -> p (N, H, W, C)
        loss      mean over images of  -sum(x log p + (1 - x) log(1 - p)) + beta KL(N(mean, exp(log_var)) | N(0, 1))

    The poolings take the maximum. `T` is how many numbers a code has, `hidden_features` the width of FC4 and FC1 (numpy-ml's
    latent_dim); beta above 1 keeps codes simpler (Higgins et al., 2017). `shape` is that of an image; left out, that of the
    images first trained on. `dtype` "f64" computes in double precision.

    Other networks: a subclass with methods `make_encoder()` and `make_decoder(shape)` of its own, layers (N, H, W, C) -> (N, 2 T)
    and (N, T) -> (N, H, W, C); only `T`, `beta`, `optimizer`, `shape` and `dtype` matter then.

    >>> import numpy as np
    >>> from graphnn.zoo import BernoulliVAE
    >>> vae = BernoulliVAE(T=2, hidden_features=16, enc_conv1_out_channels=4, enc_conv2_out_channels=4, backend="numpy")
    >>> images = np.random.default_rng(0).random((20, 16, 16, 1))
    >>> history = vae.fit(images, epochs=2, verbose=False)
    >>> mean, log_var = vae.encode(images)
    >>> sorted(history.columns), mean.shape, vae.decode(mean).shape, vae.generate(3).shape
    (['divergence', 'loss', 'reconstruction'], (20, 2), (20, 16, 16, 1), (3, 16, 16, 1))
    """

    T: int = 5
    hidden_features: int = 256
    enc_conv1_padding: Padding = 0
    enc_conv2_padding: Padding = 0
    enc_conv1_out_channels: int = 32
    enc_conv2_out_channels: int = 64
    enc_conv1_stride: Pair = (1, 1)
    enc_pool1_stride: Pair = (2, 2)
    enc_conv2_stride: Pair = (1, 1)
    enc_pool2_stride: Pair = (1, 1)
    enc_conv1_kernel_size: Pair = (5, 5)
    enc_pool1_kernel_size: Pair = (2, 2)
    enc_conv2_kernel_size: Pair = (5, 5)
    enc_pool2_kernel_size: Pair = (2, 2)
    optimizer: Any = "rmsprop(lr=0.0001)"
    init: Init = "glorot_uniform"
    beta: float = 1.0
    shape: Sequence[int] | None = None
    dtype: str = "f32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            for end, check in CHECKS:
                if field.name == end or field.name.endswith(f"_{end}"):
                    setattr(self, field.name, check(getattr(self, field.name), f"BernoulliVAE: {field.name}"))
        as_initialiser(self.init)
        self.dtype = as_real(self.dtype, "BernoulliVAE: dtype")
        self._loss = nn.VAELoss(beta=self.beta)
        self.optimizer = as_optimiser(self.optimizer)
        if self.shape is not None:
            self._build(self.shape)

    # ------------------------------------------------------------------------------------------ graphs

    def make_encoder(self) -> nn.Layer:
        """The layer (N, H, W, C) -> (N, 2 T): means, then logarithms of variances. It must look at examples one by one."""
        return Encoder(self)

    def make_decoder(self, shape: Sequence[int]) -> nn.Layer:
        """The layer (N, T) -> (N, *shape): the logits of the pixels. It must look at examples one by one."""
        return Decoder(self, tuple(shape))

    def _build(self, shape: Sequence[int]) -> None:
        if not isinstance(shape, (tuple, list)) or len(shape) != 3 or any(not is_whole(size) or size < 1 for size in shape):
            raise ShapeError(f"BernoulliVAE: shape is {shape!r}; it is the shape of one image, such as (28, 28, 1)")
        shape = tuple(int(size) for size in shape)
        encoder, decoder, sampler = self.make_encoder(), self.make_decoder(shape), Sampler(name="sampler")
        x = gnn.Input(shape, name="x", dtype=self.dtype)
        codes = encoder(x)
        if codes.shape != (x.shape[0], 2 * self.T):
            raise ShapeError(f"BernoulliVAE: the encoder gives {codes.type}; mean and log_var of the codes are (N, {2 * self.T})")
        mean, log_var = gnn.split(codes, 2, -1)

        logits = decoder(sampler(mean, log_var))
        if logits.shape != x.shape:
            raise ShapeError(f"BernoulliVAE: the decoder gives {logits.type}; images are {x.type}")
        loss, parts = self._losses(logits, x, mean, log_var)
        params = [*encoder.parameters, *decoder.parameters]
        step = gnn.Graph.of("step", [x], [loss, *parts], updates=self.optimizer.updates(params, gnn.gradients(loss, params),
                                                                                        loss=loss))
        noise = gnn.Input((self.T,), name="noise", dtype=self.dtype)
        loss, parts = self._losses(decoder(drawn(mean, log_var, noise)), x, mean, log_var)
        t = gnn.Input((self.T,), name="t", dtype=self.dtype)
        self.add({"step": step, "evaluate": gnn.Graph.of("evaluate", [x, noise], [loss, *parts]),
                  "encode": gnn.Graph.of("encode", [x], [mean, log_var]),
                  "decode": gnn.Graph.of("decode", [t], [gnn.sigmoid(decoder(t))]),
                  "reconstruct": gnn.Graph.of("reconstruct", [x], [gnn.sigmoid(decoder(mean))])})
        self.shape = shape

    def _losses(self, logits: gnn.Value, x: gnn.Value, mean: gnn.Value, log_var: gnn.Value) -> tuple[gnn.Value, list[gnn.Value]]:
        """The loss, and its parts: reconstruction and divergence, without beta."""
        parts = [gnn.mean(self._loss.reconstruction(logits, x)), gnn.mean(self._loss.divergence(mean, log_var))]
        return parts[0] + self.beta * parts[1], parts

    # ------------------------------------------------------------------------------------------ training

    def fit(self, x: Any, *, epochs: int = 20, batch_size: int = 128, validation_data: Any = None, shuffle: bool = True,
            callbacks: Any = (), verbose: bool = True) -> nn.History:
        """Train on images x (N, H, W, C) for `epochs` more epochs of shuffled minibatches; the history of all so far.

        Its columns are "loss" and its parts "reconstruction" and "divergence" (without beta), the means over the images of an
        epoch; with `validation_data`, images too, the same of them with "val_" before, as by `evaluate`. Callbacks as in
        `Model.fit`.

        Raises ShapeError, DTypeError or NumericsError for images that do not fit or lie outside [0, 1]; nothing is changed then.
        """
        x = self._images(x, "fit: x")
        validation = None if validation_data is None else self._images(validation_data, "fit: validation_data", x.shape[1:])
        batch_size, shuffle = check_batch_size(batch_size), as_flag(shuffle, "fit: shuffle")
        if not self.graphs:
            self._build(x.shape[1:])

        def run(epoch: int, done: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
            order, gatherer, step = (epoch_order(len(x), seed=self.state.seed, epoch=epoch, shuffle=shuffle),
                                     Gatherer([x], batch_size), self["step"])
            for rows in minibatches(order[done * batch_size :], batch_size):
                yield len(rows), _named(step(*gatherer.rows(rows)))

        return self._fit(run, epochs=epochs, examples=len(x), callbacks=callbacks, verbose=verbose,
                         validate=None if validation is None else lambda: self._measured(validation, 0, 0))

    def evaluate(self, x: Any, *, draws: int = 0, seed: int = 0) -> dict[str, float]:
        """The mean loss of images, and its parts, the same at each call.

        By default a code is its mean, without noise. With `draws` the loss is estimated by so many codes drawn for each image:
        that is minus the evidence lower bound (at beta = 1).
        """
        return self._measured(self._images(x, "evaluate: x"), as_count(draws, "BernoulliVAE.evaluate: draws", 0), seed)

    def _measured(self, x: np.ndarray, draws: int, seed: int) -> dict[str, float]:
        exe = self["evaluate"]
        generator = self._generator(seed, "evaluate")
        sums = np.zeros(3)
        for start in range(0, len(x), PART):
            part = x[start : start + PART]
            for _ in range(max(draws, 1)):
                noise = generator.standard_normal((len(part), self.T)) if draws else np.zeros((len(part), self.T))
                sums += len(part) * np.array(exe(part, noise.astype(part.dtype)), np.float64)
        return {name: float(value) for name, value in _named(sums / (len(x) * max(draws, 1))).items()}

    # ------------------------------------------------------------------------------------------ use

    def encode(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """The codes of images: their mean and the logarithm of their variance, (N, T) each."""
        mean, log_var = self._in_parts("encode", self._images(x, "encode: x"))
        return mean, log_var

    def decode(self, t: Any) -> np.ndarray:
        """The images of codes t (N, T): for each pixel the probability that it is 1."""
        return self._in_parts("decode", as_examples(t, (self.T,), "BernoulliVAE.decode: t", self.dtype))[0]

    def reconstruct(self, x: Any) -> np.ndarray:
        """The images of the mean codes of images: decode(encode(x)[0])."""
        return self._in_parts("reconstruct", self._images(x, "reconstruct: x"))[0]

    def generate(self, n: int, seed: int = 0) -> np.ndarray:
        """n new images, of codes drawn from N(0, 1). Another seed gives others, the same seed the same."""
        shape = as_count(n, "BernoulliVAE.generate: n"), self.T
        return self.decode(self._generator(seed, "generate").standard_normal(shape))

    def _generator(self, seed: int, what: str) -> np.random.Generator:
        key = [self.state.seed, as_count(seed, f"BernoulliVAE.{what}: seed", 0)]
        return np.random.Generator(np.random.Philox(key=key))

    def _images(self, x: Any, what: str, shape: Sequence[int] | None = None) -> np.ndarray:
        """x as images of the network's dtype and size, each pixel in [0, 1]."""
        what = f"BernoulliVAE.{what}"
        x = as_examples(x, self.shape or shape or (None, None, None), what, self.dtype)
        if x.min() < 0 or x.max() > 1:
            place = np.argwhere((x < 0) | (x > 1))[0].tolist()
            raise NumericsError(f"{what} has {x[tuple(place)]:g} at {place}; pixels lie in [0, 1]",
                                hint="divide by the largest value there can be, 255 for bytes")
        return x


def _named(values: Any) -> dict[str, Any]:
    return dict(zip(("loss", "reconstruction", "divergence"), values, strict=True))
