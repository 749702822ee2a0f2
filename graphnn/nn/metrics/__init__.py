"""Metrics: numbers that people read, computed in the same graph as the loss, exact over batches of any sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graphnn.errors import VerifyError
from graphnn.nn.described import DescriptionError, make
from graphnn.nn.losses import Loss
from graphnn.nn.metrics.base import FunctionMetric, LossMetric, MeanMetric, Metric
from graphnn.nn.metrics.classification import F1, Accuracy, BinaryAccuracy, Perplexity, Precision, Recall, TopKAccuracy
from graphnn.nn.metrics.ranking import AUC
from graphnn.nn.metrics.regression import R2, MeanAbsoluteError, MeanSquaredError

BY_NAME: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "top_k_accuracy": TopKAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1,
    "auc": AUC,
    "r2": R2,
    "perplexity": Perplexity,
    "mean_squared_error": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "loss_metric": LossMetric,
}

MetricLike = Metric | Loss | str | Mapping[str, Any] | Callable[..., Any]


def as_metric(metric: MetricLike) -> Metric:
    """The metric meant by an object, a string such as "precision(average='macro')", a dictionary, a loss, or a function of
    (prediction, target) that gives a 0-d value.

    >>> as_metric("AUC").label, as_metric({"name": "top_k_accuracy", "k": 3}).k
    ('auc', 3)
    """
    if isinstance(metric, Loss):
        return LossMetric(metric)
    if metric is None:
        raise DescriptionError(f"there is no metric None; there are {', '.join(BY_NAME)}")
    if callable(metric) and not isinstance(metric, (Metric, type)):
        return FunctionMetric(metric)
    return make(metric, BY_NAME, Metric, "metric")


def as_metrics(metrics: MetricLike | Iterable[MetricLike]) -> tuple[Metric, ...]:
    """The metrics meant by one or several. Raises VerifyError when two would share a name, or one has the name "loss"."""
    one = isinstance(metrics, (str, Mapping, Metric, Loss)) or callable(metrics) or not isinstance(metrics, Iterable)
    found = tuple(as_metric(metric) for metric in ([metrics] if one else metrics))  # pyright: ignore[reportGeneralTypeIssues]
    for i, metric in enumerate(found):
        if metric.label in ["loss", *(other.label for other in found[:i])]:
            raise VerifyError(f"two columns of the history would be named {metric.label!r}",
                              hint=f"give a metric another name: {metric.label}(name='other')")
    return found
