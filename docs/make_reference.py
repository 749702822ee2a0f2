"""Write docs/reference/: a page a family of what users find, made of the docstrings. Run it by `make docs`.

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
    ("models", "graphnn.nn.model graphnn.nn.loading graphnn.nn.history graphnn.nn.bundle", "gnn nn",
     "A network with its parameters: built, trained, saved, looked at."),
    ("layers", "graphnn.nn.layer graphnn.nn.layers", "nn",
     "Called on symbolic values; they make their parameters on the first call."),
    ("modules", "graphnn.nn.modules", "nn", "Layers made of layers."),
    ("activations", "graphnn.nn.activations", "nn", "Layers, or arguments of layers: `activation='elu(alpha=0.5)'`."),
    ("losses", "graphnn.nn.losses graphnn.nn.sampling", "nn", "For `model.compile(loss=...)`, or called on values."),
    ("optimisers", "graphnn.nn.optimisers", "nn", "For `model.compile(optimizer=...)`, or in a graph of your own."),
    ("schedulers", "graphnn.nn.schedulers", "nn", "The learning rate of an optimiser: `nn.Adam(lr=nn.NoamScheduler())`."),
    ("initialisers", "graphnn.nn.initialisers", "nn", "First values of parameters: `init='he_normal'`."),
    ("metrics", "graphnn.nn.metrics", "nn nn.metrics", "Numbers to watch: `model.compile(metrics=['accuracy'])`."),
    ("callbacks", "graphnn.nn.callbacks graphnn.nn.evolution", "nn", "Between epochs: `model.fit(callbacks=[...])`."),
    ("utilities", "graphnn.nn", "nn.utils", "NumPy functions on arrays."),
    ("networks", "graphnn.zoo", "zoo", "Whole networks: `from graphnn import zoo`."),
    ("scikit-learn", "graphnn.sklearn", "graphnn.sklearn", "Estimators: the extra `sklearn`."),
    ("functions", "graphnn.ir.ops", "gnn", "What writes ops: graphs, losses and layers of your own are made of them."),
    ("graphs", "graphnn.ir graphnn.autodiff graphnn.runtime", "gnn",
     "Graphs, their types, gradients and state, and what runs them."),
    ("errors", "graphnn.errors", "gnn.errors", "Each is also the built-in one that Python's users expect."),
)
PLACES = {"gnn": "graphnn", "gnn.errors": "graphnn.errors", "nn": "graphnn.nn", "nn.utils": "graphnn.nn.utils",
          "nn.metrics": "graphnn.nn.metrics", "zoo": "graphnn.zoo", "graphnn.sklearn": "graphnn.sklearn"}


def public(home: str) -> Iterator[tuple[str, Any]]:
    """The classes and functions that users find at a place, by full name."""
    for name, thing in vars(importlib.import_module(PLACES[home])).items():
        if not name.startswith("_") and (inspect.isclass(thing) or inspect.isfunction(thing)):
            yield f"{home}.{name}", thing


def members(title: str) -> dict[str, Any]:
    """What is on a page, by full name: written in its modules, and on no page before it where those are parts of others."""
    written_in, homes = next((modules.split(), homes.split()) for page, modules, homes, _ in FAMILIES if page == title)
    elsewhere = ["graphnn.ir.ops"] if title == "graphs" else []
    found: dict[str, Any] = {}
    for home in homes:
        for name, thing in public(home):
            module = f"{thing.__module__}."
            mine = any(module.startswith(f"{part}.") for part in written_in)
            if mine and not any(module.startswith(f"{part}.") for part in elsewhere) and thing not in found.values():
                found[name] = thing
    return dict(sorted(found.items(), key=lambda item: short(item[0]).lower()))


def short(name: str) -> str:
    return name.rpartition(".")[2]


def written(default: Any) -> str:
    if inspect.isroutine(default) or inspect.isclass(default):
        return default.__name__
    text = repr(default)
    return f"{type(default).__name__}(...)" if " at 0x" in text else text


def signature(name: str, thing: Any) -> str:
    """How it is written down, with defaults and without types."""
    if isinstance(thing, property):
        return name
    if inspect.isclass(thing) and is_dataclass(thing):
        given = sorted(((f.name, f.default, f.kw_only) for f in fields(thing) if f.init), key=lambda one: one[2])
    else:
        given = []
        for parameter in inspect.signature(thing).parameters.values():
            star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
            default = MISSING if parameter.default is parameter.empty else parameter.default
            given.append((star + parameter.name, default, parameter.kind is parameter.KEYWORD_ONLY))
    parts: list[str] = []
    for label, default, named in given:
        if named and not any(part.startswith("*") for part in parts):
            parts.append("*")
        parts.append(label if default is MISSING else f"{label}={written(default)}")
    return f"{name}({', '.join(part for part in parts if part not in ('self', 'cls'))})"


def methods(thing: Any) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class itself says something of."""
    for name, member in vars(thing).items() if inspect.isclass(thing) else ():
        plain = getattr(member, "__func__", member)
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)) and plain.__doc__:
            yield name, plain


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


def page(title: str, head: str) -> str:
    lines = ["<!-- Made by docs/make_reference.py from the docstrings: edit those. -->", f"# {title.capitalize()}", "", head, ""]
    for full, thing in members(title).items():
        name = short(full)
        lines += [f"## {name}", "", f"`{signature(full, thing)}`", "", *prose(inspect.getdoc(thing) or ""), ""]
        for method, member in methods(thing):
            lines += [f"### {name}.{method}", "", f"`{signature(method, member)}`", "", *prose(inspect.getdoc(member) or ""), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    made = {f"{title}.md": page(title, head) for title, _, _, head in FAMILIES}
    rows = [f"| [{title}]({title}.md) | {', '.join(f'`{short(name)}`' for name in members(title))} |" for title, *_ in FAMILIES]
    head = ["<!-- Made by docs/make_reference.py. -->", "# Reference", "", "| page | has |", "|---|---|"]
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
