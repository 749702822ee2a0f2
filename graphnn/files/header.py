"""The header's bytes: canonical msgpack, walked over token by token before anything is made of it.

msgpack itself accepts duplicate keys, long forms of short values and endless nesting of nothing; none of these passes here.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

from graphnn.errors import FileFormatError, VerifyError

MAX_DEPTH = 32
MAX_TOKENS = 1 << 22        # values in a header, and of these
MAX_EMPTY = 100_000         # empty containers: one byte each in a file, 56 and more in memory
MAX_STRING = 1 << 20
MAX_BYTES = 64              # a digest, or a small constant
MAX_TREE_DEPTH = 16         # of the caller's own training state and metadata


def _scalar_widths() -> list[int]:
    """For each first byte, the bytes of a whole scalar or short string; 0 where the length is elsewhere; -1 where none may be."""
    widths = [1] * 256
    widths[0x80:0xA0] = [0] * 32                         # short maps and arrays
    widths[0xA0:0xC0] = [1 + n for n in range(32)]       # short strings
    for first, width in ((0xC0, 1), (0xC1, -1), (0xC2, 1), (0xC3, 1), (0xC4, 0), (0xC5, 0), (0xC6, 0), (0xC7, -1), (0xC8, -1),
                         (0xC9, -1), (0xCA, -1), (0xCB, 9), (0xCC, 2), (0xCD, 3), (0xCE, 5), (0xCF, 9), (0xD0, 2), (0xD1, 3),
                         (0xD2, 5), (0xD3, 9), (0xD4, -1), (0xD5, -1), (0xD6, -1), (0xD7, -1), (0xD8, -1), (0xD9, 0), (0xDA, 0),
                         (0xDB, 0), (0xDC, 0), (0xDD, 0), (0xDE, 0), (0xDF, 0)):
        widths[first] = width
    return widths


_WIDTHS = _scalar_widths()
# first byte -> (bytes of the length, values per unit of length; 0: bytes, not values; its largest length)
_LENGTHS = {0xC4: (1, 0, MAX_BYTES), 0xC5: (2, 0, MAX_BYTES), 0xC6: (4, 0, MAX_BYTES), 0xD9: (1, 0, MAX_STRING),
            0xDA: (2, 0, MAX_STRING), 0xDB: (4, 0, MAX_STRING), 0xDC: (2, 1, MAX_TOKENS), 0xDD: (4, 1, MAX_TOKENS),
            0xDE: (2, 2, MAX_TOKENS), 0xDF: (4, 2, MAX_TOKENS)}


def scan(header: bytes) -> None:
    """Walk over the tokens without making objects. Raises FileFormatError for depth, numbers and kinds that may not be."""
    widths, end = _WIDTHS, len(header)
    at = tokens = empty = 0
    left, stack = 1, []                                  # values still to come here, and in the containers around
    while True:
        while not left:
            if not stack:
                if at != end:
                    raise FileFormatError(f"the header has {abs(end - at)} bytes too {'many' if at < end else 'few'}")
                return
            left = stack.pop()
        left -= 1
        if at >= end:
            raise FileFormatError("the header ends within a value")
        first = header[at]
        width = widths[first]
        if width > 0:
            at += width
            continue
        if width < 0:
            raise FileFormatError(f"the header holds a kind of value that may not be there (byte {first:#04x} at {at})")
        if first < 0xA0:
            count = (first & 15) * (2 if first < 0x90 else 1)
            at += 1
        else:
            size, per, largest = _LENGTHS[first]
            length = int.from_bytes(header[at + 1:at + 1 + size], "big")
            if length > largest:
                raise FileFormatError(f"the header holds a value of length {length}; at most {largest} can be")
            at += 1 + size
            if not per:
                at += length
                continue
            count = length * per
        if not count:
            empty += 1
            if empty > MAX_EMPTY:
                raise FileFormatError(f"the header holds more than {MAX_EMPTY} empty lists")
            continue
        tokens += count
        if tokens > MAX_TOKENS or count > end - at:      # a value takes a byte at least
            raise FileFormatError(f"the header claims {tokens} values; at most {min(MAX_TOKENS, end)} can be")
        stack.append(left)
        if len(stack) > MAX_DEPTH:
            raise FileFormatError(f"the header is nested more than {MAX_DEPTH} deep")
        left = count


def unpack_header(header: bytes) -> dict[str, Any]:
    """The map that the header holds. That it is canonical is for the caller to check: by packing what was understood."""
    scan(header)
    try:
        tree = msgpack.unpackb(header, raw=False, strict_map_key=True)
    except Exception as error:                           # msgpack raises ten kinds, and no more is to be said of any
        raise FileFormatError(f"the header is not well formed: {error}") from error
    if not isinstance(tree, dict):
        raise FileFormatError("the header is no map")
    return tree


def pack_header(tree: dict[str, Any]) -> bytes:
    """The canonical bytes of a tree whose maps have sorted keys."""
    try:
        return msgpack.packb(tree, use_bin_type=True, strict_types=True)  # pyright: ignore[reportReturnType]
    except (UnicodeEncodeError, OverflowError, ValueError, TypeError) as error:
        raise VerifyError(f"this cannot be written to a file: {error}") from error


def plain_tree(value: Any, where: str, depth: int = 0) -> Any:
    """The caller's own data as maps with sorted keys, lists, strings, numbers. Raises VerifyError naming what else it holds.

    NumPy numbers become Python's, tuples become lists: what is loaded is what a second load would give.
    """
    if depth > MAX_TREE_DEPTH:
        raise VerifyError(f"{where} is nested more than {MAX_TREE_DEPTH} deep")
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise VerifyError(f"{where} holds {value}, which does not fit 64 bits")
        return int(value)
    if isinstance(value, float):
        return math.nan if value != value else float(value)
    if isinstance(value, str):
        if len(value) > MAX_STRING // 4:
            raise VerifyError(f"{where} holds a string of {len(value)} characters; at most {MAX_STRING // 4} can be")
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain_tree(item, where, depth + 1) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise VerifyError(f"{where} has the key {key!r}; keys are strings")
        return {str(key): plain_tree(value[key], f"{where}.{key[:40]}", depth + 1) for key in sorted(value, key=by_bytes)}
    raise VerifyError(f"{where} holds a {type(value).__name__}; a file holds numbers, strings, lists and maps",
                      hint="give arrays in `arrays`")


def by_bytes(name: str) -> bytes:
    """The order of names in files. A lone surrogate has no UTF-8 form, and is refused when packed."""
    return name.encode("utf-8", "surrogatepass")
