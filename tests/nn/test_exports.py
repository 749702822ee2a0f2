"""Every building block of the seed's neural nets, and what issue 3 asks for besides: exported, documented, with an example;
and the families that are taken as objects, strings and dictionaries, round trips exact."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import pytest

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError
from graphnn.nn import activations, callbacks, initialisers, losses, metrics, optimisers, schedulers, utils
from graphnn.nn.described import DescriptionError, describe, make, to_dict


def names(text: str) -> list[str]:
    return text.split()


LAYERS = names("""Add BatchNorm1D BatchNorm2D Conv1D Conv2D Deconv2D DotProductAttention Embedding Flatten FullyConnected LSTM
    LSTMCell LayerNorm1D LayerNorm2D Multiply Pool2D RBM RNN RNNCell Softmax SparseEvolution""")
ACTIVATIONS = names("""Affine ELU Exponential HardSigmoid Identity LeakyReLU ReLU SELU Sigmoid SoftPlus Tanh
    GELU SiLU Mish HardSwish""")
LOSSES = names("""CrossEntropy SquaredError NCELoss VAELoss WGAN_GPLoss
    BinaryCrossEntropy Huber MeanAbsoluteError KLDivergence""")
OPTIMISERS = names("SGD AdaGrad Adam RMSProp AdamW")
SCHEDULERS = names("""ConstantScheduler ExponentialScheduler KingScheduler NoamScheduler
    CosineScheduler OneCycleScheduler WarmUpScheduler StepScheduler ReduceOnPlateau""")
MODULES = names("""Dropout BidirectionalLSTM MultiHeadedAttentionModule SkipConnectionConvModule SkipConnectionIdentityModule
    WavenetResidualModule TransformerEncoderBlock GRU GRUCell GlobalPool Concatenate Reshape GroupNorm UpSampling2D""")
INITIALISERS = names("""GlorotUniform GlorotNormal HeUniform HeNormal LecunUniform LecunNormal Normal TruncatedNormal Orthogonal
    Constant Zeros Ones""")
METRICS = names("Accuracy TopKAccuracy Precision Recall F1 AUC R2 Perplexity")
CALLBACKS = names("EarlyStopping ModelCheckpoint CSVLogger LearningRateLogger TerminateOnNaN")
UTILITIES = names("""minibatch pad1D pad2D calc_fan calc_conv_out_dims calc_pad_dims_1D col2im im2col conv1D conv2D conv2D_naive
    deconv2D_naive dilate he_uniform he_normal glorot_uniform truncated_normal
    glorot_normal calc_pad_dims_2D lecun_uniform lecun_normal orthogonal resize_images tile_images""")
MODEL = names("""parameters trainable frozen freeze unfreeze get_weights set_weights save_weights compile fit training_step
    evaluate predict warm_up save load summary plot profile""")

CLASSES = [*LAYERS, *ACTIVATIONS, *LOSSES, *OPTIMISERS, *SCHEDULERS, *MODULES, *INITIALISERS, *METRICS, *CALLBACKS]
FORMULA_OR_SHAPES = re.compile(r"=|->| / |U\(|N\(|\([^)]*,[^)]*\)")        # a shape has a comma


def test_the_counts_are_those_of_the_seed() -> None:
    assert (len(LAYERS), len(ACTIVATIONS), len(LOSSES), len(OPTIMISERS), len(SCHEDULERS)) == (21, 11 + 4, 5 + 4, 4 + 1, 4 + 5)
    assert len(UTILITIES) == 17 + 7


@pytest.mark.parametrize("name", CLASSES)
def test_class(name: str) -> None:
    thing = getattr(nn, name)
    assert inspect.isclass(thing)
    text = thing.__doc__ or ""
    assert not text.startswith(f"{name}("), "the docstring that dataclass writes"
    assert name in CALLBACKS or FORMULA_OR_SHAPES.search(text.partition(">>>")[0]), "no formula and no shapes"
    assert ">>>" in text, "no example"


@pytest.mark.parametrize("name", UTILITIES)
def test_utility(name: str) -> None:
    assert name in utils.__all__
    text = getattr(utils, name).__doc__ or ""
    assert FORMULA_OR_SHAPES.search(text.partition(">>>")[0]), "no formula and no shapes"
    assert ">>>" in text, "no example"


@pytest.mark.parametrize("name", MODEL)
def test_what_a_model_does(name: str) -> None:
    assert inspect.getdoc(getattr(gnn.Model, name))


def test_what_a_history_and_an_executable_do() -> None:
    for thing, wanted in ((nn.History, "best last to_csv from_csv plot"), (gnn.Executable, "lower")):
        assert all(inspect.getdoc(getattr(thing, name)) for name in names(wanted))


def test_there_is_no_lambda_layer() -> None:
    assert not hasattr(nn, "Lambda")


def test_every_class_of_a_family_is_in_its_registry() -> None:
    for names, table in ((ACTIVATIONS, activations.BY_NAME), (OPTIMISERS, optimisers.BY_NAME),
    (SCHEDULERS, schedulers.BY_NAME),
                         (INITIALISERS, initialisers.BY_NAME), (METRICS, metrics.BY_NAME), (CALLBACKS, callbacks.BY_NAME)):
        assert {getattr(nn, name) for name in names} <= set(table.values())


# ------------------------------------------------------------------------------------------------ objects, strings, dictionaries

FAMILIES: dict[str, tuple[Mapping[str, type[Any]], Any]] = {
    "activation": (activations.BY_NAME, activations.read_activation),
    "initialiser": (initialisers.BY_NAME, initialisers.as_initialiser),
    "loss": (losses.BY_NAME, losses.as_loss), "optimizer": (optimisers.BY_NAME, optimisers.as_optimiser),
    "scheduler": (schedulers.BY_NAME, schedulers.as_scheduler), "metric": (metrics.BY_NAME, metrics.as_metric),
    "callback": (callbacks.BY_NAME, callbacks.as_callback),
}
MEMBERS = [(family, name) for family, (table, _) in FAMILIES.items() for name in table]

# Arguments without a default, by their name (out_channels1 is as out_channels).
NEEDED: dict[str, Any] = {
    "out_features": 4, "out_channels": 4, "kernel_size": 2, "vocab_size": 5, "heads": 2, "shape": (4,), "groups": 2,
    "size": 2, "steps": 100, "total_steps": 100, "warmup_steps": 10, "k": 2, "initial_lr": 0.1, "max_lr": 0.1, "classes": 5,
    "num_negatives": 2, "kernel_size_skip": 1, "residual_channels": 4, "dilation_channels": 4, "loss": "huber", "path": "there",
    "scheduler": "constant_scheduler(lr=0.1)", "dilation": 2,
}
CHOSEN: dict[str, dict[str, Any]] = {"StepScheduler": {"step_size": 10}}            # of which one is needed


def example(kind: type[Any], **given: Any) -> Any:
    needed = {f.name: NEEDED[f.name.rstrip("12")] for f in fields(kind)
              if f.init and f.default is MISSING and f.default_factory is MISSING and f.name not in given}
    return kind(**needed, **CHOSEN.get(kind.__name__, {}), **given)


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_object_string_and_dictionary_are_one(family: str, name: str) -> None:
    table, as_member = FAMILIES[family]
    thing = example(table[name])
    text, dictionary = describe(thing), to_dict(thing)
    for spec in (text, dictionary, {**dictionary, "name": name} if "kind" not in dictionary else dictionary,
                 text.replace(text.partition("(")[0], type(thing).__name__, 1), text.replace(text.partition("(")[0], name, 1)):
        again = make(spec, table, type(thing), family)
        assert type(again) is type(thing)
        assert (describe(again), to_dict(again)) == (text, dictionary)
        assert describe(as_member(spec)) == text
    if family != "activation":
        assert as_member(thing) is thing


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_unknown_keys_are_refused_by_name(family: str, name: str) -> None:
    table, as_member = FAMILIES[family]
    for spec in (f"{name}(sped=1)", {"name": name, "sped": 1}):
        with pytest.raises(DescriptionError, match="no argument 'sped'") as caught:
            as_member(spec)
        assert all(f.name in str(caught.value) for f in fields(table[name]) if f.init)


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_names_are_refused_by_name(family: str) -> None:
    table, as_member = FAMILIES[family]
    for spec in ("hocus", "hocus(pocus=1)", {"name": "hocus"}):
        with pytest.raises(DescriptionError, match="'hocus'") as caught:
            as_member(spec)
        assert all(name in str(caught.value) for name in table)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_inside_of_optimisers(name: str) -> None:
    scheduler = example(getattr(nn, name))
    for lr in (scheduler, describe(scheduler), to_dict(scheduler)):
        made = nn.Adam(lr)
        assert made == nn.Adam(scheduler)
        for spec in (describe(made), to_dict(made)):
            assert optimisers.as_optimiser(spec) == made


def takers() -> list[tuple[type[Any], str, str]]:
    """(class, argument, family) for the layers and modules that take an initialiser or an activation."""
    kinds = [thing for _, thing in sorted(vars(nn).items()) if inspect.isclass(thing) and issubclass(thing, nn.Layer)]
    return [(kind, f.name, "initialiser" if f.name == "init" else "activation") for kind in kinds if is_dataclass(kind)
            for f in fields(kind) if f.init and (f.name == "init" or f.name.endswith("activation"))]


SPECS = {"initialiser": (nn.HeNormal(False), "He Normal(corrected=False)", {"name": "he_normal", "corrected": False}),
         "activation": (nn.LeakyReLU(0.3), "Leaky ReLU(alpha=0.3)", {"name": "leaky_relu", "alpha": 0.3})}


@pytest.mark.parametrize(("kind", "argument", "family"), takers(), ids=lambda given: getattr(given, "__name__", given))
def test_layers_take_them_in_every_form_and_refuse_others_when_built(kind: type[Any], argument: str, family: str) -> None:
    for spec in SPECS[family]:
        assert isinstance(example(kind, **{argument: spec}), kind)
    for spec in ("hocus", {"name": "hocus"}, 3, f"{'he_normal' if family == 'initialiser' else 'relu'}(sped=1)"):
        with pytest.raises(GraphnnError) as caught:
            example(kind, **{argument: spec})
        assert str(spec if spec == 3 else "sped" if "sped" in spec else "hocus") in str(caught.value)
