"""The contraction microkernel: every tile of a set, its loops, edges, accumulation; and the split of rows into tiles."""

import numpy as np
import pytest

from graphnn.runtime import instruction_set
from graphnn.runtime.kernels.register_tiles import heights, row_splits
from graphnn.runtime.kernels.tiling import masked
from graphnn.runtime.row import Kernel, Row
from tests.runtime.rows_on_arrays import Rows, address, aligned

BLOCK = 12


def run_tile(dtype: str, height: int, width: int, a, b, c, last: int, accumulate: bool, loops: list[int]) -> None:
    isa = instruction_set.current()
    kernel = Kernel.of(
        "tests.runtime.sample_tiles:one_tile", dtype=dtype, lanes=isa.lanes(dtype), tallest=isa.tile(dtype)[0],
        registers=isa.registers, masked=masked(isa),
    )  # fmt: skip
    strides = [step if i in (3, 6, 9) else step * a.itemsize for i, step in enumerate(loops)]
    args = (height, width, address(a), address(b), address(c), last, int(accumulate), *strides)
    Rows([Row(kernel, args, thread_scratch=1024)]).run_tiles()


def all_tiles(dtype: str) -> list[tuple[int, int]]:
    isa = instruction_set.current()
    wide = {(h, w) for w in (4, 8) for h in range(1, 1 + 16 // w) if h * w + h < isa.registers}
    return [(h, w) for h in heights(isa.tile(dtype)[0]) for w in (1, 2, 4, 8) if w <= 2 or (h, w) in wide]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_tile_sums_three_loops_of_any_strides(dtype):
    rng = np.random.default_rng(0)
    lanes = instruction_set.current().lanes(dtype)
    n0, n1, n2 = 2, 3, 5
    for height, width in all_tiles(dtype):
        cols = width * lanes
        a, b = aligned((n0, height, n2, n1), dtype, rng), aligned((n2, n0, n1, -(-width // 2), 2 * lanes), dtype, rng)
        c = aligned((height, cols + 3), dtype, 1.0)
        a_strides, b_strides = ([s // a.itemsize for s in x.strides] for x in (a, b))
        loops = [a_strides[1], b_strides[3], cols + 3, n0, a_strides[0], b_strides[1], n1, a_strides[3], b_strides[2]]
        loops += [n2, a_strides[2], b_strides[0]]
        expected = np.einsum("piqr,qprj->ij", a.astype("f8"), b.reshape(n2, n0, n1, -1).astype("f8"))[:, :cols]
        run_tile(dtype, height, width, a, b, c, 2 * lanes, False, loops)
        assert np.allclose(c[:, :cols], expected, atol=1e-4), (height, width)
        run_tile(dtype, height, width, a, b, c, 2 * lanes, True, loops)
        assert np.allclose(c[:, :cols], 2 * expected, atol=1e-4), (height, width)
        assert np.all(c[:, cols:] == 1)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_partial_last_panel_writes_its_columns_alone(dtype):
    if not masked(instruction_set.current()):
        pytest.skip("edges are copied where vectors have no masks")
    rng = np.random.default_rng(0)
    lanes = instruction_set.current().lanes(dtype)
    for height, width in all_tiles(dtype):
        for last in (1, lanes - 1, lanes, lanes + 1, 2 * lanes - 1):
            cols = (width - 2) * lanes + last
            if cols <= 0:
                continue                                # half a panel is full or partial in its own vector
            a, b = aligned((height, 7), dtype, rng), aligned((7, -(-width // 2) * 2 * lanes), dtype, rng)
            c = aligned((height, cols + 2 * lanes), dtype, -3.0)
            loops = [7, 2 * lanes, cols + 2 * lanes, 1, 0, 0, 1, 0, 0, 7, 1, b.shape[1]]
            run_tile(dtype, height, width, a, b, c, last, False, loops)
            assert np.allclose(c[:, :cols], a.astype("f8") @ b[:, :cols], atol=1e-4)
            assert np.all(c[:, cols:] == -3)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_square_is_transposed(dtype):
    lanes = instruction_set.current().lanes(dtype)
    source = aligned((lanes, lanes + 3), dtype, np.random.default_rng(0))
    to = aligned((lanes, lanes + 1), dtype, 0.0)
    kernel = Kernel.of("tests.runtime.sample_tiles:one_transpose", dtype=dtype, lanes=lanes)
    Rows([Row(kernel, (address(to), to.strides[0], address(source), source.strides[0]))]).run_tiles()
    assert np.array_equal(to[:, :lanes], source[:, :lanes].T)
    assert np.all(to[:, lanes] == 0)


@pytest.mark.parametrize("tallest", [4, 6, 8, 14])
def test_rows_are_split_into_tiles_that_exist_and_are_not_low(tallest):
    words = row_splits(tallest)
    for rows in range(1, 2 * tallest):
        tiles, left = [], rows
        while left:
            tiles.append(words[left // 15] >> 4 * (left % 15) & 15)
            left -= tiles[-1]
        assert left == 0
        assert set(tiles) <= set(heights(tallest)), (rows, tiles)
        assert len(tiles) <= 3
        # A step of a tile takes as long as its rows, or the latency of a multiply-add, 4: little of it is wasted.
        assert tallest == 4 or sum(max(h, 4) for h in tiles) <= max(4, rows + 1), (rows, tiles)
