"""Estimators for scikit-learn: GraphnnClassifier and GraphnnRegressor. Needs the extra `sklearn` (scikit-learn 1.6 or later)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphnn.errors import NumericsError, ShapeError, VerifyError
from graphnn.ir.graph import Value
from graphnn.nn.arguments import as_count
from graphnn.nn.callbacks import EarlyStopping
from graphnn.nn.layers.dense import FullyConnected
from graphnn.nn.layers.dropout import Dropout
from graphnn.nn.model import Input, Model

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise ImportError("graphnn.sklearn needs scikit-learn 1.6 or later: pip install 'graphnn[sklearn]'") from error

AUTO_BATCH = 200


class _Estimator(BaseEstimator):
    """What both estimators share: building, training and keeping a Model."""

    def __init__(self, hidden_layers: Sequence[int] = (100,), *, activation: Any = "relu", dropout: float = 0.0,
                 optimizer: Any = "adam", loss: Any = None, epochs: int = 200, batch_size: int | str = "auto",
                 early_stopping: bool = False, validation_fraction: float = 0.1, patience: int = 10, warm_start: bool = False,
                 build: Callable[..., Model] | None = None, dtype: str = "auto", backend: str = "numba",
                 random_state: Any = None, verbose: bool = False) -> None:
        self.hidden_layers = hidden_layers
        self.activation = activation
        self.dropout = dropout
        self.optimizer = optimizer
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.build = build
        self.dtype = dtype
        self.backend = backend
        self.random_state = random_state
        self.verbose = verbose

    # ------------------------------------------------------------------------------------------ building

    def _new_model(self, features: int, outputs: int, dtype: np.dtype, loss: Any) -> Model:
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        if self.build is None:
            model = self._dense(features, outputs, dtype, seed)
        else:
            model = self.build(n_features=features, n_outputs=outputs, seed=seed)
            if not isinstance(model, Model):
                raise VerifyError(f"build gives a {type(model).__name__}; it must give a graphnn.Model")
            shapes = [value.shape[1:] for value in (*model.inputs, *model.outputs)]
            if shapes != [(features,), (outputs,)]:
                raise ShapeError(f"build gives {model!r}; it must have one input (N, {features}) and one output (N, {outputs})")
        return model.compile(self.optimizer, loss)

    def _dense(self, features: int, outputs: int, dtype: np.dtype, seed: int) -> Model:
        name = {"auto": "f64" if dtype == np.float64 else "f32"}.get(self.dtype, self.dtype)
        if name not in ("f32", "f64"):
            raise VerifyError(f"dtype is {self.dtype!r}; it is auto, f32 or f64")
        if isinstance(self.hidden_layers, (str, bytes)) or not isinstance(self.hidden_layers, Sequence | np.ndarray):
            raise ShapeError(f"hidden_layers is {self.hidden_layers!r}; it is a sequence of widths, such as (100,)")
        x: Value = Input((features,), name="x", dtype=name)
        h = x
        for i, width in enumerate(self.hidden_layers):
            h = FullyConnected(as_count(width, f"hidden_layers[{i}]"), activation=self.activation)(h)
            if self.dropout:
                h = Dropout(self.dropout)(h)
        return Model(x, FullyConnected(outputs)(h), name=type(self).__name__, seed=seed, backend=self.backend)

    # ------------------------------------------------------------------------------------------ training

    def _train(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, *, outputs: int, loss: Any, fresh: bool,
               epochs: int, early_stopping: bool, stratify: np.ndarray | None = None) -> None:
        """Train for more epochs, from first weights if `fresh`."""
        batch = min(AUTO_BATCH, len(x)) if self.batch_size == "auto" else self.batch_size
        if isinstance(batch, str):
            raise ShapeError(f"batch_size is {batch!r}; it must be 'auto' or a whole number, at least 1")
        epochs = as_count(epochs, "epochs")
        model: Model = self._new_model(x.shape[1], outputs, x.dtype, self.loss or loss) if fresh else self.model_
        callbacks, validation = [], None
        if early_stopping:
            parts: list[Any] = train_test_split(x, y, *([] if weight is None else [weight]), test_size=self.validation_fraction,
                                     stratify=stratify, random_state=model.state.seed)
            x, y, weight = parts[0], parts[2], None if weight is None else parts[4]
            validation = tuple(parts[1::2])
            callbacks = [EarlyStopping("val_loss", patience=self.patience)]
        model.fit(x, y, sample_weight=weight, epochs=epochs, batch_size=batch, validation_data=validation, callbacks=callbacks,
                  verbose=bool(self.verbose))
        if not all(np.all(np.isfinite(array)) for array in model.get_weights().values()):
            raise NumericsError(f"{type(self).__name__}: training ended with weights that are not finite",
                                hint="scale the data, or take a lower learning rate: optimizer='adam(lr=0.0001)'")
        self.model_, self.history_, self.n_iter_ = model, model.history, model.epoch

    def _weight(self, sample_weight: Any, x: np.ndarray) -> np.ndarray | None:
        if sample_weight is None:
            return None
        weight = _check_sample_weight(sample_weight, x, dtype=x.dtype, ensure_non_negative=True)
        if not np.any(weight):
            raise ValueError("all sample weights are zero: there is nothing to learn from")
        return weight

    def _raw(self, x: Any) -> np.ndarray:
        """The model's output for examples as the user gives them."""
        check_is_fitted(self, "model_")
        return self.model_.predict(validate_data(self, x, reset=False, dtype=[np.float64, np.float32]))


