"""Where a node comes from: the user's file and line, and the path of the layers around the call."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(frozen=True)
class Loc:
    """The first frame outside the package, and the layer path; `backward` marks nodes made by a gradient."""

    file: str = ""
    line: int = 0
    function: str = ""
    scope: str = ""
    backward: bool = False

    def __str__(self) -> str:
        place = f"{os.path.basename(self.file)}:{self.line}" if self.file else ""
        parts = [place, self.scope, "(backward)" if self.backward else ""]
        return " ".join(part for part in parts if part)

    @property
    def called_at(self) -> str:
        inside = f" in {self.function}" if self.function not in ("", "<module>") else ""
        return f"{self.file}:{self.line}{inside}" if self.file else ""


_scope: ContextVar[str] = ContextVar("graphnn_scope", default="")
_inherited: ContextVar[Loc | None] = ContextVar("graphnn_loc", default=None)


def here() -> Loc:
    """The location to give to a node made now."""
    inherited = _inherited.get()
    if inherited is not None:
        return inherited
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    code = frame.f_code
    if code.co_filename.startswith(_PACKAGE):
        return Loc(scope=_scope.get())
    return Loc(code.co_filename, frame.f_lineno, code.co_name, _scope.get())


@contextmanager
def at(loc: Loc, *, backward: bool = False) -> Iterator[None]:
    """Nodes made inside come from `loc`: used by rewrites and gradients, so that errors name the user's layer."""
    token = _inherited.set(replace(loc, backward=True) if backward and not loc.backward else loc)
    try:
        yield
    finally:
        _inherited.reset(token)


@contextmanager
def scope(name: str) -> Iterator[str]:
    """Nodes made inside belong to the layer or part `name`; scopes nest to a path such as classifier/head."""
    outer = _scope.get()
    path = f"{outer}/{name}" if outer else name
    token = _scope.set(path)
    try:
        yield path
    finally:
        _scope.reset(token)


def current_scope() -> str:
    """The layer path that encloses this call."""
    return _scope.get()
