"""Images at another size against interpolation written out, and as one picture against slices of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphnn.errors import DTypeError, GraphnnError, ShapeError
from graphnn.nn import utils

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("size", [(28, 28), (3, 11), (1, 1), 5])
@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 5, 7, 3), (3, 1, 2, 1), (1, 1, 1)])
def test_each_row_and_column_is_interpolated_by_itself(shape: tuple[int, ...], size: Any) -> None:
    images = RNG.normal(size=shape)
    high, wide = size if isinstance(size, tuple) else (size, size)

    def along(x: np.ndarray, target: int) -> np.ndarray:
        return np.interp((np.arange(target) + 0.5) * len(x) / target - 0.5, np.arange(len(x)), x)

    expected = np.apply_along_axis(along, 2, np.apply_along_axis(along, 1, images, high), wide)
    found = utils.resize_images(images, size)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    single = utils.resize_images(images.astype(np.float32), size)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_the_size_that_images_have_changes_nothing_and_bytes_become_numbers() -> None:
    images = RNG.integers(0, 255, (2, 4, 3)).astype(np.uint8)
    found = utils.resize_images(images, (4, 3))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
@pytest.mark.parametrize("gap", [0, 2])
def test_images_stand_in_rows_with_a_gap_between(gap: int, channels: tuple[int, ...]) -> None:
    images = RNG.normal(size=(5, 4, 3, *channels))
    picture = utils.tile_images(images, 3, gap=gap, fill=7.0)
    assert picture.shape == (2 * 4 + gap, 3 * 3 + 2 * gap, *(channels if channels != (1,) else ()))
    rest = picture.copy()
    for i, image in enumerate(images):
        row, column = divmod(i, 3)
        place = slice(row * (4 + gap), row * (4 + gap) + 4), slice(column * (3 + gap), column * (3 + gap) + 3)
        np.testing.assert_array_equal(picture[place], image[..., 0] if channels == (1,) else image)
        rest[place] = 7.0
    np.testing.assert_array_equal(rest, 7.0)


def test_by_default_a_picture_is_about_square_and_shows_what_lies_behind() -> None:
    assert utils.tile_images(np.zeros((9, 2, 2))).shape == (8, 8)
    picture = utils.tile_images(np.zeros((10, 2, 2), np.uint8))
    assert picture.shape == (8, 11)
    assert np.isnan(picture).sum() == 8 * 11 - 10 * 4
    assert utils.tile_images(np.ones((1, 2, 2)), 1).tolist() == [[1, 1], [1, 1]]


WRONG: Any = {"fill": "white", "size": (3, 3, 3)}


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: utils.tile_images(np.zeros((2, 4))), ShapeError, r"\(2, 4\)"),
    (lambda: utils.tile_images(np.zeros((0, 4, 4))), ShapeError, "none of them 0"),
    (lambda: utils.tile_images(np.zeros((2, 4, 4)), 0), ShapeError, "columns is 0"),
    (lambda: utils.tile_images(np.zeros((2, 4, 4)), gap=-1), ShapeError, "gap is -1"),
    (lambda: utils.tile_images(np.zeros((2, 4, 4)), fill=WRONG["fill"]), ShapeError, "fill is 'white'"),
    (lambda: utils.tile_images(np.array([[["a"]]])), DTypeError, "<U1"),
    (lambda: utils.resize_images(np.zeros((2, 4, 4)), 0), GraphnnError, "size is 0"),
    (lambda: utils.resize_images(np.zeros((2, 4, 4)), WRONG["size"]), GraphnnError, r"size is \(3, 3, 3\)"),
    (lambda: utils.resize_images(np.zeros((2, 4, 4), complex), 3), DTypeError, "complex128")])
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
