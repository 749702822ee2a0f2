"""Numba as a front end: a Python function with its argument types -> LLVM assembly, typed and not optimised.

`assemble` stops Numba where it would begin to optimise; kernel_compiler.py goes on from there. `inline` makes a Python
function callable from kernels in the same way: typed and assembled once for each set of argument types, copied into every
kernel that calls it, and inlined by LLVM. (Numba's own jitted functions would be optimised and loaded, too, to no use.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, compiler, types
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
from numba.extending import intrinsic

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


class _Pipeline(compiler.CompilerBase):
    """Numba's pipeline without the passes that kernels do not need."""

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("graphnn kernel")
        for step in _PASSES:
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


class Assembly(CodeLibrary):
    """Collects what Numba would hand to LLVM, and hands it to nobody."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.module: ir.Module | None = None
        self.callees: list[Any] = []

    def add_ir_module(self, ir_module: ir.Module) -> None:
        assert self.module is None, "Numba lowers a function into one module"
        self.module = ir_module

    def add_linking_library(self, library: CodeLibrary) -> None:
        if library.name != "nrt" and library not in self.callees:  # a kernel that needs the runtime is found out later
            self.callees.append(library)

    def finalize(self) -> None:
        self._finalized = True

    def get_function(self, name: str) -> Any:
        raise NotImplementedError

    def get_asm_str(self) -> str:
        raise NotImplementedError

    @cached_property
    def text(self) -> str:
        """The assembly; asked for when the module is complete."""
        return cgutils.normalize_ir_text(str(self.module))

    def get_llvm_str(self) -> str:
        return self.text

    def reached(self) -> list[Any]:
        """This library and all that it calls, each once."""
        found: list[Any] = [self]
        for library in found:
            found += [callee for callee in getattr(library, "callees", []) if callee not in found]
        return found

    def texts(self) -> list[str]:
        """The assembly of this library and of all that it calls."""
        return [library.get_llvm_str() for library in self.reached()]

    def _get_module_for_linking(self) -> llvm.ModuleRef:
        """What Numba asks for when a function of its own, not a kernel, calls this one."""
        module, *others = (llvm.parse_assembly(text) for text in self.texts())
        for other in others:
            module.link_in(other)
        for function in module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"
        return module


@dataclass(frozen=True)
class Assembled:
    """A typed function: its assembly, Numba's description of how to call it, and its types."""

    library: Assembly
    descriptor: Any
    signature: Any


@cache
def target_context() -> Any:
    """Numba's code generator for code that is not run in this process: no addresses of this process in constants."""
    context: Any = cpu_target.target_context
    return context.with_aot_codegen("graphnn")


def assemble(function: Callable[..., Any], args: tuple[types.Type, ...], result: types.Type | None = None) -> Assembled:
    """Type a Python function and lower it to LLVM assembly."""
    flags: Any = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.enable_ssa = True
    flags.forceinline = True
    pipeline: Any = _Pipeline
    library = Assembly(target_context().codegen(), function.__name__)
    made: Any = compiler.compile_extra(
        cpu_target.typing_context,
        target_context(),
        function,
        args,
        result,
        flags,
        {},
        library=library,
        pipeline_class=pipeline,
    )
    return Assembled(library, made.fndesc, made.signature)


def inline(function: Callable[..., Any]) -> Any:
    """Decorator of functions called from kernels; LLVM always inlines them."""

    @cache
    def assembled(args: tuple[types.Type, ...]) -> Assembled:
        return assemble(function, args)

    def resolve(given: tuple[types.Type, ...]) -> tuple[Any, Callable[..., Any]]:
        args = tuple(types.unliteral(kind) for kind in given)
        helper = assembled(args)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: tuple[ir.Value, ...]) -> Any:
            context.active_code_library.add_linking_library(helper.library)
            return context.call_internal(builder, helper.descriptor, helper.signature, values)

        return helper.signature, generate

    # Numba reads an intrinsic's parameters from its signature.
    names = "".join(f"{name}, " for name in inspect.signature(function).parameters)
    scope: dict[str, Any] = {"resolve": resolve}
    exec(f"def {function.__name__}(context, {names}): return resolve(({names}))", scope)
    typed = scope[function.__name__]
    typed.__doc__, typed.__module__ = function.__doc__, function.__module__
    return intrinsic(typed)
