"""WGAN_GP: a generative adversarial network by Wasserstein distance, its critic held smooth by a penalty on its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import graphnn as gnn
from graphnn import nn
from graphnn.errors import ShapeError, VerifyError
from graphnn.ir.dims import numbers
from graphnn.nn.activations import Activation, as_activation
from graphnn.nn.arguments import as_count, is_whole
from graphnn.nn.data import Gatherer, check_batch_size, epoch_order
from graphnn.nn.initialisers import Init, as_initialiser
from graphnn.nn.layer import snake_case
from graphnn.nn.optimisers import Optimizer, as_optimiser
from graphnn.zoo.network import Network, as_examples, as_real

FORMS = ("dense", "convolutional")


@dataclass(eq=False)
class Dense(nn.Layer):
    """Three hidden layers FC1 to FC3 and a linear FC4: (N, ...) -> (N, *shape)."""

    shape: Sequence[int]
    hidden_features: int = 512
    activation: Activation = "relu"
    init: Init = "he_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._hidden = [nn.FullyConnected(self.hidden_features, self.activation, init=self.init, name=f"FC{i + 1}")
                        for i in range(3)]
        self._last = nn.FullyConnected(int(np.prod(self.shape)), init=self.init, name="FC4")

    def call(self, x: gnn.Value) -> gnn.Value:
        h = nn.Flatten()(x)
        for layer in self._hidden:
            h = layer(h)
        return gnn.reshape(self._last(h), (x.shape[0], *self.shape))


@dataclass(eq=False)
class Drawer(nn.Layer):
    """Images (N, H, W, C) of codes (N, K): a dense layer makes quarters of them in height and width, which are doubled twice."""

    shape: Sequence[int]
    hidden_features: int = 512
    activation: Activation = "relu"
    init: Init = "he_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width, channels = self.shape
        many, few = _channels(self.hidden_features)
        small = -(-height // 4), -(-width // 4), many
        self._first = nn.FullyConnected(int(np.prod(small)), self.activation, init=self.init, name="FC1")
        self._small = nn.Reshape(small)
        self._double = nn.Deconv2D(few, 4, stride=2, padding="same", activation=self.activation, init=self.init, name="Deconv2")
        self._again = nn.Deconv2D(channels, 4, stride=2, padding="same", init=self.init, name="Deconv3")

    def call(self, x: gnn.Value) -> gnn.Value:
        image = self._again(self._double(self._small(self._first(x))))
        return image[:, :self.shape[0], :self.shape[1]]


@dataclass(eq=False)
class Judge(nn.Layer):
    """A score (N, 1) of images (N, H, W, C): two convolutions, each of which halves height and width, and two dense layers."""

    hidden_features: int = 512
    activation: Activation = "relu"
    init: Init = "he_uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        many, few = _channels(self.hidden_features)
        given: dict[str, Any] = {"activation": self.activation, "init": self.init}
        self._layers = [nn.Conv2D(few, 4, stride=2, padding="same", name="Conv1", **given),
                        nn.Conv2D(many, 4, stride=2, padding="same", name="Conv2", **given), nn.Flatten(),
                        nn.FullyConnected(self.hidden_features, name="FC3", **given),
                        nn.FullyConnected(1, init=self.init, name="FC4")]

    def call(self, x: gnn.Value) -> gnn.Value:
        for layer in self._layers:
            x = layer(x)
        return x


class Noise(nn.Layer):
    """Normal numbers (N, *shape) for a batch of N, others at each step; and uniform ones in [0, 1)."""

    def normal(self, like: gnn.Value, shape: Sequence[int]) -> gnn.Value:
        return self.within(lambda like: self._drawn(gnn.random_normal, like, shape), like)

    def uniform(self, like: gnn.Value, shape: Sequence[int]) -> gnn.Value:
        return self.within(lambda like: self._drawn(gnn.random_uniform, like, shape), like)

    def _drawn(self, draw: Any, like: gnn.Value, shape: Sequence[int]) -> gnn.Value:
        seed, step = self.randomness()
        return draw(seed, step, (like.shape[0], *shape), stream=self.stream(), dtype=like.dtype)


@dataclass(eq=False, repr=False)
class WGAN_GP(Network):
    """A generator G of examples like those it is shown, trained against a critic C (Gulrajani et al., 2017).

        critic     mean C(G(z)) - mean C(x) + lambda_ mean((|dC/dx'| - 1)^2),   x' between x and G(z), z ~ N(0, 1)
        generator  -mean C(G(z))

    The penalty is differentiated exactly, for smooth activations too. Each of the two steps is one compiled call, which draws
    noise of its own; the generator's goes through the critic and leaves it as it is. `form` is

    - "dense": both are three layers of `hidden_features` and a linear one, for examples of any shape;
    - "convolutional", for images (H, W, C): the generator doubles a small image twice, the critic halves it twice, with
      hidden_features / 8 and / 16 channels.

    Other networks: a subclass with methods `make_generator(shape)` and `make_critic()` of its own, layers (N, latent_dim) -> (N,
    *shape) and (N, *shape) -> (N, 1). `output_activation` (tanh, sigmoid) bounds what the generator makes. `latent_dim` is 0
    for as many numbers of noise as an example has. `shape` is that of an example; left out, that of the data first trained
    on. `optimizer` is for both unless `critic_optimizer` is given; each has states of its own: critic_optimizer/...,
    generator_optimizer/.... The critic does `critic_steps` steps (numpy-ml's c_updates_per_epoch) for each of the generator's,
    which count in its learning rate's schedule. `dtype` "f64" computes in double precision.

    >>> import numpy as np
    >>> from graphnn.zoo import WGAN_GP
    >>> gan = WGAN_GP(hidden_features=16, latent_dim=4, backend="numpy")
    >>> history = gan.fit(np.random.default_rng(0).normal(size=(64, 2)), epochs=2, batch_size=16, verbose=False)
    >>> sorted(history.columns), gan.sample(3).shape
    (['distance', 'generator_loss', 'loss', 'penalty'], (3, 2))
    """

    hidden_features: int = 512
    form: str = "dense"
    latent_dim: int = 0
    lambda_: float = 10.0
    critic_steps: int = 5
    activation: Activation = "relu"
    output_activation: Activation = None
    init: Init = "he_uniform"
    optimizer: Any = "adam(lr=0.0001, beta1=0.0, beta2=0.9)"
    shape: Sequence[int] | None = None
    critic_optimizer: Any = None
    dtype: str = "f32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise ShapeError(f"WGAN_GP: form is {self.form!r}; it is one of {', '.join(FORMS)}")
        for name, least in (("hidden_features", 1), ("latent_dim", 0), ("critic_steps", 1)):
            setattr(self, name, as_count(getattr(self, name), f"WGAN_GP: {name}", least))
        for activation in (self.activation, self.output_activation):
            as_activation(activation)
        as_initialiser(self.init)
        self._loss = nn.WGAN_GPLoss(self.lambda_)
        self.dtype = as_real(self.dtype, "WGAN_GP: dtype")
        self.optimizer = as_optimiser(self.optimizer)
        if self.critic_optimizer is not None:
            self.critic_optimizer = as_optimiser(self.critic_optimizer)
        if self.shape is not None:
            self._build(_as_shape(self.shape, self.form))

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The critic's and the generator's."""
        return (replace(self.critic_optimizer or self.optimizer, name="critic_optimizer"),
                replace(self.optimizer, name="generator_optimizer"))

    # ------------------------------------------------------------------------------------------ graphs

    def make_generator(self, shape: Sequence[int]) -> nn.Layer:
        """The layer (N, latent_dim) -> (N, *shape), before `output_activation`. Weights have its name before theirs."""
        make = Dense if self.form == "dense" else Drawer
        return make(shape, self.hidden_features, self.activation, self.init, name="generator")

    def make_critic(self) -> nn.Layer:
        """The layer (N, *shape) -> (N, 1). It must look at examples one by one: no BatchNorm (LayerNorm will do)."""
        if self.form == "dense":
            return Dense((1,), self.hidden_features, self.activation, self.init, name="critic")
        return Judge(self.hidden_features, self.activation, self.init, name="critic")

    def _build(self, shape: tuple[int, ...]) -> None:
        codes = (self.latent_dim or int(np.prod(shape)),)
        generator, critic = self.make_generator(shape), self.make_critic()
        names = {layer.name or snake_case(type(layer).__name__) for layer in (generator, critic)}
        if len(names) == 1:
            raise VerifyError(f"WGAN_GP: generator and critic are both named {names.pop()!r}",
                              hint='give the layers names of their own: name="critic"')
        of_critic, of_generator = self.optimizers
        bounded = as_activation(self.output_activation)

        real = gnn.Input(shape, name="real", dtype=self.dtype)
        noise = Noise(name="critic_noise")
        fake = bounded(generator(noise.normal(real, codes)))
        between = self._loss.interpolate(real, fake, noise.uniform(real, (1,)))
        of_real, of_fake, of_between = critic(real), critic(fake), critic(between)
        distance = gnn.mean(of_real) - gnn.mean(of_fake)
        penalty = self._loss.penalty(of_between, between)
        loss = self._loss.critic(of_real, of_fake, of_between, between)
        critic_step = gnn.Graph.of("critic_step", [real], [loss, distance, penalty],
                                   updates=self._updates(of_critic, critic, loss, noise))

        # The batch tells only how many examples to make: it has no numbers.
        batch = gnn.Input((0,), name="batch", dtype=self.dtype)
        noise = Noise(name="generator_noise")
        loss = self._loss.generator(critic(bounded(generator(noise.normal(batch, codes)))))
        generator_step = gnn.Graph.of("generator_step", [batch], [loss],
                                      updates=self._updates(of_generator, generator, loss, noise))

        z, x = gnn.Input(codes, name="z", dtype=self.dtype), gnn.Input(shape, name="x", dtype=self.dtype)
        self.add({"critic_step": critic_step, "generator_step": generator_step,
                  "generate": gnn.Graph.of("generate", [z], [bounded(generator(z))]),
                  "score": gnn.Graph.of("score", [x], [gnn.squeeze(critic(x), -1)])})
        self.shape = shape

    def _updates(self, optimizer: Optimizer, layer: nn.Layer, loss: gnn.Value, noise: Noise) -> list[tuple[gnn.Value, gnn.Value]]:
        """What a step changes: the parameters of one of the two, its optimiser's states, and the count of draws."""
        _, step = noise.randomness()
        return [*optimizer.updates(layer.parameters, gnn.gradients(loss, layer.parameters), loss=loss), (step, step + 1)]

    # ------------------------------------------------------------------------------------------ training

    def fit(self, x: Any, *, epochs: int = 1, batch_size: int = 64, steps_per_epoch: int | None = None, callbacks: Any = (),
            verbose: bool = True) -> nn.History:
        """Train on the examples x (N, ...) for `epochs` more epochs of `steps_per_epoch` generator steps, each after
        `critic_steps` of the critic; the history of all epochs so far.

        By default an epoch shows each example to the critic about once. Batches come from one shuffled stream, which goes on
        from step to step and from fit to fit: passes over all examples, each in an order of its own, without the rest that
        makes no whole batch. "loss" is the critic's, "distance" mean C(x) - mean C(G(z)), its estimate of how far apart the two
        distributions are, "penalty" without lambda_; then "generator_loss". Callbacks as in `Model.fit`.

        Raises ShapeError, DTypeError or NumericsError for examples that do not fit; nothing is changed then.
        """
        x = as_examples(x, self.shape, "WGAN_GP.fit: x", self.dtype)
        batch = min(check_batch_size(batch_size), len(x))
        if steps_per_epoch is None:
            steps_per_epoch = max(1, len(x) // (batch * self.critic_steps))
        steps = as_count(steps_per_epoch, "WGAN_GP.fit: steps_per_epoch")
        if not self.graphs:
            self._build(_as_shape(x.shape[1:], self.form))

        def run(epoch: int, done: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
            stream = self._stream(x, batch)
            critic_step, generator_step = self["critic_step"], self["generator_step"]
            nothing = np.empty((batch, 0), x.dtype)
            for _ in range(done, steps):
                each = np.array([critic_step(next(stream)) for _ in range(self.critic_steps)], np.float64).mean(0)
                yield batch * self.critic_steps, {"loss": each[0], "distance": each[1], "penalty": each[2],
                                                  "generator_loss": generator_step(nothing)}

        return self._fit(run, epochs=epochs, examples=steps * batch * self.critic_steps, callbacks=callbacks, verbose=verbose)

    def _stream(self, x: np.ndarray, batch: int) -> Iterator[np.ndarray]:
        """Batches from where training is: as many as the critic's steps so far are gone."""
        gatherer, each = Gatherer([x], batch), len(x) // batch
        number = int(self.state["critic_noise/step"])
        while True:
            order = epoch_order(len(x), seed=self.state.seed, epoch=number // each)
            for place in range(number % each, each):
                yield gatherer.rows(order[place * batch : (place + 1) * batch])[0]
            number += each - number % each

    # ------------------------------------------------------------------------------------------ use

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """n new examples, (n, *shape). Another seed gives others, the same seed the same while nothing is trained."""
        n = as_count(n, "WGAN_GP.sample: n")
        generator = np.random.Generator(np.random.Philox(key=[self.state.seed, as_count(seed, "WGAN_GP.sample: seed", 0)]))
        (z,) = self._graph("generate").by_role("input")
        return self.generate(generator.standard_normal((n, numbers(z.shape[1:])[0])))

    def generate(self, z: Any) -> np.ndarray:
        """The examples of codes z (n, latent_dim)."""
        return self._in_parts("generate", z)[0]

    def score(self, x: Any) -> np.ndarray:
        """The critic's scores (n,) of examples: the higher, the more like those it was shown. Only differences mean something."""
        return self._in_parts("score", x)[0]


def _as_shape(shape: Any, form: str) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)) or not shape or any(not is_whole(size) or size < 1 for size in shape):
        raise ShapeError(f"WGAN_GP: shape is {shape!r}; it is the shape of one example, such as (2,) or (28, 28, 1)")
    if form == "convolutional" and len(shape) != 3:
        hint = "add an axis of channels: x[..., None]" if len(shape) == 2 else None
        raise ShapeError(f"WGAN_GP: examples of the convolutional form are images (H, W, C), not {tuple(shape)}", hint=hint)
    return tuple(int(size) for size in shape)


def _channels(hidden_features: int) -> tuple[int, int]:
    return max(1, hidden_features // 8), max(1, hidden_features // 16)
