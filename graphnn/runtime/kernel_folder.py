"""The kernel store on disk: one folder an entry, published by one rename, verified before use.

    store/<key>/kernel.o    native code                      store/<key>/source.py   what it was built from
    store/<key>/kernel.ll   its optimised LLVM assembly      store/<key>/MANIFEST    size and SHA-256 of the three

A folder that somebody else may write to is not used at all: whoever writes here runs code as the reader. An entry that
does not match its manifest is moved to `quarantine/` and built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graphnn.errors import KernelStoreError

CODE, ASSEMBLY, SOURCE, MANIFEST = "kernel.o", "kernel.ll", "source.py", "MANIFEST"
_FILES = (CODE, ASSEMBLY, SOURCE)
_HEADER = "graphnn kernel 1"
_KEY = re.compile(r"[0-9a-f]{64}")
_QUARANTINE = "quarantine"
_warned: set[str] = set()


class _Damaged(Exception):
    """An entry that is not what its manifest says."""


@dataclass(frozen=True)
class Info:
    """What `graphnn cache info` prints."""

    path: Path | None
    mode: str
    usable: bool
    writable: bool
    why_not: str
    entries: int
    nbytes: int
    quarantined: int


def mode() -> str:
    """What `GRAPHNN_CACHE` asks for: "on" (the default), "ro" to read only, "off" to keep kernels in memory alone."""
    asked = os.environ.get("GRAPHNN_CACHE") or "on"
    if asked not in ("on", "ro", "off"):
        raise KernelStoreError(f"GRAPHNN_CACHE={asked}: must be on, ro or off")
    return asked


def location() -> Path | None:
    """Where the store is: `GRAPHNN_CACHE_DIR`, else the platform's folder for caches; None without a home."""
    if chosen := os.environ.get("GRAPHNN_CACHE_DIR"):
        return Path(chosen).absolute() / "kernels"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.join(os.environ["HOME"], "Library", "Caches") if os.environ.get("HOME") else ""
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
            base = os.path.join(os.environ["HOME"], ".cache") if os.environ.get("HOME") else ""
    return Path(base) / "graphnn" / "kernels" if os.path.isabs(base) else None


@dataclass(frozen=True)
class Folder:
    """A store that may be read, and written if `writable`."""

    path: Path
    writable: bool

    def read(self, key: str) -> bytes | None:
        """The native code of an entry, verified; None if there is no such entry, or it had to be put aside."""
        entry = self.path / key
        try:
            return _verified(entry)[CODE]
        except FileNotFoundError:
            if not os.path.lexists(entry):
                return None
            self._put_aside(key, "a file is missing")
        except (_Damaged, OSError) as error:
            self._put_aside(key, str(error))
        return None

    def publish(self, key: str, code: bytes, assembly: str, source: str) -> None:
        """Write an entry so that others see it whole or not at all; one that is there already stays."""
        if not self.writable:
            return
        private = self.path / f"tmp.{os.getpid()}.{secrets.token_hex(8)}"
        try:
            private.mkdir(mode=0o700)
            try:
                contents = {CODE: code, ASSEMBLY: assembly.encode(), SOURCE: source.encode()}
                for name in _FILES:
                    _write_durably(private / name, contents[name])
                _write_durably(private / MANIFEST, _manifest(key, contents))
                _sync_folder(private)
                private.rename(self.path / key)
                _sync_folder(self.path)
            finally:
                shutil.rmtree(private, ignore_errors=True)  # gone already when the rename was made
        except OSError as error:
            if not (self.path / key).is_dir():  # else another process was first, which is as good
                _warn(f"kernels cannot be stored in {self.path} ({error.strerror}); they are compiled in every process")

    def entries(self) -> list[str]:
        """All entries, damaged or not."""
        return sorted(name for name in os.listdir(self.path) if _KEY.fullmatch(name))

    def damage(self, key: str) -> str | None:
        """What is wrong with an entry, or None."""
        try:
            _verified(self.path / key)
        except (_Damaged, OSError) as error:
            return str(error)
        return None

    def _put_aside(self, key: str, why: str) -> None:
        _warn(f"a stored kernel was damaged and is built again ({why}); it is kept in {self.path / _QUARANTINE}")
        if not self.writable:
            return
        with contextlib.suppress(OSError):  # another process may be putting it aside, too
            (self.path / _QUARANTINE).mkdir(mode=0o700, exist_ok=True)
            (self.path / key).rename(self.path / _QUARANTINE / f"{key}.{secrets.token_hex(4)}")


