"""The command `graphnn`: look at model files, draw them, run them, check them, and tend the kernel store.

`show`, `plot` and `verify` read a file and import neither Numba nor networkx. Exit status: 0 for success, 1 when something is
wrong with a file, an array or the store, 2 for a command that is not understood.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnn.errors import FileFormatError, GraphnnError, NumericsError, ShapeError, VerifyError
from graphnn.version import __version__

if TYPE_CHECKING:
    import numpy as np

    from graphnn.ir.graph import Graph

_STATUS_BROKEN, _STATUS_USAGE, _STATUS_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (that of the process by default); returns the exit status."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:                           # argparse has said why, or was asked for help
        return stop.code if isinstance(stop.code, int) else _STATUS_USAGE
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        status = command(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:                              # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _STATUS_BROKEN
    except KeyboardInterrupt:
        return _STATUS_INTERRUPTED
    except GraphnnError as error:
        return _complain(type(error).__name__, str(error), getattr(error, "__notes__", []))
    except (OSError, MemoryError) as error:
        return _complain(type(error).__name__, _system_message(error), [])


def _complain(kind: str, message: str, notes: Sequence[str]) -> int:
    print("\n".join([f"graphnn: {kind}: {message}", *notes]), file=sys.stderr)
    return _STATUS_BROKEN


def _system_message(error: OSError | MemoryError) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "not enough memory"


# ------------------------------------------------------------------------------------------------ the words of the command line

def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graphnn", description="Look at, draw, run and check graphnn models.")
    parser.add_argument("--version", action="version", version=f"graphnn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    show = commands.add_parser("show", help="print a model's summary and its text")
    _add_file(show)
    show.add_argument("--summary", action="store_true", help="the summary alone")
    show.set_defaults(command=_show)

    plot = commands.add_parser("plot", help="draw a model as an SVG file")
    _add_file(plot)
    plot.add_argument("-o", "--output", metavar="SVG", help="where to write it (default: FILE with the ending .svg)")
    plot.set_defaults(command=_plot)

    run = commands.add_parser("run", help="run a model on arrays")
    _add_file(run)
    run.add_argument("inputs", metavar="INPUTS", help="an .npz file with an array for each input, by name; or one .npy array")
    run.add_argument("-o", "--output", metavar="NPZ", required=True, help="where to write the outputs")
    run.add_argument("--backend", choices=("numba", "numpy"), default="numba", help="compiled kernels (default), or plain NumPy")
    run.set_defaults(command=_run)

    verify = commands.add_parser("verify", help="check every byte and every type of a model file")
    verify.add_argument("file", metavar="FILE")
    verify.set_defaults(command=_verify)

    cache = commands.add_parser("cache", help="the store of compiled kernels")
    actions = cache.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, command, text in (("info", _cache_info, "where it is and what it holds"),
                                ("clear", _cache_clear, "remove all stored kernels"),
                                ("verify", _cache_verify, "check every stored kernel")):
        actions.add_parser(name, help=text).set_defaults(command=command)
    return parser


def _add_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="a model file, or a graph as text")
    command.add_argument("--graph", metavar="NAME", default=None, help="one graph of a file that holds several")


# ------------------------------------------------------------------------------------------------ commands

def _show(arguments: argparse.Namespace) -> int:
    from graphnn.inspect.figures import bytes_text
    from graphnn.inspect.summary import summary

    path = arguments.file
    if not _is_text(path):
        from graphnn.files import read_header

        header = read_header(path)
        version = ".".join(map(str, header.version))
        print(f"{path}: format {version}, {bytes_text(header.file_bytes)}, {len(header.tensors)} arrays")
        for part, content in (("meta", header.meta), ("train", header.train)):
            if content:
                print(f"{part}: " + ", ".join(f"{key}={_short(value)}" for key, value in content.items()))
        print()
    for graph in _chosen(_graphs(path), arguments.graph).values():
        print(summary(graph), end="\n\n")
        if not arguments.summary:
            print(graph, end="\n\n")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from graphnn.inspect.drawing import draw

    name, graph = _only(_chosen(_graphs(arguments.file), arguments.graph), arguments.file)
    output = arguments.output or str(Path(arguments.file).with_suffix(".svg"))
    draw(graph, output)
    print(f"{output}: the graph {name!r}, {len(graph.nodes)} nodes")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from graphnn.files import load_file
    from graphnn.inspect.figures import bytes_text
    from graphnn.ir.types import TensorType
    from graphnn.nn.door import as_declared
    from graphnn.runtime.compile import compile_graph
    from graphnn.runtime.state import State

    file = load_file(arguments.file)
    _, graph = _only(_chosen(file.graphs, arguments.graph), arguments.file)
    arrays = _input_arrays(arguments.inputs, graph)
    state = State()
    state.restore(file.arrays)
    declared = [(arrays[value.name], value) for value in graph.by_role("input")]
    feeds = [as_declared(array, value.type, f"input {value.name!r}") for array, value in declared]
    results = compile_graph(graph, state=state, backend=arguments.backend)(*feeds)
    results = results if isinstance(results, tuple) else (results,)
    names = ["output"] if len(results) == 1 else [f"output_{i}" for i in range(len(results))]
    _save_arrays(arguments.output, dict(zip(names, results, strict=True)))
    for name, array in zip(names, results, strict=True):
        print(f"{name}: {TensorType.of(array)}, {bytes_text(array.nbytes)}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from graphnn.files import verify_file
    from graphnn.inspect.figures import bytes_text

    header = verify_file(arguments.file)
    graphs = ", ".join(f"{name} ({count} nodes)" for name, count in header.graphs.items()) or "none"
    print(f"{arguments.file}: good: {bytes_text(header.file_bytes)}, {len(header.tensors)} arrays, graphs: {graphs}")
    return 0


def _cache_info(arguments: argparse.Namespace) -> int:
    from graphnn.inspect.figures import bytes_text
    from graphnn.runtime import kernel_store

    info = kernel_store.info()
    use = "not used: " + info.why_not if not info.usable else "read and written" if info.writable else "read only"
    print(f"place     {info.path or 'none'}\nuse       {use} (GRAPHNN_CACHE={info.mode})\n"
          f"kernels   {info.entries}, {bytes_text(info.nbytes)}\nput aside {info.quarantined}")
    return 0


def _cache_clear(arguments: argparse.Namespace) -> int:
    from graphnn.runtime import kernel_store

    print(f"{kernel_store.clear()} kernels removed")
    return 0


def _cache_verify(arguments: argparse.Namespace) -> int:
    from graphnn.runtime import kernel_store

    damaged = kernel_store.verify()
    for key, why in damaged.items():
        print(f"{key}: {why}", file=sys.stderr)
    print(f"{kernel_store.info().entries} kernels, {len(damaged)} damaged")
    return _STATUS_BROKEN if damaged else 0


# ------------------------------------------------------------------------------------------------ files

_TEXT_STARTS = (b"graph ", b"#")


def _is_text(path: str) -> bool:
    """Whether a file is a graph in the text format, as people and failed passes write it."""
    with open(path, "rb") as file:
        return file.read(64).lstrip().startswith(_TEXT_STARTS)


def _graphs(path: str) -> dict[str, Graph]:
    if _is_text(path):
        from graphnn.ir.text import parse_graph

        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{path}: neither a model file nor text: {error}") from None
        graph = parse_graph(text)
        return {graph.name: graph}
    from graphnn.files import load_file

    return load_file(path).graphs


def _chosen(graphs: dict[str, Graph], name: str | None) -> dict[str, Graph]:
    if name is None:
        return graphs
    if name not in graphs:
        raise VerifyError(f"the file has no graph {name!r}; it has {', '.join(graphs) or 'none'}")
    return {name: graphs[name]}


def _only(graphs: dict[str, Graph], path: str) -> tuple[str, Graph]:
    if len(graphs) == 1:
        return next(iter(graphs.items()))
    if "model" in graphs:
        return "model", graphs["model"]
    raise VerifyError(f"{path} holds {len(graphs)} graphs: {', '.join(graphs) or 'none'}", hint="choose one with --graph NAME")


def _input_arrays(path: str, graph: Graph) -> dict[str, np.ndarray]:
    """An array for each input of the graph. A file of arrays from a stranger may hold no pickles."""
    import numpy as np

    names = [value.name for value in graph.by_role("input")]
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                arrays = {names[0]: found} if len(names) == 1 else {}
            else:
                arrays = {name: found[name] for name in found.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path}: no readable .npz file: {error}") from None
    missing, extra = [n for n in names if n not in arrays], [n for n in arrays if n not in names]
    if missing or extra:
        what = f"{missing[0]!r} is missing" if missing else f"{extra[0]!r} is none of them"
        wanted = ", ".join(f"{value.name}: {value.type}" for value in graph.by_role("input"))
        raise ShapeError(f"{path}: the inputs are {wanted or 'none'}; {what}")
    if any(array.dtype.kind not in "biuf" for array in arrays.values()):
        raise NumericsError(f"{path}: holds arrays that are no numbers")
    return arrays


def _save_arrays(path: str, arrays: dict[str, np.ndarray]) -> None:
    import io

    import numpy as np

    from graphnn.files.atomic import write_atomically

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomically(path, [buffer.getbuffer()])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
