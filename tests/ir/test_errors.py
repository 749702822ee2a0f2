"""Errors: each is the built-in that users expect, and shows what, where and what to do once."""

from __future__ import annotations

import traceback

import pytest

from graphnn import errors


@pytest.mark.parametrize(("name", "builtin"), [
    ("ShapeError", ValueError), ("DTypeError", TypeError), ("NumericsError", ValueError),
    ("UnsupportedError", NotImplementedError),
    ("VerifyError", ValueError), ("PassError", RuntimeError), ("FileFormatError", ValueError), ("KernelStoreError", OSError),
])
def test_each_error_is_also_the_builtin_one(name: str, builtin: type[Exception]) -> None:
    cls = getattr(errors, name)
    assert issubclass(cls, errors.GraphnnError)
    assert issubclass(cls, builtin)
    assert str(cls("what is wrong")) == "what is wrong"


def test_where_is_told_once_and_before_the_hint() -> None:
    error = errors.ShapeError("sizes differ", hint="make them equal")
    error.locate("add: ", ["  operands  f32[2], f32[3]"])
    error.locate("outer: ", ["  operands  none"])
    assert str(error) == "add: sizes differ"
    assert error.__notes__ == ["  operands  f32[2], f32[3]", "  hint      make them equal"]
    assert traceback.format_exception_only(error)[-1].strip() == "hint      make them equal"
