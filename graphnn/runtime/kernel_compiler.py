"""Python source of one kernel -> native object code. The only module of the store that imports Numba.

Numba translates and types the Python function; its LLVM module is taken before Numba optimises it, given a plain C
entry point, and then optimised once, by LLVM, for the CPU of the `InstructionSet`. So a kernel costs half of what
`numba.cfunc` takes, is free of Numba's wrappers and runtime, and can be made for a lesser CPU than this one.

`lower` needs Numba and is Python; `generate` needs LLVM alone and releases the GIL: the store overlaps the two.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, compiler, errors, types
from numba.core.codegen import CodeLibrary
from numba.core.compiler_machinery import PassManager
from numba.core.registry import cpu_target
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NoPythonSupportedFeatureValidation,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FixupArgs,
    InlineInlinables,
    IRProcessing,
    ReconstructSSA,
    TranslateByteCode,
)

from graphnn.errors import KernelStoreError
from graphnn.runtime.instruction_set import InstructionSet
from graphnn.runtime.intrinsics import ALLOWED_SYMBOLS
from graphnn.runtime.kernel_key import SIGNATURES
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

# No closures, no `with`, no rewriting of array expressions: kernels have none, and each pass costs milliseconds.
_PASSES = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    DeadBranchPrune,
    InlineInlinables,
    DeadBranchPrune,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    NoPythonSupportedFeatureValidation,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
)


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


class _KernelPipeline(compiler.CompilerBase):
    """Numba's pipeline without the passes that kernels do not need."""

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("graphnn kernel")
        for step in _PASSES:
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


class _Assembly(CodeLibrary):
    """Collects what Numba would hand to LLVM, and hands it to nobody."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.modules: list[ir.Module] = []
        self.callees: list[CodeLibrary] = []

    def add_ir_module(self, ir_module: ir.Module) -> None:
        self.modules.append(ir_module)

    def add_linking_library(self, library: CodeLibrary) -> None:
        if library.name != "nrt" and library not in self.callees:  # a kernel that needs Numba's runtime is found out later
            self.callees.append(library)

    def finalize(self) -> None:
        self._finalized = True

    def get_function(self, name: str) -> Any:
        raise NotImplementedError

    def get_llvm_str(self) -> str:
        return "\n".join(str(module) for module in self.modules)

    def get_asm_str(self) -> str:
        raise NotImplementedError


@cache
def _target_context() -> Any:
    """Numba's code generator for code that is not run in this process: no addresses of this process in constants."""
    context: Any = cpu_target.target_context
    return context.with_aot_codegen("graphnn")


def lower(kernel: Kernel, symbol: str) -> Lowered:
    """Call the kernel's builder, and Numba on what it returns."""
    module_name, _, function_name = kernel.builder.partition(":")
    builder = getattr(importlib.import_module(module_name), function_name)
    function = builder(**dict(kernel.params))
    ints = SIGNATURES[kernel.signature]
    args = (types.CPointer(types.int64), *[types.int64] * ints)
    flags: Any = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.enable_ssa = True
    context = _target_context()
    pipeline: Any = _KernelPipeline
    library = _Assembly(context.codegen(), symbol)
    try:
        result = compiler.compile_extra(
            cpu_target.typing_context,
            context,
            function,
            args,
            types.int64,
            flags,
            {},
            library=library,
            pipeline_class=pipeline,
        )
    except errors.NumbaError as error:
        raise KernelStoreError(f"kernel {describe(kernel)} does not compile: {error}") from error
    assert result is not None
    _add_entry(library.modules[-1], context, result.fndesc, symbol, args)
    parts = [str(module) for module in library.modules] + [callee.get_llvm_str() for callee in library.callees]
    return Lowered(kernel, symbol, _source(builder, function), tuple(cgutils.normalize_ir_text(part) for part in parts))


def _add_entry(module: ir.Module, context: Any, descriptor: Any, symbol: str, args: tuple[Any, ...]) -> None:
    """Add `int64 symbol(int64*, int64...)` around Numba's function, which returns a status and stores the result."""
    word = ir.IntType(64)
    inner = module.get_global(descriptor.mangled_name)
    inner.linkage = "internal"
    inner.attributes.add("alwaysinline")
    entry = ir.Function(module, ir.FunctionType(word, [word.as_pointer(), *[word] * (len(args) - 1)]), symbol)
    entry.attributes.add("nounwind")
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    status, value = context.call_conv.call_function(builder, inner, types.int64, args, entry.args)
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
def target_machine(isa: InstructionSet) -> llvm.TargetMachine:
    """LLVM's back end for an instruction set."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(isa.llvm_triple)
    return target.create_target_machine(
        cpu=isa.llvm_cpu, features=isa.llvm_features, opt=3, reloc="pic", codemodel="default"
    )


def generate(lowered: Lowered, isa: InstructionSet) -> Compiled:
    """Optimise for `isa`, emit object code, and refuse a kernel that is not pure."""
    machine = target_machine(isa)
    module = llvm.parse_assembly(lowered.assembly[0] + _CALL_BY_TABLE)
    for part in lowered.assembly[1:]:
        module.link_in(llvm.parse_assembly(part))
    for function in module.functions:
        if function.is_declaration:
            if not function.name.startswith("llvm."):
                function.add_function_attribute("nonlazybind")
        elif function.name != lowered.symbol:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    module.verify()
    code = machine.emit_object(module)
    foreign = [name for name in undefined_symbols(code) if name not in ALLOWED_SYMBOLS]
    if foreign:
        why = "it may raise" if _RAISES in foreign else "write it with graphnn.runtime.intrinsics"
        raise KernelStoreError(
            f"kernel {describe(lowered.kernel)} is not pure, its code refers to {', '.join(foreign)}: {why}"
        )
    header = f"# {describe(lowered.kernel)}, signature {lowered.kernel.signature}, for {isa.name} ({isa.llvm_cpu})\n"
    return Compiled(code, str(module), header + lowered.source)
