"""A profile as one HTML page without external resources."""

from __future__ import annotations

from html import escape

from graphnn.inspect.figures import time_text
from graphnn.inspect.profile import Profile


def page(profile: Profile) -> str:
    """The page's text."""
    rows = "".join(f"<tr><td>{escape(line.name)}</td><td>{time_text(line.nanoseconds)}</td></tr>" for line in profile.lines)
    return f"<!doctype html><meta charset='utf-8'><title>{escape(profile.name)}</title><table>{rows}</table>"
