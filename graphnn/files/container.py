"""The container: a preamble of 64 bytes, a header, and tensors on 64-byte boundaries (docs/file_format.md).

Here bytes are found and checked; what the header says is read in header.py, graphs in graph_tree.py.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphnn.errors import FileFormatError
from graphnn.files.atomic import PathLike

MAGIC = b"\x89GNN\r\n\x1a\n"        # not UTF-8, and damaged by every conversion of line ends
MAJOR, MINOR = 1, 0
FEATURES = 0                        # required features this reader knows: none yet
ALIGN = 64
MAX_HEADER = 1 << 24
MAP_ABOVE = 64 << 20                # larger files are mapped into memory, smaller ones copied

_PREAMBLE = struct.Struct("<8sHHIQQQ24s")
PREAMBLE_BYTES = _PREAMBLE.size
assert PREAMBLE_BYTES == 64


@dataclass(frozen=True)
class Preamble:
    """Where the header and the tensors of a file are."""

    minor: int
    header_bytes: int
    data_at: int
    file_bytes: int
    digest: bytes


def aligned(offset: int) -> int:
    """The next multiple of 64."""
    return -(-offset // ALIGN) * ALIGN


def pack(header: bytes, data_bytes: int) -> bytes:
    """Everything before the tensors: preamble, header, zeros up to the boundary."""
    if len(header) > MAX_HEADER:
        raise FileFormatError(f"the header has {len(header)} bytes; a file holds at most {MAX_HEADER}",
                              hint="very large graphs can be split over several files")
    data_at = aligned(PREAMBLE_BYTES + len(header))
    start = _PREAMBLE.pack(MAGIC, MAJOR, MINOR, FEATURES, len(header), data_at, data_at + data_bytes, b"")[:40]
    return (start + _digest(start, header) + header).ljust(data_at, b"\0")


def _digest(start: bytes, header: bytes) -> bytes:
    return hashlib.sha256(start + header).digest()[:24]


def unpack(raw: bytes, file_bytes: int) -> Preamble:
    """The preamble, checked against the true length of the file. Raises FileFormatError."""
    if raw[:8] != MAGIC[:len(raw)] or len(raw) < 8:
        raise FileFormatError("not a graphnn model file" + _guess(raw))
    if len(raw) < PREAMBLE_BYTES:
        raise FileFormatError(f"the file is cut off: {file_bytes} bytes are less than its preamble of {PREAMBLE_BYTES}")
    _, major, minor, features, header_bytes, data_at, length, digest = _PREAMBLE.unpack(raw)
    if major > MAJOR:
        raise FileFormatError(f"the file has format {major}.{minor}; this graphnn reads up to {MAJOR}.x", hint="upgrade graphnn")
    if major == 0:
        raise FileFormatError("the file has format 0, which never was")
    if features & ~FEATURES:
        raise FileFormatError(f"the file needs features {features & ~FEATURES:#x} that this graphnn lacks",
                              hint="upgrade graphnn")
    if length != file_bytes:
        kind = "cut off" if file_bytes < length else "longer than it was written"
        raise FileFormatError(f"the file is {kind}: it says it has {length} bytes, and has {file_bytes}")
    if header_bytes > MAX_HEADER:
        raise FileFormatError(f"the header claims {header_bytes} bytes; at most {MAX_HEADER} are read")
    if data_at != aligned(PREAMBLE_BYTES + header_bytes) or data_at > length or length % ALIGN:
        raise FileFormatError(f"the preamble is damaged: header of {header_bytes} bytes, tensors at {data_at}, {length} in all")
    return Preamble(minor, header_bytes, data_at, length, digest)


def _guess(raw: bytes) -> str:
    for magic, name in ((b"PK\x03\x04", "a zip archive (.npz, .keras, .pt?)"), (b"\x89HDF", "HDF5"), (b"\x80", "a pickle?"),
                        (b"\x93NUMPY", "a NumPy array"), (b"GGUF", "GGUF"), (b"{", "JSON?"), (b"\x1f\x8b", "gzip")):
        if raw.startswith(magic):
            return f"; it looks like {name}"
    return "" if raw else ": it is empty"


class FileReader:
    """An open file: its preamble and header are checked, its tensor section is there when asked for. Use it as `with`."""

    def __init__(self, path: PathLike) -> None:
        # Not to be blocked by a pipe, nor to follow what is no plain file.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self.descriptor = os.open(path, flags)
        try:
            status = os.fstat(self.descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileFormatError("not a plain file")
            raw = self._read(0, min(PREAMBLE_BYTES, status.st_size))
            self.preamble = unpack(raw, status.st_size)
            rest = self._read(PREAMBLE_BYTES, self.preamble.data_at - PREAMBLE_BYTES)
            self.header = rest[:self.preamble.header_bytes]
            if rest[self.preamble.header_bytes:].strip(b"\0"):
                raise FileFormatError("the padding after the header is not zero: the file is damaged")
            if _digest(raw[:40], self.header) != self.preamble.digest:
                raise FileFormatError("the checksum of the header does not match: the file is damaged")
        except BaseException:
            os.close(self.descriptor)
            raise

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)

    def _read(self, offset: int, count: int) -> bytes:
        buffer = bytearray(count)
        self._read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def _read_into(self, buffer: memoryview, offset: int) -> None:
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        done = 0
        with open(self.descriptor, "rb", buffering=0, closefd=False) as file:
            while done < len(buffer):
                got = file.readinto(buffer[done:])
                if not got:
                    raise FileFormatError(f"the file is cut off at byte {offset + done}")
                done += got

    @property
    def data_bytes(self) -> int:
        return self.preamble.file_bytes - self.preamble.data_at

    def data(self, *, mapped: bool) -> np.ndarray:
        """The tensor section as read-only bytes on a 64-byte boundary: mapped from the file, or a copy of it."""
        if mapped and self.data_bytes:
            whole = mmap.mmap(self.descriptor, self.preamble.file_bytes, access=mmap.ACCESS_READ)
            return np.frombuffer(whole, np.uint8)[self.preamble.data_at:]
        room = np.empty(self.data_bytes + ALIGN, np.uint8)
        skip = -room.ctypes.data % ALIGN
        data = room[skip:skip + self.data_bytes]
        self._read_into(data.data, self.preamble.data_at)
        data.flags.writeable = False
        return data


def zero_padding(nbytes: int) -> bytes:
    """The zeros that bring a tensor of `nbytes` to the next boundary."""
    return bytes(aligned(nbytes) - nbytes)


def chunks(head: bytes, tensors: Iterator[memoryview] | list[memoryview]) -> Iterator[bytes | memoryview]:
    """The bytes of a file in order, a tensor at a time."""
    yield head
    for tensor in tensors:
        yield tensor
        yield zero_padding(len(tensor))
