"""Every error graphnn raises on purpose. All derive from GraphnnError; each is also the built-in error users expect."""

from __future__ import annotations


class GraphnnError(Exception):
    """Base of all graphnn errors. The first line says what is wrong; the notes say where, and what to do.

    `hint` is what the user should do; it is shown last, after the notes added while the error travels up.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.located = False
        if hint is not None:
            self.add_note(f"  hint      {hint}")

    def locate(self, prefix: str, notes: list[str]) -> None:
        """Say once where it happened: prefix the message, and put `notes` before the hint."""
        if self.located:
            return
        self.located = True
        self.args = (f"{prefix}{self.args[0]}",)
        kept = list(getattr(self, "__notes__", []))
        self.__notes__ = [*notes, *kept]


class ShapeError(GraphnnError, ValueError):
    """Sizes or ranks that do not fit together."""


class DTypeError(GraphnnError, TypeError):
    """A dtype that an operation does not take, or two that differ where they must agree."""


class NumericsError(GraphnnError, ValueError):
    """A value out of range: a class index, an id, a NaN where none may be."""


class UnsupportedError(GraphnnError, NotImplementedError):
    """Something that cannot be done here, and what can be done instead."""


class VerifyError(GraphnnError, ValueError):
    """A graph that is not well formed."""


class PassError(GraphnnError, RuntimeError):
    """A pass failed or returned a graph that does not verify; names the pass."""


class FileFormatError(GraphnnError, ValueError):
    """A model file that is damaged, foreign, too new, or not a model file."""


class KernelStoreError(GraphnnError, OSError):
    """The kernel store cannot be used, or a kernel cannot be built purely."""
