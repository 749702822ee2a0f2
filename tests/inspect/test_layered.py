"""Layouts: links lead to later layers, nothing overlaps, few crossings where none are needed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.inspect.layered import Layered, Link


@st.composite
def drawings(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[Link]]:
    count = draw(st.integers(0, 14))
    sizes = draw(st.lists(st.tuples(st.floats(4, 200), st.floats(0, 90)), min_size=count, max_size=count))
    item = st.integers(0, max(count - 1, 0))
    pairs = draw(st.lists(st.tuples(item, item), max_size=30 if count else 0))
    return sizes, [Link(a, b, a) for a, b in dict.fromkeys(pairs)]


@settings(max_examples=150, deadline=None)
@given(drawings())
def test_nothing_overlaps_and_routes_join_their_ends(drawing: tuple[list[tuple[float, float]], list[Link]]) -> None:
    sizes, links = drawing
    flow = Layered(sizes, links)
    for items in flow.order:
        for a, b in pairwise(items):
            assert flow.x[a] + flow.widths[a] / 2 <= flow.x[b] - flow.widths[b] / 2 + 1e-6
    for upper, lower in pairwise(range(len(flow.order))):
        assert flow.tops[upper] + flow.layer_heights[upper] <= flow.tops[lower]
    for link in links:
        route = flow.route(link)
        assert abs(route[0][0] - flow.x[link.source]) < 1e-6
        assert abs(route[-1][0] - flow.x[link.target]) < 1e-6
        if link not in flow.against:
            assert flow.layer[link.source] < flow.layer[link.target]
            assert all(a[1] <= b[1] + 1e-6 for a, b in pairwise(route))
    if all(link.source < link.target for link in links):
        assert not flow.against


def test_a_chain_is_straight_and_a_long_link_goes_around() -> None:
    flow = Layered([(60, 20)] * 4, [Link(0, 1, "a"), Link(1, 2, "b"), Link(2, 3, "c"), Link(0, 3, "a")])
    assert flow.layer[:4] == [0, 1, 2, 3]
    bends = flow.route(Link(0, 3, "a"))[2:-2]
    assert all(abs(x - flow.x[1]) >= 30 for x, _ in bends)


def test_crossings_that_can_be_avoided_are() -> None:
    # Two rows given crosswise: 0 and 1 lead to 3 and 2.
    flow = Layered([(40, 20)] * 4, [Link(0, 3, 0), Link(1, 2, 1)])
    assert (flow.x[0] < flow.x[1]) == (flow.x[3] < flow.x[2])


def test_what_nothing_leads_to_lies_next_to_its_reader() -> None:
    flow = Layered([(40, 20)] * 4, [Link(0, 1, 0), Link(1, 2, 1), Link(3, 2, 3)])
    assert flow.layer == [0, 1, 2, 1]


def test_a_circle_is_drawn_with_one_link_against_the_flow() -> None:
    links = [Link(0, 1, 0), Link(1, 2, 1), Link(2, 0, 2)]
    assert Layered([(40, 20)] * 3, links).against == {links[2]}
