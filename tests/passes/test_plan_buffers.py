"""Buffer plans: lifetimes, memory shared in place, results made where they belong, offsets near the lower bound."""

from __future__ import annotations

import random

import numpy as np
import pytest

import graphnn as gnn
from graphnn.ir.graph import Graph, Value
from graphnn.ir.iteration_space import iteration_space
from graphnn.ir.op import make_node
from graphnn.ir.ops.fused import Fused, in_step
from graphnn.ir.ops.inputs import constant, parameter, placeholder, state
from graphnn.passes.pipeline import DEFAULT
from graphnn.passes.plan_buffers import ALIGN, Buffer, BufferPlan, Slot, lifetimes, plan_buffers
from tests.random_graphs import SIZES, random_graph


def planned(graph: Graph, **sizes: int) -> BufferPlan:
    return plan_buffers(lifetimes(graph), sizes)


def x_of(text: str = "f32[N,16]", name: str = "x") -> Value:
    return placeholder(name, text)


# ------------------------------------------------------------------------------------------ in place


def test_a_chain_of_elementwise_nodes_is_done_in_one_buffer() -> None:
    x = x_of()
    a = gnn.matmul(x, parameter("w", (16, 16)))
    y = gnn.matmul(gnn.exp(gnn.tanh(gnn.sin(a))), parameter("v", (16, 16)))
    plan = planned(Graph.of("chain", [x], [y]), N=4)
    assert plan.arena == plan.lower_bound == 4 * 16 * 4
    assert len(plan.life.buffers) == 1
    assert len(plan.life.buffers[0].values) == 4


def test_a_value_read_later_keeps_its_buffer() -> None:
    x = x_of()
    a = gnn.matmul(x, parameter("w", (16, 16)))
    b = gnn.tanh(a)
    y = gnn.matmul(b, parameter("v", (16, 16))) + gnn.sum(a * b)
    plan = planned(Graph.of("later", [x], [y]), N=4)
    assert plan.slot(a) != plan.slot(b)
    assert plan.lower_bound >= 2 * 4 * 16 * 4


def test_an_operand_read_twice_in_another_order_is_not_overwritten() -> None:
    a, w = placeholder("a", "f32[16,16]"), parameter("w", (16, 16))
    b = a @ w
    y = gnn.tanh(b + gnn.transpose(b)) @ w
    graph = Graph.of("transposed", [a], [y])
    plan = planned(graph)
    turned = next(node.output for node in graph.nodes if node.op.name == "transpose")
    assert plan.slot(b).kind == plan.slot(turned).kind == "arena"
    assert plan.slot(b) != plan.slot(turned)


def test_views_live_as_long_as_their_source_and_share_its_place() -> None:
    x = x_of("f32[N,4,4]")
    a = gnn.exp(x)
    view = gnn.reshape(a, (x.shape[0], 16))
    late = gnn.matmul(gnn.sin(gnn.sum(x, 0)), parameter("w", (4, 16)))
    y = view + gnn.sum(late, 0)
    plan = planned(Graph.of("views", [x], [y]), N=3)
    assert plan.slot(view) == plan.slot(a)
    kept = [buffer.end for buffer in plan.life.buffers if a in buffer.values]
    assert kept == [plan.life.graph.nodes.index(y.node)] or plan.slot(a).kind == "output"


def body_of(text: str, inputs: list[Value], outputs: list[Value]) -> Graph:
    body = Graph.of(text, inputs, outputs)
    assert iteration_space(body) is not None, "no body that a kernel could have"
    return body


def test_which_fused_bodies_may_work_in_place() -> None:
    x, y = (placeholder(name, "f32[N,6]") for name in "xy")
    row, column = placeholder("row", "f32[6]"), placeholder("column", "f32[N,1]")
    assert in_step(body_of("map", [x, y], [x * y])) == ((0, 0), (0, 1))
    assert in_step(body_of("broadcast", [x, row], [x + row])) == ((0, 0),)
    assert in_step(body_of("stretched", [x, row], [gnn.expand(row, (x.shape[0], 6)) * x])) == ((0, 0),)
    assert in_step(body_of("column", [x, column], [x * column])) == ((0, 0),)
    assert in_step(body_of("cast", [x], [gnn.cast(x, "i32"), gnn.cast(x, "f64")])) == ()
    # one sweep of sums: what is kept may be written when the sweep is over
    assert in_step(body_of("sum", [x, row], [row + gnn.sum(x, 0)])) == ((0, 1),)
    # a second sweep reads the row again
    assert in_step(body_of("norm", [x, row], [row + gnn.sum(x, 0), x * row])) == ()
    assert in_step(body_of("other", [x, y, row], [row + gnn.sum(x, 0), x * y])) == ((0, 2),)
    # sums of what follows from sums need several sweeps
    mean = gnn.sum(x, 0)
    assert in_step(body_of("twice", [x, row], [row + gnn.sum((x - mean) * (x - mean), 0)])) == ()


