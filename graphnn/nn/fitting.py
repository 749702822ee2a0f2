"""The loop of training: epochs of batches, what they add up to, and who is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnn.errors import VerifyError
from graphnn.nn.callbacks import Callbacks
from graphnn.nn.objective import Kind
from graphnn.nn.progress import Progress
from graphnn.nn.sources import Source
from graphnn.nn.training import Training

if TYPE_CHECKING:
    from graphnn.nn.model import Model


def fit(model: Model, training: Training, source: Source, *, epochs: int, validation: Source | None, callbacks: Callbacks,
        verbose: bool) -> None:
    """Train for `epochs` more epochs. Whatever ends it, the model is as after its last whole step."""
    model.stop_training = False
    callbacks.call("on_train_begin", model)
    with Progress(epochs, source.examples, first_epoch=model.epoch, verbose=verbose) as progress:
        for epoch in range(model.epoch, model.epoch + epochs):
            if model.stop_training:
                break
            callbacks.call("on_epoch_begin", model, epoch + 1)
            progress.start_epoch(epoch)
            numbers, count = run_epoch(model, training, source, epoch, callbacks, progress)
            if validation is not None:
                numbers |= {f"val_{name}": value for name, value in measure(model, training, validation, epoch).items()}
            model.epoch = epoch + 1
            model.history.append(numbers)
            progress.end_epoch(numbers, count)
            callbacks.call("on_epoch_end", model, epoch + 1, numbers)
    callbacks.call("on_train_end", model)


def run_epoch(model: Model, training: Training, source: Source, epoch: int, callbacks: Callbacks,
              progress: Progress) -> tuple[dict[str, float], int]:
    """One epoch; its numbers, and how many examples it had."""
    totals = training.objective.totals()
    kind: Kind | None = None
    frozen = step = None
    waiting = training.waiting(model.state)
    for number, batch in enumerate(source.batches(epoch), 1):
        if model._training is not training:              # the state of this training is gone
            raise VerifyError("the model was compiled again while fit trains it",
                              hint="let a callback end fit by model.stop_training = True; then compile, and fit again")
        if step is None or batch.kind is not kind or model.frozen_names is not frozen:
            kind, frozen = batch.kind, model.frozen_names
            step = training.step(kind, frozen, model.state)
        values = step(batch.arrays)
        totals.add(values, batch.examples, step.layout)
        if training.accumulate > 1:
            waiting += 1
            if waiting == training.accumulate:
                training.apply(model.frozen_names, model.state)()
                waiting = 0
        progress.step(totals.count, totals.running)
        if callbacks.watch_batches:
            alone = training.objective.totals()
            alone.add(values, batch.examples, step.layout)
            callbacks.call("on_batch_end", model, number, alone.numbers())
            if model.stop_training:
                break
    if waiting:
        training.apply(model.frozen_names, model.state)()
    return totals.numbers(), totals.count


def measure(model: Model, training: Training, source: Source, epoch: int = 0) -> dict[str, float]:
    """Loss and metrics over all batches of a source. Nothing is trained."""
    totals = training.objective.totals()
    for batch in source.batches(epoch):
        step = training.measure(batch.kind, model.state)
        totals.add(step(batch.arrays), batch.examples, step.layout)
    return totals.numbers()
