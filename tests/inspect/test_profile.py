"""Profiles: sums by node and layer, rates, the table and the page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graphnn import ir
from graphnn.inspect.profile import COPIES, Profile
from graphnn.ir.graph import Graph
from graphnn.ir.loc import scope
from tests.inspect.networks import network, training


def made() -> Profile:
    graph = network()
    rows = [*graph.nodes, graph.nodes[0], None]          # the convolution has two rows; a copy stands at the end
    return Profile.of(graph, rows, [1000.0, 100.0, 100.0, 200.0, 0.0, 500.0, 500.0, 100.0], {"N": 3})


def test_rows_of_a_node_are_added() -> None:
    profile = made()
    assert profile.lines[0].nanoseconds == 1500.0
    assert profile.nanoseconds == 2500.0
    assert [line.name for line in profile.lines] == ["conv2d", "add", "relu", "max_pool2d", "reshape", "matmul", COPIES]


def test_rates_by_hand() -> None:
    conv = made().lines[0]
    assert conv.types == "f32[3,6,6,4]"
    assert conv.flops == 3 * 2 * 36 * 4 * 9
    assert conv.nbytes == 4 * (3 * 64 + 36 + 3 * 144)
    assert conv.gflops == pytest.approx(conv.flops / 1500)
    assert conv.gigabytes == pytest.approx(conv.nbytes / 1500)


def test_layers_hold_all_the_time() -> None:
    profile = made()
    layers = profile.by_layer()
    assert list(layers) == ["conv2d", "pool2d", "head/dense", COPIES]
    assert sum(line.nanoseconds for lines in layers.values() for line in lines) == profile.nanoseconds
    assert [line.nanoseconds for line in profile.by_time()] == sorted((x.nanoseconds for x in profile.lines), reverse=True)


def test_the_table() -> None:
    lines = str(made()).splitlines()
    assert lines[0] == "profile of tiny for N = 3"
    assert lines[1].split() == ["node", "layer", "output", "time", "share", "GFLOP/s", "bytes", "GB/s"]
    assert lines[3].split() == ["conv2d", "conv2d", "f32[3,6,6,4]", "1.5", "us", "60.0%", "5.18", "2.58", "KiB", "1.76"]
    assert any(line.split()[:3] == ["total", "2.5", "us"] for line in lines)
    assert made().table(by_time=True).splitlines()[4].split()[0] == "matmul"


def test_gradients_are_named_by_the_layer_they_come_from() -> None:
    graph = training()
    profile = Profile.of(graph, graph.nodes, [10.0] * len(graph.nodes), {"N": 2})
    assert "conv2d_weight_grad  conv2d (backward)" in str(profile)


def test_no_time_and_no_rows_are_no_division_by_zero() -> None:
    graph = network()
    for profile in (Profile.of(graph, [], [], {}), Profile.of(graph, graph.nodes, [0.0] * len(graph.nodes), {"N": 0})):
        assert "total" in str(profile)
        assert profile.share(0.0) == 0.0


class Page(HTMLParser):
    """Collects the tags of a page and complains about those left open."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.rows += tag == "tr"
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    graph = training()
    profile = Profile.of(graph, graph.nodes, [10.0 + i for i in range(len(graph.nodes))], {"N": 2})
    profile.save(tmp_path / "profile.html")
    text = (tmp_path / "profile.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.sources == []
    assert "http" not in text
    assert page.rows == len(graph.nodes) + 1
    assert all(layer in text for layer in ("conv2d (backward)", "pool2d", "head/dense", "sgd"))


def test_the_page_escapes_names(tmp_path: Path) -> None:
    x = ir.placeholder("x", "f32[N]")
    with scope("<script>alert(1)</script>"):
        y = ir.tanh(x)
    graph = Graph.of("g", [x], [y])
    Profile.of(graph, graph.nodes, [1.0], {"N": 1}).save(tmp_path / "p.html")
    assert "<script>alert" not in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_a_profile_of_a_real_run() -> None:
    import numpy as np

    from graphnn.runtime.compile import compile_graph

    exe = compile_graph(network())
    plan, nanoseconds = exe.profile(np.ones((2, 8, 8, 1), np.float32))
    profile = Profile.of(plan.program.graph, plan.row_nodes, nanoseconds, plan.sizes)
    assert {line.layer for line in profile.lines} >= {"conv2d", "pool2d", "head/dense"}
    assert profile.nanoseconds > 0


def test_memory_chart_of_a_real_plan() -> None:
    from graphnn.inspect.memory import memory_svg
    from graphnn.passes.plan_buffers import lifetimes, plan_buffers

    graph = training()
    plan = plan_buffers(lifetimes(graph), {"N": 5})
    root = ET.fromstring(memory_svg(plan))
    svg = "{http://www.w3.org/2000/svg}"
    boxes = [g for g in root.iter(f"{svg}g") if g.get("class") == "buffer"]
    assert len(boxes) == sum(1 for buffer in plan.life.buffers if plan.nbytes[buffer.values[0]])
    spans = []
    for group in boxes:
        rect = group.find(f"{svg}rect")
        assert rect is not None
        x, y, w, h = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
        spans.append((x, y, x + w, y + h))
    for i, (x0, y0, x1, y1) in enumerate(spans):         # as drawn, to the tenths that are written; slivers have a least height
        for u0, v0, u1, v1 in spans[:i]:
            assert x1 <= u0 + 0.2 or u1 <= x0 + 0.2 or y1 <= v0 + 0.8 or v1 <= y0 + 0.8


def test_memory_chart_of_a_graph_without_buffers() -> None:
    from graphnn.inspect.memory import memory_svg
    from graphnn.passes.plan_buffers import lifetimes, plan_buffers

    x = ir.placeholder("x", "f32[N]")
    ET.fromstring(memory_svg(plan_buffers(lifetimes(Graph.of("g", [x], [x])), {"N": 4})))