def test_a_square_operand_along_the_other_axis_is_not_taken() -> None:
    x, row = placeholder("x", "f32[6,6]"), placeholder("row", "f32[6]")
    body = body_of("other_axis", [x, row], [gnn.sum(x * row, 1)])
    assert in_step(body) == ()                               # f32[6] goes in along axis 1 and comes out along axis 0
    out = make_node(Fused(body), (x, row)).outputs
    assert out[0].type == row.type


# ------------------------------------------------------------------------------------------ results


def test_results_are_made_in_the_callers_array() -> None:
    x = x_of()
    a = gnn.exp(x)
    plan = planned(Graph.of("out", [x], [a, gnn.reshape(a, (16 * x.shape[0],)), x, a]), N=2)
    assert plan.slot(a) == Slot("output", 0)
    assert [slot for _, slot in plan.life.last_copies] == [Slot("output", 1), Slot("output", 2), Slot("output", 3)]
    assert plan.arena == 0


def test_a_state_is_updated_in_place_only_after_its_last_reader() -> None:
    x = x_of("f32[16]")
    p = parameter("p", (16,))
    new = gnn.exp(p) * x
    late = gnn.flip(p, 0) + gnn.sum(new)
    graph = Graph.of("late", [x], [late], updates=[(p, new)])
    place = {node: i for i, node in enumerate(graph.nodes)}
    plan = planned(graph)
    reader = next(node for node in graph.nodes if node.op.name == "flip")
    in_place = plan.slot(new) == Slot("state", graph.inputs.index(p))
    assert in_place == (place[reader] < place[new.node])
    assert in_place or [slot.kind for _, slot in plan.life.last_copies] == ["state"]


def test_states_that_change_places_are_kept_before_they_are_overwritten() -> None:
    a, b = state("a", (8,)), state("b", (8,))
    plan = planned(Graph.of("swap", [], [], updates=[(a, b), (b, a)]))
    assert len(plan.life.first_copies) == 2
    assert len(plan.life.last_copies) == 2
    assert {slot.kind for _, slot in plan.life.last_copies} == {"state"}
    assert plan.arena == 2 * ALIGN


def test_an_old_value_that_is_a_result_is_copied_once() -> None:
    a, b = state("a", (8,)), state("b", (8,))
    graph = Graph.of("old", [], [a, gnn.reshape(a, (2, 4)), b], updates=[(a, b + 1.0), (b, a * 2.0)])
    plan = planned(graph)
    assert [plan.slot(copy) for _, copy in plan.life.first_copies if plan.slot(copy).kind == "output"] == [
        plan.slot(copy) for _, copy in plan.life.first_copies]
    assert [slot for _, slot in plan.life.last_copies if slot.kind == "output"] == [Slot("output", 1)]


def test_a_state_is_not_written_before_the_last_range_check() -> None:
    ids, p = placeholder("ids", "i64[N]"), state("p", (4,))
    new = p * 2.0
    checked = gnn.gather(parameter("table", (9, 4)), ids)
    graph = Graph.of("checked", [ids], [checked], updates=[(p, new)])
    check = next(n for n in graph.nodes if n.op.name == "check_index")
    first = Graph(graph.name, graph.inputs, graph.outputs, tuple(sorted(graph.nodes, key=lambda n: n is not new.node and
                  n.op.name != "constant")), graph.updates)
    last = Graph(graph.name, graph.inputs, graph.outputs, tuple(sorted(graph.nodes, key=lambda n: n is new.node)), graph.updates)
    assert first.nodes.index(check) > first.nodes.index(new.node)
    assert planned(first, N=3).slot(new).kind == "arena"
    assert planned(last, N=3).slot(new).kind == "state"


def test_a_node_that_checks_before_it_writes_may_be_the_last_check_and_write_a_state() -> None:
    names = {"bias": "f32[5]", "offset": "f32[5]", "words": "i32[N]", "left": "i32[N]", "right": "i32[N]", "targets": "i32[N,2]",
             "labels": "f32[N,2]", "lr": "f32[]"}
    given = [placeholder(*named) for named in names.items()]
    inside, outside = parameter("inside", (9, 4)), parameter("outside", (5, 4))
    new_inside, new_outside, _, loss = gnn.word_vector_steps(inside, outside, *given, chunk=4, window=2)

    def kinds(outputs: list[Value]) -> list[str]:
        plan = planned(Graph.of("words", given, outputs, updates=[(inside, new_inside), (outside, new_outside)]), N=8)
        return [plan.slot(value).kind for value in (new_inside, new_outside)]

    assert kinds([gnn.sum(loss)]) == ["state", "state"]
    later = gnn.gather(parameter("table", (9, 4)), gnn.cast(gnn.argmax(gnn.reshape(loss, (1, "N"))), "i64"))
    assert kinds([later]) == ["arena", "arena"]                           # this checks ids after the steps