class GraphnnClassifier(ClassifierMixin, _Estimator):
    """A network of fully connected layers that tells classes apart, trained to the least cross-entropy.

    Parameters (all described as strings or dictionaries too, where they are objects of `graphnn.nn`):

        hidden_layers         widths of the hidden layers
        activation, dropout   after each of them
        optimizer             e.g. "adam(lr=0.001)", nn.SGD(0.1, momentum=0.9)
        loss                  of logits (N, classes) and ids, by default "cross_entropy"
        epochs, batch_size    "auto" takes batches of at most 200
        early_stopping        ends after `patience` epochs in which the loss on a stratified `validation_fraction` of the
                              examples has not become less, with the weights of the best epoch
        class_weight          {class: weight} or "balanced"
        warm_start            `fit` again goes on from the weights there are
        build                 a function (n_features, n_outputs, seed) that gives the Model instead, from (N, n_features) to
                              logits (N, n_outputs); pass `seed` to Model
        dtype                 "f32", "f64", or "auto": f64 for float64 data
        backend               "numba" or "numpy"
        random_state          the seed of first weights, order and dropout; the same seed gives the same bits
        verbose               show progress

    Fitted: `model_` (the Model), `history_`, `classes_`, `n_iter_` (epochs), `n_features_in_`, `feature_names_in_`. A pickle
    holds the model as the bytes of its file, so training goes on after unpickling as if it had not been interrupted.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> x, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), GraphnnClassifier((16,), epochs=60, optimizer="adam(lr=0.02)", random_state=0))
    >>> model.fit(x, y).score(x, y) > 0.95
    True
    """

    def __init__(self, hidden_layers: Sequence[int] = (100,), *, activation: Any = "relu", dropout: float = 0.0,
                 optimizer: Any = "adam", loss: Any = None, epochs: int = 200, batch_size: int | str = "auto",
                 early_stopping: bool = False, validation_fraction: float = 0.1, patience: int = 10, class_weight: Any = None,
                 warm_start: bool = False, build: Callable[..., Model] | None = None, dtype: str = "auto",
                 backend: str = "numba", random_state: Any = None, verbose: bool = False) -> None:
        super().__init__(hidden_layers, activation=activation, dropout=dropout, optimizer=optimizer, loss=loss, epochs=epochs,
                         batch_size=batch_size, early_stopping=early_stopping, validation_fraction=validation_fraction,
                         patience=patience, warm_start=warm_start, build=build, dtype=dtype, backend=backend,
                         random_state=random_state, verbose=verbose)
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GraphnnClassifier:
        """Train for `epochs` epochs. Each example counts `sample_weight` times the weight of its class."""
        fresh = not (self.warm_start and hasattr(self, "model_"))
        return self._fit(X, y, sample_weight, None, fresh, self.epochs, self.early_stopping)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> GraphnnClassifier:
        """Train for one epoch more. The first call needs all `classes` that will come, unless `y` has them."""
        if self.class_weight == "balanced":
            raise ValueError("partial_fit does not see all examples: class_weight='balanced' is not known; give the weights")
        return self._fit(X, y, sample_weight, classes, not hasattr(self, "model_"), 1, False)

    def _fit(self, x: Any, y: Any, sample_weight: Any, classes: Any, fresh: bool, epochs: int,
             early_stopping: bool) -> GraphnnClassifier:
        x, y = validate_data(self, x, y, reset=fresh, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        if fresh:
            self.classes_ = np.unique(y if classes is None else classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes is {np.unique(classes)}; the first call of partial_fit said {self.classes_}")
        ids = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if np.any(unknown := self.classes_[ids] != y):
            raise ValueError(f"y has the class {y[unknown].tolist()[0]!r}; the classes are {self.classes_}")
        weight = self._weight(sample_weight, x)
        if self.class_weight is not None:
            by_class = compute_sample_weight(self.class_weight, y).astype(x.dtype)
            weight = by_class if weight is None else weight * by_class
        self._train(x, ids, weight, outputs=len(self.classes_), loss="cross_entropy", fresh=fresh, epochs=epochs,
                    early_stopping=early_stopping, stratify=ids)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (N, classes), in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of the probabilities."""
        logits = self._raw(X)
        logits = logits - logits.max(1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each example."""
        logits = self._raw(X)
        return self.classes_[logits.argmax(1)]


class GraphnnRegressor(RegressorMixin, _Estimator):
    """A network of fully connected layers for one real number or several, trained to the least squared error.

    Parameters and attributes as for `GraphnnClassifier`, but `class_weight` and `classes_`; `loss` is of predictions and targets
    (N, outputs), e.g. "huber". `predict` has the shape of the targets.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> model = GraphnnRegressor((20,), activation="tanh", optimizer="adam(lr=0.02)", random_state=0).fit(x, np.sin(3 * x[:, 0]))
    >>> model.predict(x).shape, model.score(x, np.sin(3 * x[:, 0])) > 0.99
    ((50,), True)
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GraphnnRegressor:
        """Train for `epochs` epochs, each example weighted by `sample_weight`."""
        fresh = not (self.warm_start and hasattr(self, "model_"))
        return self._fit(X, y, sample_weight, fresh, self.epochs, self.early_stopping)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> GraphnnRegressor:
        """Train for one epoch more."""
        return self._fit(X, y, sample_weight, not hasattr(self, "model_"), 1, False)

    def _fit(self, x: Any, y: Any, sample_weight: Any, fresh: bool, epochs: int, early_stopping: bool) -> GraphnnRegressor:
        x, y = validate_data(self, x, y, reset=fresh, multi_output=True, y_numeric=True, dtype=[np.float64, np.float32])
        targets = np.asarray(y, dtype=x.dtype).reshape(len(y), -1)
        if not fresh and (y.ndim == 1, targets.shape[1]) != (self._single, self.n_outputs_):
            raise ValueError(f"y has the shape {y.shape}; the targets before had {self.n_outputs_} outputs, "
                             f"{1 if self._single else 2} axes")
        self._single, self.n_outputs_ = y.ndim == 1, targets.shape[1]
        self._train(x, targets, self._weight(sample_weight, x), outputs=targets.shape[1], loss="squared_error", fresh=fresh,
                    epochs=epochs, early_stopping=early_stopping)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The predicted numbers, (N,), or (N, outputs) after training with such targets."""
        y = self._raw(X)
        return y[:, 0] if self._single else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
