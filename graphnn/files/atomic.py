"""Write a file so that its name always stands for a whole file: the old one, or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterable
from typing import BinaryIO

PathLike = str | os.PathLike[str]
LEFT_SECONDS = 3600                # a temporary file that nobody has written to for so long is nobody's


def write_atomically(path: PathLike, chunks: Iterable[bytes | memoryview]) -> None:
    """Write `chunks` to a new file beside `path`, bring it to the disk, and give it the name `path` in one step.

    Whatever fails on the way (a full disk, an interrupt), the old file stays as it was and the new one is removed. A process
    killed outright may leave a hidden file `.NAME.*.tmp` behind, never a damaged one under the name; a later save to the name
    removes it once it has lain for an hour. A symbolic link is followed: the file it points to is replaced. Views of the old
    file that are mapped into memory keep the old contents.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    if not os.path.exists(folder):                       # else the error would name the temporary file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    temporary = os.path.join(folder, f".{name[:100]}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
    try:
        with create(temporary) as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):     # the new file is as open or closed to others as the old one
            os.chmod(temporary, os.stat(target).st_mode & 0o777)
        os.replace(temporary, target)
        _remove_left(folder, name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _remove_left(folder: str, name: str) -> None:
    """Remove what processes that were killed while they saved to this name have left; a save under way writes more often."""
    left = re.compile(rf"\.{re.escape(name[:100])}\.\d+\.[0-9a-f]{{16}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if left.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - LEFT_SECONDS:
                        os.unlink(entry.path)


def create(path: str) -> BinaryIO:
    """A new file to write to; fails when there is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb", buffering=1 << 20)


def _sync_folder(folder: str) -> None:
    """Bring the renaming itself to the disk, where the system lets folders be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):               # some file systems cannot; the data is safe by now
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
