"""Python source of one kernel -> native object code. Imported only when a kernel must be compiled.

Numba translates and types the Python function (numba_assembly.py); the LLVM module is given a plain C entry point and
optimised once, by LLVM, for the CPU of the `InstructionSet`. So a kernel takes half the time of `numba.cfunc`, is free
of Numba's wrappers and runtime, and can be made for a lesser CPU than this one.

`lower` needs Numba and is Python; `generate` needs LLVM alone and releases the GIL: the store overlaps the two. llvmlite lets one
thread at a time into LLVM, for the sake of modules that share a context. Here each kernel has a context and a target machine of
its own, which is what LLVM asks of threads, so the two long calls go past that lock.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from llvmlite.binding import ffi
from numba.core import cgutils, errors, types

from graphnn.errors import KernelStoreError
from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.intrinsics import ALLOWED_SYMBOLS
from graphnn.runtime.kernel_key import SIGNATURES
from graphnn.runtime.numba_assembly import Assembled, assemble, target_context
from graphnn.runtime.object_symbols import undefined_symbols
from graphnn.runtime.row import Kernel

# Called on the path on which Numba would raise. LLVM removes the path of a kernel that cannot, and the name with it.
_RAISES = "graphnn_a_kernel_must_not_raise"

# Calls of library functions go through the offset table (with `nonlazybind`, for those that are declared): the loader's
# memory manager, which keeps code within reach of its constants, makes no room for the stubs of other calls.
_CALL_BY_TABLE = """
!llvm.module.flags = !{!9000000}
!9000000 = !{i32 7, !"RtLibUseGOT", i32 1}
"""


@dataclass(frozen=True)
class Lowered:
    """A kernel as LLVM assembly, not optimised. `symbol` is its entry point; `source` the text it was built from."""

    kernel: Kernel
    symbol: str
    source: str
    assembly: tuple[str, ...]


@dataclass(frozen=True)
class Compiled:
    """A kernel as native code, with the optimised LLVM assembly that it is."""

    code: bytes
    assembly: str
    source: str


def lower(kernel: Kernel, symbol: str) -> Lowered:
    """Call the kernel's builder, and Numba on what it returns."""
    module_name, _, function_name = kernel.builder.partition(":")
    builder = getattr(importlib.import_module(module_name), function_name)
    function = builder(**dict(kernel.params))
    ints = SIGNATURES[kernel.signature]
    written = getattr(function, "assembly", None)        # generated source, which needs no type inference
    if written is not None:
        return Lowered(kernel, symbol, _source(builder, function), (written(symbol, ints),))
    args = (types.CPointer(types.int64), *[types.int64] * ints)
    try:
        made = assemble(function, args, types.int64)
    except errors.NumbaError as error:
        raise KernelStoreError(f"kernel {describe(kernel)} does not compile: {error}") from error
    _add_entry(made, symbol, args)
    return Lowered(kernel, symbol, _source(builder, function), tuple(made.library.texts()))


def _add_entry(made: Assembled, symbol: str, args: tuple[Any, ...]) -> None:
    """Add `int64 symbol(int64*, int64...)` around Numba's function, which returns a status and stores the result."""
    word, module, convention = ir.IntType(64), made.library.module, target_context().call_conv
    assert module is not None
    inner = module.get_global(made.descriptor.mangled_name)
    entry = ir.Function(module, ir.FunctionType(word, [word.as_pointer(), *[word] * (len(args) - 1)]), symbol)
    entry.attributes.add("nounwind")
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    status, value = convention.call_function(builder, inner, types.int64, args, entry.args)
    with builder.if_then(status.is_error, likely=False):
        builder.call(cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), []), _RAISES), [])
    builder.ret(value)


def _source(builder: Any, function: Any) -> str:
    """The text a reader should look at: a generated function's own source, else that of the builder's module."""
    generated = getattr(function, "__graphnn_source__", None)
    if generated is not None:
        return str(generated)
    module = inspect.getmodule(builder)
    return inspect.getsource(module if module is not None else builder)


def describe(kernel: Kernel) -> str:
    """The kernel's builder and parameters on one line."""
    params = ", ".join(f"{name}={value!r}" if len(repr(value)) < 60 else f"{name}=..." for name, value in kernel.params)
    return f"{kernel.builder}({params})"


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target_machine(isa: InstructionSet) -> llvm.TargetMachine:
    """LLVM's back end for an instruction set; for one thread."""
    _initialize()
    return llvm.Target.from_triple(isa.llvm_triple).create_target_machine(
        cpu=isa.llvm_cpu, features=isa.llvm_features, opt=3, reloc="pic", codemodel="default"
    )


def _without_lock(name: str) -> Any:
    """A function of llvmlite's library; where llvmlite has no lock around it any more, as it is."""
    function = getattr(ffi.lib, name)
    return getattr(function, "_cfn", function)


def _object_code(machine: llvm.TargetMachine, module: llvm.ModuleRef) -> bytes:
    """As `machine.emit_object(module)`."""
    with ffi.OutputString() as error:
        buffer = _without_lock("LLVMPY_TargetMachineEmitToMemory")(machine, module, 1, error)
        if not buffer:
            raise KernelStoreError(f"LLVM cannot make object code: {error}")
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def generate(lowered: Lowered, isa: InstructionSet) -> Compiled:
    """Optimise for `isa`, emit object code, and refuse a kernel that is not pure."""
    # Closed in this order, also after an error: a module that outlives its context, as garbage may, ends the process.
    with llvm.create_context() as context, llvm.parse_assembly(lowered.assembly[0] + _CALL_BY_TABLE, context) as module:
        for part in lowered.assembly[1:]:
            with llvm.parse_assembly(part, context) as linked:
                module.link_in(linked)
        _hide_all_but(lowered.symbol, module)
        machine = _target_machine(isa)
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        with llvm.create_pass_builder(machine, options) as builder, builder.getModulePassManager() as passes:
            _without_lock("LLVMPY_RunNewModulePassManager")(passes, module, builder)
        module.verify()
        code, assembly = _object_code(machine, module), str(module)
    foreign = [name for name in undefined_symbols(code) if name not in ALLOWED_SYMBOLS]
    if foreign:
        why = "it may raise" if _RAISES in foreign else "write it with graphnn.runtime.intrinsics"
        raise KernelStoreError(
            f"kernel {describe(lowered.kernel)} is not pure, its code refers to {', '.join(foreign)}: {why}"
        )
    header = f"# {describe(lowered.kernel)}, signature {lowered.kernel.signature}, for {isa.name} ({isa.llvm_cpu})\n"
    return Compiled(code, assembly, header + lowered.source)


def _hide_all_but(symbol: str, module: llvm.ModuleRef) -> None:
    """Make all that a module defines its own, but the entry point; so LLVM drops what is not called."""
    for function in module.functions:
        if function.is_declaration:
            if not function.name.startswith("llvm."):
                function.add_function_attribute("nonlazybind")
        elif function.name != symbol:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
