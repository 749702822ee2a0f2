"""Drawings: well-formed, complete, without overlaps, quick to make for hundreds of nodes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from graphnn import ir
from graphnn.errors import UnsupportedError
from graphnn.inspect.blocks import lane_of
from graphnn.inspect.drawing import draw, svg
from graphnn.inspect.page import arrange
from graphnn.ir.graph import Graph, Value
from graphnn.ir.loc import scope
from graphnn.ir.ops.fused import Fused
from graphnn.ir.ops.inputs import Constant
from tests.inspect.networks import network, training, zeros

SVG = "{http://www.w3.org/2000/svg}"


def groups(text: str) -> list[ET.Element]:
    """The cards of a drawing: groups that have a tooltip."""
    return [g for g in ET.fromstring(text).iter(f"{SVG}g") if g.find(f"{SVG}title") is not None]


def texts(element: ET.Element) -> str:
    """All text of a card but its tooltip."""
    return " ".join("".join(t.itertext()) for t in element.iter(f"{SVG}text"))


def chain(length: int) -> Graph:
    x = ir.placeholder("x", "f32[N,16]")
    h: Value = x
    for i in range(length):
        with scope(f"part{i}"):
            a = ir.tanh(h @ ir.parameter(f"part{i}/weight", (16, 16), zeros))
            h = a + h if i % 3 else a * 0.5
    return Graph.of("chain", [x], [h])


def fused() -> Graph:
    a, b = ir.placeholder("a", "f32[N,3]"), ir.placeholder("b", "f32[3]")
    body = Graph.of("body", [a, b], [ir.tanh(a * b) + a])
    x, y = ir.placeholder("x", "f32[N,3]"), ir.placeholder("y", "f32[3]")
    return Graph.of("fused", [x, y], [Fused(body).one(x, y)])


@pytest.mark.parametrize("graph", [network(), training(), chain(12), fused()], ids=lambda g: g.name)
def test_every_node_is_drawn_with_its_op_and_type(graph: Graph) -> None:
    cards = groups(svg(graph))
    drawn = [g for g in cards if g.get("class") not in ("input", "output")]
    nodes = [node for node in graph.nodes if not isinstance(node.op, Constant)]
    tips = sorted("".join(g.find(f"{SVG}title").itertext()).split("(")[0] for g in drawn)  # type: ignore[union-attr]
    assert tips == sorted(node.op.name for node in nodes)
    pills = " ".join(texts(g) for g in cards if g.get("class") == "input")
    assert all(value.name in pills and str(value.type) in pills for value in graph.by_role("input"))


@pytest.mark.parametrize("graph", [network(), training(), chain(12)], ids=lambda g: g.name)
def test_params_stand_in_the_cards_that_read_them_and_layers_are_boxes(graph: Graph) -> None:
    text = svg(graph)
    everything = " ".join("".join(t.itertext()) for t in ET.fromstring(text).iter(f"{SVG}text"))
    for value in graph.by_role("param"):
        assert f"{value.name.rpartition('/')[2]} {value.type}" in everything
    labels = {"".join(t.itertext()) for t in ET.fromstring(text).iter(f"{SVG}text") if "label" in (t.get("class") or "")}
    layers = {node.loc.scope for node in graph.nodes if not node.loc.backward and node.loc.scope != "sgd"}
    assert layers - {""} <= labels


@pytest.mark.parametrize("graph", [network(), training(), chain(20)], ids=lambda g: g.name)
def test_cards_do_not_overlap_and_lie_on_the_page(graph: Graph) -> None:
    page = arrange(graph)
    assert len(page.cards) == len({id(card) for card, _, _ in page.cards})
    for card, x, y in page.cards:
        width, height = card.size
        assert x >= -1e-6
        assert y >= -1e-6
        assert x + width <= page.width + 1e-6
        assert y + height <= page.height + 1e-6
    for (one, x0, y0), (two, x1, y1) in combinations(page.cards, 2):
        apart = (x0 + one.size[0] <= x1 + 1e-6 or x1 + two.size[0] <= x0 + 1e-6
                 or y0 + one.size[1] <= y1 + 1e-6 or y1 + two.size[1] <= y0 + 1e-6)
        assert apart, f"{one.name} and {two.name} overlap"


def test_every_read_of_a_value_has_a_wire_to_its_reader() -> None:
    graph = training()
    page = arrange(graph)
    reads = {(value, card) for card, _, _ in page.cards for value in card.reads}
    ends = {}
    for wire in page.wires:
        if wire.arrow:
            ends.setdefault(wire.value, []).append(wire.points[-1])
    for value, card in reads:
        x, y = next((x, y) for c, x, y in page.cards if c is card)
        width, height = card.size
        assert any(x - 1 <= px <= x + width + 1 and y - 1 <= py <= y + height + 1 for px, py in ends[value])


def test_a_layers_gradient_stands_beside_the_layer() -> None:
    page = arrange(training())
    rows = {(box.label, box.lane): (y, y + box.size[1]) for box, _, y in page.boxes}
    for layer in ("conv2d", "pool2d", "head/dense"):
        (top, bottom), (its_top, its_bottom) = rows[layer, "forward"], rows[layer, "backward"]
        assert its_top < bottom
        assert top < its_bottom
    assert [name for name, _, _ in page.lanes] == ["forward", "backward", "update"]


def test_lanes() -> None:
    graph = training()
    lanes = lane_of(graph)
    assert {lanes[node] for node in graph.nodes if node.loc.backward} == {"backward"}
    assert {node.loc.scope for node in graph.nodes if lanes[node] == "update" and not isinstance(node.op, Constant)} == {"sgd"}
    assert {lanes[value.node] for value in graph.outputs} == {"forward"}


def test_a_running_statistic_stays_with_its_layer() -> None:
    x, w = ir.placeholder("x", "f32[N,3]"), ir.parameter("w", (3,), zeros)
    with scope("norm"):
        mean = ir.mean(x, 0)
        seen = ir.state("norm/mean", (3,), zeros)
        y = (x - mean) * w
    loss = ir.mean(y * y)
    from graphnn.autodiff.gradients import gradients

    (g,) = gradients(loss, [w])
    with scope("norm"):
        new = seen * 0.9 + mean * 0.1
    graph = Graph.of("step", [x], [loss], updates=[(w, w - g), (seen, new)])
    assert lane_of(graph)[new.node] == "forward"
    svg(graph)


def test_a_fused_node_lists_its_ops() -> None:
    (card,) = (g for g in groups(svg(fused())) if g.get("class") == "fused")
    assert "mul · tanh · add" in texts(card)


def test_a_layer_used_twice_is_two_boxes() -> None:
    x = ir.placeholder("x", "f32[N,4]")
    weight = ir.parameter("shared/weight", (4, 4), zeros)
    h: Value = x
    for _ in range(2):
        with scope("shared"):
            h = h @ weight
        with scope("between"):
            h = ir.tanh(h)
    page = arrange(Graph.of("g", [x], [h]))
    assert [box.label for box, _, _ in page.boxes].count("shared") == 2


def blocks(*, torn: bool) -> Graph:
    """Two blocks, each with layers inside and work of its own around and between them; `torn`: the first one's last sum comes
    after the second block, and is the sum of both."""
    x = ir.placeholder("x", "f32[N,4]")
    h: Value = x
    for name in ("first", "second"):
        with scope(name):
            start = h * 2.0
            with scope("inner"):
                a = ir.tanh(start @ ir.parameter(f"{name}/inner/weight", (4, 4), zeros))
            b = a + start
            with scope("norm"):
                h = b - ir.mean(b, 1, keepdims=True)
        if name == "first":
            kept = b
    if torn:
        with scope("first"):
            h = h + kept
    return Graph.of("blocks", [x], [h])


def test_a_block_holds_its_layers_and_what_it_does_between_them() -> None:
    page = arrange(blocks(torn=False))
    assert sorted(box.label or "" for box, _, _ in page.boxes) == sorted(["first", "inner", "norm", "second", "inner", "norm"])
    labels = [box.label for box, _, _ in arrange(blocks(torn=True)).boxes]
    assert labels.count("first") == 2
    assert labels.count("second") == 1


@pytest.mark.parametrize("graph", [network(), training(), chain(20), blocks(torn=False), blocks(torn=True)], ids=lambda g: g.name)
def test_wires_run_with_their_lane(graph: Graph) -> None:
    """Down in the forward lane, up in the others."""
    for wire in arrange(graph).wires:
        if not wire.across:
            heights = [y if wire.lane == "forward" else -y for _, y in wire.points]
            assert heights == sorted(heights), f"{wire.value.node.op.name} in the lane {wire.lane}"


def test_text_is_escaped_and_control_characters_are_dropped() -> None:
    x = ir.placeholder("x", "f32[N]")
    with scope('a<b>&"c\x01'):
        y = ir.tanh(x)
    root = ET.fromstring(svg(Graph.of("g", [x], [y])))
    assert any("".join(t.itertext()).startswith('a<b>&"c') for t in root.iter(f"{SVG}text"))


@pytest.mark.parametrize("graph", [
    Graph.of("none", [], []),
    Graph.of("through", [x := ir.placeholder("x", "f32[N]")], [x]),
    Graph.of("numbers", [], [ir.constant(3.0), ir.constant(np.zeros((2, 3)))]),
    Graph.of("param", [], [ir.parameter("w", (3,), zeros)]),
], ids=lambda g: g.name)
def test_graphs_with_hardly_anything_in_them(graph: Graph) -> None:
    ET.fromstring(svg(graph))


def test_hundreds_of_nodes() -> None:
    graph = chain(200)
    assert len(graph.nodes) > 600
    assert len(groups(svg(graph))) == sum(not isinstance(n.op, Constant) for n in graph.nodes) + 2


def test_drawing_twice_gives_the_same_text(tmp_path: Path) -> None:
    graph = training()
    draw(graph, tmp_path / "g.svg")
    assert (tmp_path / "g.svg").read_text(encoding="utf-8") == svg(graph)


def test_a_file_of_another_kind_is_not_written(tmp_path: Path) -> None:
    for name in ("g.png", "g.PDF"):
        with pytest.raises(UnsupportedError, match=name):
            draw(training(), tmp_path / name)
    assert not list(tmp_path.iterdir())
