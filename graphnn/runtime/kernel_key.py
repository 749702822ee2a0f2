"""Keys of the kernel store: everything that a kernel's native code depends on, as one SHA-256.

That is: the source of the builder's module and of every graphnn.runtime module it reaches by imports (read, never
imported), parameters, signature, compile options, versions, and the instruction set.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

from graphnn.errors import KernelStoreError
from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.row import Kernel
from graphnn.version import __version__

# How many int64 follow the argument pointer, by signature (`Kernel.signature`).
SIGNATURES = {"row": 2, "epilogue": 5}

# Its source is part of every key: the options of Numba and LLVM stand there.
_COMPILER = "graphnn.runtime.kernel_compiler"

_PACKAGE = "graphnn"
_REACHED = "graphnn.runtime"

# A pattern, not `ast`: parsing thirty modules costs more than loading all kernels of a model. It sees every import
# statement, at any depth; what else it may see (in a string) can only make a key depend on more.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]*)|import[ \t]+([^\n#]*))", re.MULTILINE
)


def kernel_key(kernel: Kernel, isa: InstructionSet) -> str:
    """The name of the kernel's entry in the store: 64 hexadecimal digits."""
    module, _, function = kernel.builder.partition(":")
    if kernel.signature not in SIGNATURES or not function:
        raise KernelStoreError(f"not a kernel: builder {kernel.builder!r}, signature {kernel.signature!r}")
    digest = hashlib.sha256(_environment(isa))
    digest.update(sources_digest(_COMPILER) + sources_digest(module))
    digest.update(repr((kernel.builder, kernel.params, kernel.signature)).encode())
    return digest.hexdigest()


@cache
def _environment(isa: InstructionSet) -> bytes:
    """Digest of the versions and of the target machine."""
    parts = (__version__, sys.version, _version("numba"), _version("llvmlite"), repr(isa))
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _version(package: str) -> str:
    """The text of a package's version file; its import would cost a second, importlib.metadata 20 ms."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise KernelStoreError(f"{package} is not installed; it is needed to build kernels")
    try:
        return (Path(spec.origin).parent / "_version.py").read_text("utf-8")
    except OSError:
        from importlib.metadata import version

        return version(package)


@cache
def sources_digest(module: str) -> bytes:
    """Digest of the sources of `module` and of all graphnn.runtime modules that it reaches."""
    reached: dict[str, bytes] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        text = _source(name)
        if text is None:
            if name == module:
                raise KernelStoreError(f"kernel builder module {name} has no source to be found")
            continue
        reached[name] = hashlib.sha256(text).digest()
        pending.extend(imported_modules(text.decode("utf-8"), name))
    digest = hashlib.sha256()
    for name in sorted(reached):
        digest.update(name.encode() + b"\0" + reached[name])
    return digest.digest()


def imported_modules(text: str, importer: str) -> list[str]:
    """Modules under graphnn.runtime that the import statements of `text` may name (some may be no modules)."""
    names: list[str] = []
    for start, imported, plain in _IMPORT.findall(text):
        if plain:
            names += [part.split(" as ")[0].strip() for part in plain.split(",")]
            continue
        if start.startswith("."):
            start = importlib.util.resolve_name(start, importer.rpartition(".")[0])
        names.append(start)
        names += [f"{start}.{part.split(' as ')[0].strip()}" for part in imported.strip("()").split(",")]
    return [name for name in dict.fromkeys(names) if name.startswith(_REACHED + ".")]


@cache
def _source(module: str) -> bytes | None:
    """The source text of a module, found without importing it; None if there is no such module."""
    if not module.startswith(_PACKAGE + "."):
        loaded = sys.modules.get(module)
        spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(module)
        origin = spec.origin if spec else getattr(loaded, "__file__", None)
        return read_source(Path(origin)) if origin and origin.endswith(".py") else None
    base = _package_folder().joinpath(*module.split(".")[1:])
    return read_source(base.with_name(base.name + ".py")) or read_source(base / "__init__.py")


def _package_folder() -> Path:
    return Path(__file__).parent.parent


def read_source(path: Path) -> bytes | None:
    """The bytes of a file, or None if there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def forget_sources() -> None:
    """Read the sources again for the next key."""
    sources_digest.cache_clear()
    _source.cache_clear()
