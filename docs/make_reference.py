"""Write docs/reference/: a page a family of building blocks, made of their docstrings. Run it by `make docs`.

A test compares the pages with what this would write, so they are never out of date.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

PLACE = Path(__file__).resolve().parent / "reference"

# page, modules whose public names it shows, where users find them, what stands at its head
FAMILIES = (
    ("layers", "graphnn.nn.layers", "nn", "Called on symbolic values; they make their parameters on the first call."),
    ("modules", "graphnn.nn.modules", "nn", "Layers made of layers."),
    ("activations", "graphnn.nn.activations", "nn", "Layers, or arguments of layers: `activation='elu(alpha=0.5)'`."),
    ("losses", "graphnn.nn.losses graphnn.nn.sampling", "nn", "For `model.compile(loss=...)`, or called on values."),
    ("optimisers", "graphnn.nn.optimisers", "nn", "For `model.compile(optimizer=...)`, or in a graph of your own."),
    ("schedulers", "graphnn.nn.schedulers", "nn", "The learning rate of an optimiser: `nn.Adam(lr=nn.NoamScheduler())`."),
    ("initialisers", "graphnn.nn.initialisers", "nn", "First values of parameters: `init='he_normal'`."),
    ("metrics", "graphnn.nn.metrics", "nn", "Numbers to watch: `model.compile(metrics=['accuracy'])`."),
    ("callbacks", "graphnn.nn.callbacks graphnn.nn.evolution", "nn", "Between epochs: `model.fit(callbacks=[...])`."),
    ("utilities", "graphnn.nn.utils", "nn.utils", "NumPy functions on arrays."),
)


def members(modules: str, home: str) -> dict[str, Any]:
    """The public classes and functions of `home` that are written in `modules`, by name."""
    place = importlib.import_module(f"graphnn.{home}")
    found = {}
    for name, thing in sorted(vars(place).items(), key=lambda item: item[0].lower()):
        written_in = getattr(thing, "__module__", "")
        mine = home != "nn" or any(f"{written_in}.".startswith(f"{module}.") for module in modules.split())
        if not name.startswith("_") and mine and (inspect.isclass(thing) or inspect.isfunction(thing)):
            found[name] = thing
    return found


def signature(name: str, thing: Any, home: str) -> str:
    """How it is written down, with defaults and without types."""
    if inspect.isclass(thing) and is_dataclass(thing):
        shown = [f for f in fields(thing) if f.init]
        parts = [f.name if f.default is MISSING else f"{f.name}={f.default!r}" for f in shown if not f.kw_only]
        parts += [f"{f.name}={f.default!r}" for f in shown if f.kw_only]
    else:
        parts = []
        for parameter in inspect.signature(thing).parameters.values():
            star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
            default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
            parts.append(f"{star}{parameter.name}{default}")
    return f"{home}.{name}({', '.join(parts)})"


def prose(text: str) -> Iterator[str]:
    """A docstring as Markdown: examples in fences, the rest as it stands."""
    example = False
    for line in text.splitlines():
        starts = line.startswith(">>> ")
        if starts and not example:
            yield "```pycon"
            example = True
        elif example and not line.strip():
            yield "```"
            example = False
        yield line
    if example:
        yield "```"


def page(title: str, module: str, home: str, head: str) -> str:
    lines = ["<!-- Made by docs/make_reference.py from the docstrings: edit those. -->", f"# {title.capitalize()}", "", head, ""]
    for name, thing in members(module, home).items():
        text = inspect.getdoc(thing) or ""
        lines += [f"## {name}", "", f"`{signature(name, thing, home)}`", "", *prose(text), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    made = {f"{title}.md": page(title, module, home, head) for title, module, home, head in FAMILIES}
    rows = [f"| [{title}]({title}.md) | {', '.join(f'`{name}`' for name in members(module, home))} |"
            for title, module, home, _ in FAMILIES]
    head = ["<!-- Made by docs/make_reference.py. -->", "# Building blocks", "", "| page | has |", "|---|---|"]
    return {**made, "index.md": "\n".join([*head, *rows, ""])}


def main() -> int:
    PLACE.mkdir(exist_ok=True)
    made = pages()
    for stale in set(path.name for path in PLACE.glob("*.md")) - set(made):
        (PLACE / stale).unlink()
    for name, text in made.items():
        (PLACE / name).write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {PLACE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
