"""Addresses of compiled kernels: from memory, else from the store on disk, else compiled now and stored.

Loading needs llvmlite alone; Numba is imported only when a kernel must be compiled. All code of a process lives in
one LLVM engine and stays for good: an address never goes stale. `info`, `clear` and `verify` serve the command line.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphnn.runtime import instruction_set
from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.kernel_folder import Info, clear, info, open_folder, verify
from graphnn.runtime.kernel_key import kernel_key
from graphnn.runtime.row import Kernel

if TYPE_CHECKING:
    from graphnn.runtime.kernel_compiler import Compiled

__all__ = ["Info", "addresses", "clear", "compiled_count", "info", "verify"]

_lock = threading.RLock()
# A child made while another thread compiles would find LLVM's own locks taken for ever: the fork waits for it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

_MOST_LLVM_THREADS = 8                # Numba, which is Python, does not keep more busy

_known: dict[tuple[Kernel, str], int] = {}
_loaded: dict[str, int] = {}
_engine: Any = None
_compiled = 0


def addresses(kernels: Sequence[Kernel]) -> list[int]:
    """The entry point of each kernel, as an integer that stays valid as long as the process lives."""
    isa = instruction_set.current()
    try:
        return [_known[kernel, isa.name] for kernel in kernels]
    except KeyError:
        pass
    with _lock:
        missing = {kernel: kernel_key(kernel, isa) for kernel in kernels if (kernel, isa.name) not in _known}
        _load_all({key: kernel for kernel, key in missing.items() if key not in _loaded}, isa)
        for kernel, key in missing.items():
            _known[kernel, isa.name] = _loaded[key]
        return [_known[kernel, isa.name] for kernel in kernels]


def compiled_count() -> int:
    """How many kernels this process had to compile."""
    return _compiled


def _load_all(wanted: dict[str, Kernel], isa: InstructionSet) -> None:
    """Bring kernels into the engine, by key; those that the store lacks are compiled."""
    global _compiled
    folder = open_folder()
    code = {key: found for key in wanted if folder and (found := folder.read(key)) is not None}
    cold = {key: kernel for key, kernel in wanted.items() if key not in code}
    if cold:

        def keep(key: str, made: Compiled) -> None:
            if folder is not None:
                folder.publish(key, made.code, made.assembly, made.source)

        code |= _compile_all(cold, isa, keep)
        _compiled += len(cold)
    _loaded.update(_link(code, isa))


def _symbol(key: str) -> str:
    return f"gnn_{key[:32]}"


def _compile_all(
    wanted: dict[str, Kernel], isa: InstructionSet, keep: Callable[[str, Compiled], None]
) -> dict[str, bytes]:
    """Compile kernels; LLVM works on some in other threads while Numba, which is Python, types the next."""
    from concurrent.futures import Future, ThreadPoolExecutor

    from graphnn.runtime import kernel_compiler

    def finish(key: str, lowered: kernel_compiler.Lowered) -> bytes:
        made = kernel_compiler.generate(lowered, isa)
        keep(key, made)
        return made.code

    jobs: dict[str, Future[bytes]] = {}
    collecting = gc.isenabled()
    gc.disable()  # Numba makes so many objects that looking for garbage among them takes a quarter of its time
    try:
        with ThreadPoolExecutor(min(_MOST_LLVM_THREADS, os.cpu_count() or 1), "graphnn-llvm") as llvm_threads:
            for key, kernel in wanted.items():
                jobs[key] = llvm_threads.submit(finish, key, kernel_compiler.lower(kernel, _symbol(key)))
    finally:
        if collecting:
            gc.enable()
    return {key: job.result() for key, job in jobs.items()}


def _link(code: dict[str, bytes], isa: InstructionSet) -> dict[str, int]:
    """Place object code in executable memory; returns entry points."""
    global _engine
    import llvmlite.binding as llvm

    if _engine is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_triple(isa.llvm_triple)
        # llvmlite's memory manager keeps an object's sections together: code reaches its constants by 32-bit offsets.
        _engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target.create_target_machine(), use_lmm=True)
    for data in code.values():
        _engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    _engine.finalize_object()
    return {key: _engine.get_function_address(_symbol(key)) for key in code}