def open_folder() -> Folder | None:
    """The store as the environment asks for it; None, after one warning, if there is none that can be trusted."""
    asked = mode()
    if asked == "off":
        return None
    path = location()
    if path is None:
        _warn("no HOME and no GRAPHNN_CACHE_DIR: compiled kernels are not kept for the next process")
        return None
    try:
        if asked == "on" and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        trouble = distrust(path)
    except FileNotFoundError:
        return None  # read only, and nothing there yet
    except OSError as error:
        _warn(f"the kernel store {path} cannot be used ({error.strerror}); kernels are compiled in every process")
        return None
    if trouble:
        _warn(f"the kernel store is not used: {trouble}; kernels are compiled in every process")
        return None
    return Folder(path, asked == "on")


def distrust(path: Path) -> str | None:
    """Why a store must not be used, or None: it must be ours alone, and no stranger may swap a folder above it."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return f"{path} is not a folder"
    if os.name != "posix":
        return None  # the user's own folders are private on Windows, and modes mean nothing
    if found.st_uid != os.geteuid():
        return f"{path} belongs to another user"
    if found.st_mode & 0o022:
        return f"others may write to {path} (chmod go-w it)"
    for parent in path.resolve().parents:
        above = os.stat(parent)
        if above.st_mode & 0o002 and not above.st_mode & stat.S_ISVTX:
            return f"anyone may write to {parent}"
    return None


def _verified(entry: Path) -> dict[str, bytes]:
    """The files of an entry, all of which match its manifest."""
    trouble = distrust_entry(entry)
    if trouble:
        raise _Damaged(trouble)
    contents = {name: _read(entry / name) for name in _FILES}
    if _read(entry / MANIFEST) != _manifest(entry.name, contents):
        raise _Damaged("its files are not those of its manifest")
    return contents


def distrust_entry(entry: Path) -> str | None:
    """Why the folder of an entry must not be read, or None."""
    found = os.lstat(entry)
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a folder"
    if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        return "others may write to it"
    return None


def _read(path: Path) -> bytes:
    """A file of our own that nobody else may write, and not through a link."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _Damaged(f"{path.name} is not a file")
        if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
            raise _Damaged(f"others may write to {path.name}")
        if found.st_size > 1 << 26:
            raise _Damaged(f"{path.name} is too large to be a kernel's")
        data = os.read(handle, found.st_size + 1)
        while len(data) < found.st_size:
            more = os.read(handle, found.st_size - len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(handle)


def _manifest(key: str, contents: dict[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(contents[name]).hexdigest()} {len(contents[name])} {name}" for name in _FILES]
    return "\n".join([_HEADER, f"key {key}", *lines, ""]).encode("ascii")


def _write_durably(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _warn(message: str) -> None:
    """Say it once in a process."""
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def info() -> Info:
    """Where the store is, whether it can be used and why not, and what it holds."""
    asked, path = mode(), location()
    why_not, usable = "", False
    if asked == "off":
        why_not = "GRAPHNN_CACHE=off"
    elif path is None:
        why_not = "no HOME and no GRAPHNN_CACHE_DIR"
    elif not os.path.lexists(path):
        usable, why_not = asked == "on", "" if asked == "on" else "not there yet"
    else:
        why_not = distrust(path) or ""
        usable = not why_not
    if path is None or not path.is_dir():
        return Info(path, asked, usable, usable and asked == "on", why_not, 0, 0, 0)
    entries = [path / name for name in os.listdir(path) if _KEY.fullmatch(name)]
    nbytes = sum(file.stat().st_size for entry in entries for file in _files(entry))
    aside = path / _QUARANTINE
    quarantined = len(os.listdir(aside)) if aside.is_dir() else 0
    writable = usable and asked == "on" and os.access(path, os.W_OK)
    return Info(path, asked, usable, writable, why_not, len(entries), nbytes, quarantined)


def _files(entry: Path) -> Iterator[Path]:
    return (file for file in entry.iterdir() if file.is_file()) if entry.is_dir() else iter(())


def clear() -> int:
    """Remove all entries, the quarantine and left-over work; returns how many entries there were."""
    folder = _trusted()
    if folder is None:
        return 0
    keys = folder.entries()
    for name in os.listdir(folder.path):
        if _KEY.fullmatch(name) or name.startswith("tmp.") or name == _QUARANTINE:
            target = folder.path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()
    return len(keys)


def verify() -> dict[str, str]:
    """What is wrong, by key; an empty dict says that every entry is whole. Changes nothing."""
    folder = _trusted()
    if folder is None:
        return {}
    return {key: damage for key in folder.entries() if (damage := folder.damage(key))}


def _trusted() -> Folder | None:
    """The store on disk whatever `GRAPHNN_CACHE` says; raises if it may not be trusted."""
    path = location()
    if path is None or not os.path.lexists(path):
        return None
    if trouble := distrust(path):
        raise KernelStoreError(f"the kernel store may not be trusted: {trouble}")
    return Folder(path, True)
