"""Losses of generative models, called with more than a prediction and a target."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphnn import ir
from graphnn.autodiff.gradients import gradients
from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.graph import Value
from graphnn.nn.arguments import is_number
from graphnn.nn.described import DescriptionError
from graphnn.nn.losses.base import Loss, reduce_entries, reduce_terms
from graphnn.nn.losses.distributions import BinaryCrossEntropy
from graphnn.nn.losses.regression import SquaredError

DECODERS = ("bernoulli", "gaussian")


@dataclass(frozen=True)
class VAELoss(Loss):
    """Reconstruction + beta KL for each example: minus the evidence lower bound of a variational autoencoder (at beta = 1).

    It is called on (prediction, target, mean, log_var): the decoder's output and the data, (N, ...) both; mean and logarithm
    of the variance of the code, (N, latent) both. With KL = -1/2 sum(1 + log_var - mean^2 - exp(log_var)) over the code, and
    the reconstruction summed over the elements of an example:

    - `decoder="bernoulli"`: binary cross-entropy of the data in [0, 1], from logits, or `from_logits=False` from probabilities
      (numpy-ml's form);
    - `decoder="gaussian"`: -log N(y; p, variance) = ((y - p)^2 / variance + log(2 pi variance)) / 2; from_logits means nothing.

    The mean is over examples. (Kingma & Welling, 2014; beta: Higgins et al., 2017)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> p, y = gnn.Input((28, 28), name="p"), gnn.Input((28, 28), name="y")
    >>> mean, log_var = gnn.Input((5,), name="mean"), gnn.Input((5,), name="log_var")
    >>> nn.VAELoss(beta=4.0)(p, y, mean, log_var).type
    f32[]
    """

    from_logits: bool = True
    beta: float = 1.0
    decoder: str = "bernoulli"
    variance: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("beta", 0.0)
        self._require_number("variance", 0.0, open=True)
        self._require(self.decoder in DECODERS, f"decoder is {self.decoder!r}; it is one of {', '.join(DECODERS)}")

    def each(self, prediction: Value, target: Value, mean: Value, log_var: Value) -> Value:
        """(N,): reconstruction + beta KL."""
        return self.reconstruction(prediction, target) + self.beta * self.divergence(mean, log_var)

    def reconstruction(self, prediction: Value, target: Value) -> Value:
        """(N,): -log of the probability of the data given the code."""
        if self.decoder == "bernoulli":
            return _each_example(BinaryCrossEntropy(from_logits=self.from_logits).each(prediction, target))
        distance = SquaredError().each(prediction, target)
        return _each_example(0.5 / self.variance * distance + 0.5 * math.log(2.0 * math.pi * self.variance))

    def divergence(self, mean: Value, log_var: Value) -> Value:
        """(N,): the divergence of N(mean, exp(log_var)) from N(0, 1)."""
        if mean.type != log_var.type:
            raise ShapeError(f"VAELoss: mean {mean.type} and log_var {log_var.type} differ")
        return _each_example(0.5 * (ir.square(mean) + (ir.expm1(log_var) - log_var)))

    def terms(self, prediction: Value, target: Value, mean: Value, log_var: Value,
              sample_weight: Value | None = None) -> tuple[Value, Value]:
        return reduce_terms(self.each(prediction, target, mean, log_var), None, sample_weight)

    def __call__(self, prediction: Value, target: Value, mean: Value, log_var: Value,
                 sample_weight: Value | None = None) -> Value:
        return reduce_entries(self.reduction, self.each(prediction, target, mean, log_var), None, sample_weight)


@dataclass(frozen=True)
class WGAN_GPLoss:
    """The two losses of a Wasserstein GAN with gradient penalty: `critic` and `generator`.

    critic = mean(C(fake)) - mean(C(real)) + lambda mean((|dC/dx| - 1)^2), with the gradient by each example x of
    `interpolate(real, fake, alpha)`, alpha uniform in [0, 1); its length is over all axes of the example. generator =
    -mean(C(fake)). The penalty is differentiated like everything else, exactly for any activation of the critic. The critic
    must treat examples one by one: no batch normalisation. Scores are (N,) or (N, 1). With `reduction` "sum" the means are
    sums, with "none" the losses of each example, (N,). (Gulrajani et al., 2017)

    >>> import graphnn as gnn
    >>> from graphnn import nn
    >>> real, fake, alpha = (gnn.Input(shape, name=name) for name, shape in (("real", (2,)), ("fake", (2,)), ("alpha", (1,))))
    >>> critic, loss = nn.FullyConnected(1), nn.WGAN_GPLoss()
    >>> between = loss.interpolate(real, fake, alpha)
    >>> loss(critic(real), critic(fake), critic(between), between).type, loss.generator(critic(fake)).type
    (f32[], f32[])
    """

    lambda_: float = 10.0
    reduction: str = "mean"

    def __post_init__(self) -> None:
        if not is_number(self.lambda_) or self.lambda_ < 0:
            raise DescriptionError(f"WGAN_GPLoss: lambda_ is {self.lambda_!r}; it must be a number of at least 0")
        if self.reduction not in Loss.reductions:
            raise DescriptionError(f"WGAN_GPLoss: reduction is {self.reduction!r}; it is one of {', '.join(Loss.reductions)}")
        object.__setattr__(self, "lambda_", float(self.lambda_))

    def __call__(self, real: Value, fake: Value, scores: Value, interpolated: Value) -> Value:
        """The critic's loss."""
        return self.critic(real, fake, scores, interpolated)

    def critic(self, real: Value, fake: Value, scores: Value, interpolated: Value) -> Value:
        """From the critic's scores of real, of fake and of interpolated examples, and these examples themselves."""
        _check_scores(real=real, fake=fake)
        return self._reduced(fake) - self._reduced(real) + self.lambda_ * self.penalty(scores, interpolated)

    def generator(self, fake: Value) -> Value:
        """From the critic's scores of fake examples."""
        _check_scores(fake=fake)
        return -self._reduced(fake)

    def penalty(self, scores: Value, interpolated: Value) -> Value:
        """mean((|d score / d example| - 1)^2), without lambda."""
        _check_scores(scores=scores)
        if interpolated.rank < 2 or interpolated.shape[0] != scores.shape[0]:
            raise ShapeError(f"WGAN_GPLoss: scores are {scores.type}, the interpolated examples {interpolated.type}; "
                             "they must be (N,) or (N, 1), and (N, ...)")
        # A score depends on its own example alone, so the gradient of the sum has that of each score in its row.
        (slopes,) = gradients(ir.sum(scores), [interpolated])
        length = ir.norm(slopes, range(1, slopes.rank))
        return self._reduced(ir.square(length - 1.0))

    def _reduced(self, each: Value) -> Value:
        """(N,) or (N, 1) reduced."""
        return reduce_entries(self.reduction, ir.reshape(each, each.shape[:1]), None, None)

    @staticmethod
    def interpolate(real: Value, fake: Value, alpha: Value) -> Value:
        """alpha real + (1 - alpha) fake; alpha is (N,) or (N, 1, ...), uniform in [0, 1)."""
        if real.type != fake.type:
            raise ShapeError(f"WGAN_GPLoss: real {real.type} and fake {fake.type} examples differ")
        if alpha.dtype is not real.dtype:
            raise DTypeError(f"WGAN_GPLoss: alpha is {alpha.type}, the examples {real.type}")
        if alpha.rank < 1 or alpha.shape[0] != real.shape[0] or any(size != 1 for size in alpha.shape[1:]):
            raise ShapeError(f"WGAN_GPLoss: alpha is {alpha.type}; it must be one number for each example of {real.type}")
        alpha = ir.reshape(alpha, (real.shape[0], *(1 for _ in real.shape[1:])))
        return fake + alpha * (real - fake)


def _each_example(x: Value) -> Value:
    """x summed over all axes but the first."""
    if not x.rank:
        raise ShapeError(f"VAELoss takes (N, ...), not {x.type}")
    return ir.sum(x, range(1, x.rank))


def _check_scores(**scores: Value) -> None:
    for name, value in scores.items():
        if value.rank not in (1, 2) or (value.rank == 2 and value.shape[1] != 1):
            raise ShapeError(f"WGAN_GPLoss: {name} is {value.type}; a critic gives one score an example: (N,) or (N, 1)")
