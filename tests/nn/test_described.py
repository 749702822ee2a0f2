"""Described objects: the same object from an object, a string and a dictionary, and exact round trips; bad ones refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphnn as gnn
from graphnn import nn
from graphnn.errors import GraphnnError
from graphnn.nn.activations import BY_NAME as ACTIVATIONS
from graphnn.nn.activations import as_activation, read_activation
from graphnn.nn.described import DescriptionError, describe, make, read, to_dict


@dataclass(frozen=True)
class Plan:
    """Has a described object inside, as an optimiser has its scheduler."""

    rate: Any = 0.5
    values: Any = ()
    label: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.rate, (str, dict)):
            object.__setattr__(self, "rate", make(self.rate, TABLE, Plan, "plan"))


@dataclass(frozen=True)
class NoamPlan(Plan):
    model_dim: int = field(kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    seen: list[int] = field(default_factory=list, compare=False)


TABLE: dict[str, type[Plan]] = {"plan": Plan, "noam_plan": NoamPlan}


def made(spec: Any) -> Plan:
    return make(spec, TABLE, Plan, "plan")


OBJECTS = [
    Plan(), Plan(1), Plan(-0.1), Plan(1e-300), Plan(0.1 + 0.2), Plan(math.inf), Plan(-math.inf), Plan(True), Plan(None),
    Plan(values=(1, 2.5)), Plan(values=(1,)), Plan(values=[1, [2, ()], None]), Plan(values={"w*": {"lr": 0.1}, "b": (False,)}),
    Plan(label="it's \"so\"\n, (a=1) \\ é"), Plan(values=list(range(2000))), NoamPlan(model_dim=64),
    NoamPlan(model_dim=64, name="critic"), Plan(NoamPlan(model_dim=2)), Plan(Plan(Plan(NoamPlan(3, model_dim=2, name="x")))),
    Plan(values=(NoamPlan(model_dim=1),)),
]


@pytest.mark.parametrize("thing", OBJECTS[:-1], ids=lambda thing: describe(thing)[:40])
def test_string_and_dictionary_make_an_equal_object(thing: Plan) -> None:
    for spec in (thing, describe(thing), to_dict(thing)):
        again = made(spec)
        assert again == thing
        assert describe(again) == describe(thing)
        assert to_dict(again) == to_dict(thing)


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers(-10 ** 30, 10 ** 30) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (st.lists(inner, max_size=4) | st.tuples(inner) | st.tuples(inner, inner)
                   | st.dictionaries(st.text() | st.integers(), inner, max_size=4)), max_leaves=8)


@settings(max_examples=60, deadline=None)
@given(LITERALS, LITERALS)
def test_any_arguments_come_back_exactly(first: Any, second: Any) -> None:
    thing = Plan(values=(Plan(values=second), first))
    for spec in (describe(thing), to_dict(thing)):
        inner, outer = made(spec).values
        assert repr(outer) == repr(first)                                   # True is not 1, -0.0 is not 0.0
        assert repr(made(inner).values) == repr(second)


def test_how_they_look() -> None:
    thing = Plan(NoamPlan(model_dim=64, name="critic"), values=(1,))
    assert describe(thing) == ("plan(rate=noam_plan(rate=0.5, values=(), label=None, model_dim=64, name='critic'), "
                               "values=(1,), label=None)")
    assert to_dict(thing) == {"name": "plan", "values": (1,), "label": None, "rate": {
        "kind": "noam_plan", "rate": 0.5, "values": (), "label": None, "model_dim": 64, "name": "critic"}}
    assert describe(Plan(values=(OBJECTS[15],))).count("noam_plan(") == 1


@pytest.mark.parametrize("spec", [
    "noam_plan(model_dim=64)", "NoamPlan(model_dim=64)", " Noam Plan (model_dim = 64) ", "noam-plan(model_dim=64,)",
    "NOAMPLAN(model_dim=+64)", "noam_plan(\n  model_dim=64,\n)", {"name": "noam_plan", "model_dim": 64},
    {"kind": "Noam Plan", "model_dim": 64, "name": None}])
def test_spellings_of_one_object(spec: Any) -> None:
    assert made(spec) == NoamPlan(model_dim=64)


@pytest.mark.parametrize("spec", [
    "plan(rate=plan(rate=noam_plan(model_dim=64)))", "plan(rate='plan(rate=noam_plan(model_dim=64))')",
    {"name": "plan", "rate": {"name": "plan", "rate": {"name": "noam_plan", "model_dim": 64}}},
    {"name": "plan", "rate": "plan(rate=noam_plan(model_dim=64))"},
    "plan(rate={'name': 'plan', 'rate': noam_plan(model_dim=64)})",
    {"name": "plan", "rate": Plan(NoamPlan(model_dim=64))}])
def test_nested_descriptions(spec: Any) -> None:
    assert made(spec) == Plan(Plan(NoamPlan(model_dim=64)))


def test_a_bare_name_inside_is_a_name_or_a_string() -> None:
    assert made("plan(rate=plan)") == Plan(Plan())
    assert made("plan(label=same)") == Plan(label="same")


def test_numpy_numbers_are_written_as_numbers() -> None:
    thing = Plan(np.float64(0.1), (np.int64(3), np.bool_(True)))
    assert describe(thing) == "plan(rate=0.1, values=(3, True), label=None)"
    assert type(to_dict(Plan(np.float32(0.5)))["rate"]) is float


def test_nan_is_read() -> None:
    assert math.isnan(made("plan(rate=nan)").rate)
    assert describe(made(describe(Plan(math.nan)))) == describe(Plan(math.nan))


@pytest.mark.parametrize(("spec", "words"), [
    ("plam", ["no plan 'plam'", "noam_plan, plan"]), ("", ["no plan ''"]),
    ({"name": "plam"}, ["'plam'", "noam_plan, plan"]),
    ("plan(speed=1)", ["plan has no argument 'speed'", "rate, values, label"]),
    ({"name": "plan", "speed": 1}, ["no argument 'speed'", "rate"]), ({"name": "plan", 3: 1}, ["no argument 3"]),
    ("plan(rate=plan(sped=1))", ["no argument 'sped'"]), ("plan(rate=nown(sped=1))", ["no plan 'nown'"]),
    ("noam_plan", ["noam_plan needs the argument 'model_dim'"]),
    ({"name": "noam_plan"}, ["needs the argument 'model_dim'"]),
    ({"rate": 1}, ["under 'name'", "'plan'"]), ({"name": 3}, ["under 'name'"]), ({}, ["under 'name'"]),
    (None, ["NoneType None is no plan", "noam_plan, plan"]), (3, ["int 3"]), (["plan"], ["list ['plan']"]),
    (Plan, ["the class Plan is no plan"]), (nn.Tanh(), ["Tanh"]),
    ("plan(0.5)", ["'plan(0.5)' is not of the form name(key=value, ...)"]), ("plan(rate=0.5", ["not of the form"]),
    ("plan(rate=0.5))", ["not of the form"]),
    ("plan(rate=1, rate=2)", ["'rate' is given twice"]), ("plan(rate={'a': 1, 'a': 2})", ["'a' is given twice"]),
    ("plan(*a)", ["not of the form"]),
    ("plan(**a)", ["not of the form"]), ("plan()(rate=1)", ["not of the form"]), ("plan(), 3", ["not of the form"]),
    ("plan(rate=1) + 1", ["not of the form"]), ("plan(rate=__import__('os'))", ["not of the form"]),
    ("plan(rate=a.b)", ["not of the form"]), ("plan(rate=a.b(c=1))", ["not of the form"]),
    ("plan(rate=[x for x in y])", ["form"]),
    ("plan(rate=1+1)", ["not of the form"]), ("plan(rate=not 1)", ["not of the form"]), ("plan(rate=~1)", ["form"]),
    ("plan(rate=-True)", ["not of the form"]), ("plan(rate=-'a')", ["not of the form"]), ("plan(rate=1j)", ["form"]),
    ("plan(rate=b'a')", ["not of the form"]), ("plan(rate=...)", ["not of the form"]), ("plan(rate=f'{1}')", ["form"]),
    ("plan(rate={1, 2})", ["not of the form"]), ("plan(rate={**a})", ["not of the form"]),
    ("plan(rate={(): 1})", ["form"]), ("plan(rate={True: 1})", ["form"]),
    ("plan(rate=(yield))", ["not of the form"]), ("plan(rate=a[0])", ["not of the form"]), ("plan(rate=\0)", ["form"]),
    ("plan(rate=lambda: 1)", ["not of the form"]), ("plan(rate=(a:=1))", ["form"]),
    ("plan(rate=if)", ["not of the form"]),
    ("plan(rate=true)", ["true is no value; write True, False or None"]), ("plan(rate=none)", ["none is no value"]),
], ids=lambda given: str(given)[:40])
def test_what_describes_nothing_is_refused_by_name(spec: Any, words: list[str]) -> None:
    with pytest.raises(DescriptionError) as caught:
        made(spec)
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    for word in words:
        assert word in text, text
    assert isinstance(caught.value, GraphnnError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [
    "-" * 50_000 + "1", "1" + "+1" * 20_000, "[" * 5000 + "]" * 5000, "plan(rate=" * 60 + "1" + ")" * 60,
    "a" + ".b" * 20_000, "not " * 20_000 + "1", "lambda: " * 10_000 + "1", "{'a': " * 60 + "1" + "}" * 60, "1" * 200_000,
    "1" * 50_000, "- " * 40 + "1"], ids=lambda text: text[:8])
def test_hostile_strings_end_in_a_description_error(value: str) -> None:
    with pytest.raises(DescriptionError):
        made(f"plan(values={value})")


def test_dictionaries_without_end_are_refused() -> None:
    spec: dict[str, Any] = {"name": "plan"}
    spec["rate"] = spec
    with pytest.raises(DescriptionError, match="deeper than"):
        made(spec)
    spec = {"name": "plan", "values": []}
    spec["values"] += [spec["values"]] * 2
    with pytest.raises(DescriptionError, match="deeper than"):
        made(spec)


@pytest.mark.parametrize("thing", [gnn.relu, object(), Plan, Plan(gnn.relu), Plan(values=(np.zeros(2),)),
                                   Plan(values={1.5: 2}), 3, "plan"], ids=lambda thing: type(thing).__name__)
def test_what_cannot_be_written(thing: Any) -> None:
    for write in (describe, to_dict):
        with pytest.raises(DescriptionError, match="cannot be written"):
            write(thing)


def test_read_takes_strings_alone() -> None:
    assert read("plan", TABLE, "plan") == Plan()


# ------------------------------------------------------------------------------------------------ activations

@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_is_the_same_from_all_three(name: str) -> None:
    layer = ACTIVATIONS[name]()
    x = gnn.Input((3,), name="x")
    drawn = set()
    for spec in (name, type(layer).__name__, name.replace("_", " ").upper(), str(layer), describe(layer), to_dict(layer), layer,
                 {"name": type(layer).__name__}):
        graph = gnn.Graph.of("f", [x], [as_activation(spec)(x)])
        drawn.add(str(graph).partition("#")[0])
        if isinstance(spec, (str, dict)):
            assert describe(read_activation(spec)) == describe(layer)
    assert len({text.count("\n") for text in drawn}) == 1


@pytest.mark.parametrize(("text", "expected"), [
    ("Affine(slope=1, intercept=0)", "affine(slope=1.0, intercept=0.0)"), ("Identity", "identity"), ("ReLU", "relu"),
    ("Leaky ReLU(alpha=0.3)", "leaky_relu(alpha=0.3)"), ("ELU(alpha=1.0)", "elu(alpha=1.0)"), ("SELU", "selu"),
    ("Sigmoid", "sigmoid"), ("Hard Sigmoid", "hard_sigmoid(slope=0.16666666666666666, intercept=0.5)"),
    ("Tanh", "tanh"),
    ("Exponential", "exponential"), ("SoftPlus", "soft_plus")])
def test_the_texts_of_numpy_ml_are_read(text: str, expected: str) -> None:
    assert str(read_activation(text)) == expected


@pytest.mark.parametrize("activation", ["leaky_relu(alpha=0.25)", nn.LeakyReLU(0.25), {"name": "LeakyReLU", "alpha": 0.25},
                                        lambda x: nn.LeakyReLU(0.25).call(x)], ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("layer", [
    lambda a: nn.FullyConnected(2, activation=a), lambda a: nn.Conv1D(2, 1, activation=a), lambda a: nn.RNN(2, activation=a),
    lambda a: nn.Add(a), lambda a: nn.Multiply(a), lambda a: nn.Concatenate(activation=a),
    lambda a: nn.LSTM(2, activation=a, gate_activation=a), lambda a: nn.GRU(2, activation=a, gate_activation=a)])
def test_layers_take_activations_in_every_form(layer: Any, activation: Any) -> None:
    x = gnn.Input((3, 4), name="x")
    y = layer(activation)(x)
    assert y.type == layer(nn.LeakyReLU(0.25))(gnn.Input((3, 4), name="x")).type


def test_bad_activations() -> None:
    for spec, words in (({"name": "relu", "name_": 1}, "no argument 'name_'"),
    ({"kind": "elu", "name": "a"}, "no name of"),
                        ({"name": "elo"}, "no activation 'elo'"), (nn.ReLU, "is no activation"),
                        (3, "3 is no activation")):
        with pytest.raises(DescriptionError, match=words):
            nn.FullyConnected(3, activation=spec)  # type: ignore[arg-type]


@pytest.mark.parametrize(("make_it", "flag"), [
    (lambda b: nn.CrossEntropy(from_logits=b), "from_logits"), (lambda b: nn.BinaryCrossEntropy(from_logits=b), "from_logits"),
    (lambda b: nn.KLDivergence(log_target=b), "log_target"), (lambda b: nn.VAELoss(from_logits=b), "from_logits"),
    (lambda b: nn.Adam(amsgrad=b), "amsgrad"), (lambda b: nn.RMSProp(centered=b), "centered"),
    (lambda b: nn.SGD(momentum=0.9, nesterov=b), "nesterov"), (lambda b: nn.SGD(sparse=b), "sparse"),
    (lambda b: nn.ExponentialScheduler(staircase=b), "staircase"), (lambda b: nn.CosineScheduler(restarts=b), "restarts"),
    (lambda b: nn.Perplexity(from_logits=b), "from_logits"), (lambda b: nn.EarlyStopping(restore_best=b), "restore_best"),
    (lambda b: nn.CSVLogger("log.csv", append=b), "append"), (lambda b: nn.ModelCheckpoint("m.gnn", training=b), "training"),
    (lambda b: nn.ModelCheckpoint("m.gnn", save_best_only=b), "save_best_only")])
def test_what_is_true_or_false_is_nothing_else(make_it: Callable[[Any], Any], flag: str) -> None:
    make_it(True)
    make_it(np.bool_(False))
    for bad in ("False", 1, None, [], float("nan")):
        with pytest.raises(DescriptionError, match=f"{flag} is .*; it is True or False"):
            make_it(bad)