def test_row_updates_of_one_state_are_all_made_in_its_memory() -> None:
    given = [("ids", "i64[N]"), ("other", "i64[2]"), ("g", "f32[N,4]"), ("h", "f32[2,4]")]
    ids, other, g, h = inputs = [placeholder(*named) for named in given]
    table = parameter("table", (9, 4))
    once = gnn.scatter_add(table, ids, g)
    twice = gnn.scatter_add(once, other, h)

    def kinds(outputs: list[Value]) -> list[str]:
        graph = DEFAULT(Graph.of("rows", inputs, outputs, updates=[(table, twice)]))
        plan = planned(graph, N=3)
        return [plan.slot(node.output).kind for node in graph.nodes if node.op.name == "scatter_add"]

    assert kinds([]) == ["state", "state"]
    assert kinds([gnn.sum(table)]) == ["state", "state"]                  # read before both
    assert kinds([once]) == ["output", "state"]
    assert kinds([gnn.exp(table) * gnn.sum(once)])[0] == "arena"          # the old table is read after the first
    assert kinds([gnn.sum(once)])[0] == "arena"                           # the first is read by somebody else too


def test_constants_take_no_room() -> None:
    c = constant(np.zeros(1000, np.float32))
    x = x_of("f32[1000]")
    plan = planned(Graph.of("c", [x], [x + c, c]))
    assert plan.slot(c) == Slot("constant", 0)
    assert plan.arena == 0


# ------------------------------------------------------------------------------------------ offsets


def apart(plan: BufferPlan) -> None:
    placed = [(plan.slots[b.root].offset, plan.nbytes[b.root], b) for b in plan.life.buffers]
    for i, (offset, nbytes, buffer) in enumerate(placed):
        assert offset % ALIGN == 0
        assert 0 <= offset <= offset + nbytes <= plan.arena
        for other, size, second in placed[:i]:
            if buffer.start <= second.end and second.start <= buffer.end and nbytes and size:
                assert offset + nbytes <= other or other + size <= offset


@pytest.mark.parametrize("seed", range(40))
def test_arenas_of_random_graphs(seed: int) -> None:
    graph = DEFAULT(random_graph(seed))
    for n in (1, SIZES["N"], 64):
        plan = planned(graph, N=n)
        apart(plan)
        assert plan.lower_bound <= plan.arena <= 1.05 * plan.lower_bound
        again = planned(graph, N=n)
        assert {v: s for v, s in again.slots.items()} == dict(plan.slots), "plans repeat"


def test_arenas_of_random_lives() -> None:
    """Lives without a graph: sizes from one line to megabytes."""
    from graphnn.passes import plan_buffers as module

    worst = 0.0
    for seed in range(60):
        rng = random.Random(seed)
        buffers, nbytes = [], {}
        for i in range(rng.randrange(2, 50)):
            value = placeholder(f"v{i}", "f32[1]")
            start = rng.randrange(60)
            buffers.append(Buffer([value], start, start + rng.randrange(1, 25)))
            nbytes[value] = ALIGN * rng.choice([1, 1, 2, 3, 16, 100, 1000, 1024, 4096])
        bound = module._largest_live_set(buffers, nbytes)
        peak, offsets = module._best_offsets(buffers, nbytes, bound)
        for i, a in enumerate(buffers):
            for b in buffers[:i]:
                if a.start <= b.end and b.start <= a.end:
                    x, y = offsets[a.root], offsets[b.root]
                    assert x + nbytes[a.root] <= y or y + nbytes[b.root] <= x
        assert max(offsets[b.root] + nbytes[b.root] for b in buffers) == peak >= bound
        worst = max(worst, peak / bound)
    assert worst <= 1.05


def test_sizes_that_are_zero_and_graphs_without_nodes() -> None:
    x = x_of()
    y = gnn.matmul(gnn.softmax(x), parameter("w", (16, 16)))
    plan = planned(Graph.of("empty", [x], [gnn.sum(y, 1)]), N=0)
    assert plan.arena == plan.lower_bound == 0
    assert planned(Graph.of("nothing", [x], [x]), N=3).arena == 0


def test_a_plan_can_be_read() -> None:
    x = x_of()
    y = gnn.matmul(gnn.softmax(gnn.matmul(x, parameter("w", (16, 16)))), parameter("v", (16, 16)))
    text = str(planned(Graph.of("g", [x], [y]), N=2))
    assert text.startswith("arena ")
    assert "f32[N,16]" in text
    assert "bytes" in text
