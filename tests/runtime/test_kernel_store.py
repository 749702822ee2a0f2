"""The kernel store: pure kernels, keys that see every change, entries that are whole or not used, and no Numba when warm."""

import ctypes
import os
import random
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from graphnn.errors import KernelStoreError
from graphnn.runtime import instruction_set, kernel_folder, kernel_key, kernel_store
from graphnn.runtime.kernel_folder import Folder
from graphnn.runtime.object_symbols import undefined_symbols
from graphnn.runtime.row import Kernel

ROOT = Path(__file__).parents[2]
SAMPLES = "tests.runtime.sample_kernels"
CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def sample(name: str, **params) -> Kernel:
    return Kernel.of(f"{SAMPLES}:{name}", **params)


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """An empty store of its own, and a process that has loaded nothing yet."""
    monkeypatch.setenv("GRAPHNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAPHNN_CACHE", raising=False)
    new_process(monkeypatch)
    return tmp_path / "cache" / "kernels"


def new_process(monkeypatch) -> None:
    """Forget what this process has loaded, as if it had just started."""
    monkeypatch.setattr(kernel_store, "_known", {})
    monkeypatch.setattr(kernel_store, "_loaded", {})
    monkeypatch.setattr(kernel_store, "_engine", None)
    monkeypatch.setattr(kernel_folder, "_warned", set())


def call(kernel: Kernel, args: np.ndarray | None = None, tile: int = 0) -> int:
    slots = np.zeros(1, np.int64) if args is None else args
    return CALL(kernel_store.addresses([kernel])[0])(slots.ctypes.data, tile, 0)


def compiled_by(action) -> int:
    before = kernel_store.compiled_count()
    action()
    return kernel_store.compiled_count() - before


def entry_of(kernel: Kernel, store: Path) -> Path:
    return store / kernel_key.kernel_key(kernel, instruction_set.current())


def run_python(code: str, cache: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "GRAPHNN_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ------------------------------------------------------------------------------------------------ kernels that run
@pytest.mark.parametrize("isa", ["", "avx2", "generic"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_a_kernel_computes_what_numpy_does(isa, dtype, n, monkeypatch):
    if isa == "avx2" and not instruction_set.current().llvm_triple.startswith("x86_64"):
        pytest.skip("no AVX2 here")
    monkeypatch.setenv("GRAPHNN_ISA", isa)
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, n)).astype(dtype.replace("f", "float"))
    z = np.full_like(x, np.nan)
    args = np.array([x.ctypes.data, y.ctypes.data, z.ctypes.data, n, n], np.int64)
    assert call(sample("add_relu", dtype=dtype), args) == 0
    np.testing.assert_array_equal(z, np.maximum(x + y, 0))


def test_forcing_a_lesser_instruction_set_changes_the_code():
    from graphnn.runtime import kernel_compiler

    lowered = kernel_compiler.lower(sample("add_relu", dtype="f32"), "gnn_test")
    best = instruction_set.named("")
    for name in dict.fromkeys([best.name, "generic"]):
        isa = instruction_set.named(name)
        text = kernel_compiler.generate(lowered, isa).assembly
        assert f"<{isa.lanes('f32')} x float>" in text, name
        assert f"<{2 * isa.lanes('f32')} x float>" not in text, name


@pytest.mark.parametrize("isa", ["", "generic"])
def test_calls_of_libm_and_memory_functions_reach_them(isa, store, monkeypatch):
    monkeypatch.setenv("GRAPHNN_ISA", isa)
    n = 40
    x, y = np.linspace(-2, 2, n), np.zeros(n)
    assert call(sample("polynomial", dtype="f64", degree=7), np.array([x.ctypes.data, y.ctypes.data, n])) == 0
    expected = np.ones(n)
    for _ in range(7):
        expected = expected * x + 0.1
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert call(sample("clears_memory"), np.array([x.ctypes.data, 8 * n, y.ctypes.data])) == 0
    assert not x.any()
    assert not y.any()


def test_several_kernels_in_one_call_keep_their_order(store):
    kernels = [sample("constant", value=v) for v in (3, 1, 2)]
    found = kernel_store.addresses([*kernels, kernels[0]])
    assert [CALL(address)(None, 0, 0) for address in found] == [3, 1, 2, 3]
    assert kernel_store.addresses(kernels) == found[:3]


def test_helpers_that_are_called_several_times(store):
    assert call(sample("shared_helper"), np.array([10])) == 16


# ------------------------------------------------------------------------------------------------ kernels refused
def test_a_kernel_that_calls_out_is_refused_by_the_symbol_s_name(store):
    with pytest.raises(KernelStoreError, match=r"calls\(symbol='PyErr_Clear'\) is not pure.*refers to PyErr_Clear"):
        kernel_store.addresses([sample("calls", symbol="PyErr_Clear")])
    assert not list(store.glob("[0-9a-f]*"))


def test_a_kernel_that_may_raise_is_refused(store):
    with pytest.raises(KernelStoreError, match=r"may_raise\(\) is not pure.*it may raise"):
        kernel_store.addresses([sample("may_raise")])


def test_a_kernel_that_does_not_type_says_which(store):
    with pytest.raises(KernelStoreError, match=r"kernel tests.runtime.sample_kernels:ill_typed\(\) does not compile"):
        kernel_store.addresses([sample("ill_typed")])


def test_a_builder_that_is_not_there(store):
    with pytest.raises(KernelStoreError, match=r"graphnn\.runtime\.kernels\.nonsense has no source"):
        kernel_store.addresses([Kernel.of("graphnn.runtime.kernels.nonsense:rows")])


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "x86_64-apple-darwin", "x86_64-pc-windows-msvc"])
def test_undefined_symbols_of_every_object_format(triple):
    text = f"""target triple = "{triple}"
    declare void @short()
    declare void @a_name_of_more_than_eight_letters()
    define i64 @defined() {{ call void @short()  call void @a_name_of_more_than_eight_letters()  ret i64 0 }}"""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="x86-64", reloc="pic", codemodel="default")
    code = machine.emit_object(llvm.parse_assembly(text))
    assert undefined_symbols(code) == ["a_name_of_more_than_eight_letters", "short"]


def test_an_unknown_object_format_is_an_error():
    with pytest.raises(KernelStoreError, match="unknown format"):
        undefined_symbols(b"not an object")


# ------------------------------------------------------------------------------------------------ warm starts
USE = f"""
import sys
from graphnn.runtime import kernel_store
from graphnn.runtime.row import Kernel
kernel_store.addresses([Kernel.of("{SAMPLES}:constant", value=v) for v in range(4)])
print(kernel_store.compiled_count(), "numba" in sys.modules)
"""


def test_a_warm_process_compiles_nothing_and_never_imports_numba(tmp_path):
    assert run_python(USE, tmp_path) == "4 True"
    assert run_python(USE, tmp_path) == "0 False"
    assert run_python(USE, tmp_path, PYTHONHASHSEED="7") == "0 False"
    assert run_python(USE, tmp_path, GRAPHNN_CACHE="ro") == "0 False"


def test_four_processes_starting_cold_at_once(tmp_path):
    env = {**os.environ, "GRAPHNN_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", USE]
    started = [subprocess.Popen(command, env=env, cwd=ROOT, stdout=-1, stderr=-1, text=True) for _ in range(4)]
    for process in started:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        assert out.split()[0] in "01234"
    left = os.listdir(tmp_path / "kernels")
    assert len(left) == 4, "entries, and no work in progress"
    assert run_python(USE, tmp_path) == "0 False"


def test_an_entry_can_be_read_by_people(store):
    kernel = sample("constant", value=11)
    kernel_store.addresses([kernel])
    entry = entry_of(kernel, store)
    assert sorted(os.listdir(entry)) == ["MANIFEST", "kernel.ll", "kernel.o", "source.py"]
    source = (entry / "source.py").read_text()
    assert source.startswith(f"# {SAMPLES}:constant(value=11), signature row, for ")
    assert "def constant(value):" in source
    assert "define" in (entry / "kernel.ll").read_text()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o700


# ------------------------------------------------------------------------------------------------ damage
def damaged(store: Path, monkeypatch, spoil) -> Path:
    """A stored kernel, spoilt, then asked for by a new process: it is right, and the entry was put aside."""
    kernel = sample("constant", value=21)
    assert call(kernel) == 21
    entry = entry_of(kernel, store)
    spoil(entry)
    new_process(monkeypatch)
    with pytest.warns(RuntimeWarning, match="a stored kernel was damaged and is built again") as caught:
        assert compiled_by(lambda: call(kernel)) == 1
    assert len(caught) == 1
    assert kernel_store.verify() == {}
    assert kernel_store.info().quarantined == 1
    return entry


@pytest.mark.parametrize("name", ["kernel.o", "kernel.ll", "source.py", "MANIFEST"])
@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "removed", "longer", "link"])
def test_damage_of_any_file_is_found_before_use(name, how, store, monkeypatch):
    def spoil(entry: Path) -> None:
        file = entry / name
        data = bytearray(file.read_bytes())
        if how == "removed":
            file.unlink()
        elif how == "link":
            file.rename(entry.parent / "elsewhere")
            file.symlink_to(entry.parent / "elsewhere")
        elif how == "flipped":
            data[len(data) // 2] ^= 4
            file.write_bytes(data)
        else:
            file.write_bytes({"truncated": data[:-1], "emptied": b"", "longer": data + b"\n"}[how])

    damaged(store, monkeypatch, spoil)


def test_an_entry_of_another_kernel_is_found_out(store, monkeypatch):
    other = sample("constant", value=22)
    assert call(other) == 22

    def spoil(entry: Path) -> None:
        shutil.rmtree(entry)
        shutil.copytree(entry_of(other, store), entry)

    damaged(store, monkeypatch, spoil)


def test_a_file_in_the_place_of_an_entry(store, monkeypatch):
    def spoil(entry: Path) -> None:
        shutil.rmtree(entry)
        entry.write_text("hello")

    damaged(store, monkeypatch, spoil)


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_file_that_others_may_write_is_not_used(store, monkeypatch):
    damaged(store, monkeypatch, lambda entry: (entry / "kernel.o").chmod(0o666))


def test_a_flip_of_any_byte_is_found(store):
    kernel = sample("constant", value=31)
    kernel_store.addresses([kernel])
    entry, folder = entry_of(kernel, store), Folder(store, True)
    rng = random.Random(0)
    for name in os.listdir(entry):
        whole = (entry / name).read_bytes()
        places = range(len(whole)) if len(whole) < 2000 else rng.sample(range(len(whole)), 500)
        for at in places:
            flipped = bytearray(whole)
            flipped[at] ^= 1 << rng.randrange(8)
            (entry / name).write_bytes(flipped)
            assert folder.damage(entry.name), (name, at)
        (entry / name).write_bytes(whole)
    assert folder.damage(entry.name) is None


def test_the_warning_comes_once(store, monkeypatch):
    kernels = [sample("constant", value=v) for v in (41, 42)]
    kernel_store.addresses(kernels)
    for kernel in kernels:
        (entry_of(kernel, store) / "kernel.o").unlink()
    new_process(monkeypatch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kernel_store.addresses(kernels)
    assert len(caught) == 1


# ------------------------------------------------------------------------------------------------ folders not trusted
def refused(store: Path, monkeypatch, match: str) -> None:
    """The store is not used: the kernel runs from memory, with one warning, and nothing is written."""
    kernel = sample("constant", value=51)
    before = sorted(os.listdir(store))
    with pytest.warns(RuntimeWarning, match=match):
        assert call(kernel) == 51
    assert sorted(os.listdir(store)) == before


@pytest.mark.skipif(os.name != "posix", reason="modes")
@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_store_that_others_may_write_is_refused(mode, store, monkeypatch):
    store.mkdir(parents=True)
    store.chmod(mode)
    refused(store, monkeypatch, "others may write to")
    with pytest.raises(KernelStoreError, match="may not be trusted"):
        kernel_store.clear()


def test_a_link_in_place_of_the_store_is_refused(store, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir(mode=0o700)
    store.parent.mkdir()
    store.symlink_to(tmp_path / "real")
    refused(store, monkeypatch, "is a symbolic link")


@pytest.mark.skipif(os.name != "posix", reason="owners")
def test_a_store_of_another_user_is_refused(store, monkeypatch):
    store.mkdir(parents=True, mode=0o700)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    refused(store, monkeypatch, "belongs to another user")


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_store_below_a_folder_that_anyone_may_write_is_refused(store, monkeypatch):
    store.mkdir(parents=True, mode=0o700)
    store.parent.chmod(0o777)
    refused(store, monkeypatch, "anyone may write to")
    store.parent.chmod(0o1777)  # as /tmp is: nobody may rename what is not his
    new_process(monkeypatch)
    assert call(sample("constant", value=51)) == 51
    assert len(os.listdir(store)) == 1


def test_a_file_system_that_is_read_only(store, monkeypatch):
    """Root may write anywhere, so the error is injected."""

    def erofs(self, *args, **kwargs):
        raise OSError(30, "Read-only file system", str(self))

    warm = sample("constant", value=61)
    assert call(warm) == 61
    new_process(monkeypatch)
    monkeypatch.setattr(Path, "mkdir", erofs)
    monkeypatch.setattr(Path, "rename", erofs)
    assert compiled_by(lambda: call(warm)) == 0  # and no warning: what is there is used
    with pytest.warns(RuntimeWarning, match=r"cannot be stored in .* \(Read-only file system\)"):
        assert call(sample("constant", value=62)) == 62
    assert len(os.listdir(store)) == 1


def test_a_read_only_file_system_without_a_store(store, monkeypatch):
    def erofs(self, *args, **kwargs):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", erofs)
    with pytest.warns(RuntimeWarning, match=r"cannot be used \(Read-only file system\)"):
        assert call(sample("constant", value=63)) == 63


def test_a_damaged_entry_of_a_read_only_store_stays_where_it_is(store, monkeypatch):
    kernel = sample("constant", value=64)
    assert call(kernel) == 64
    (entry_of(kernel, store) / "kernel.o").write_bytes(b"")
    new_process(monkeypatch)
    monkeypatch.setenv("GRAPHNN_CACHE", "ro")
    with pytest.warns(RuntimeWarning, match="a stored kernel was damaged"):
        assert compiled_by(lambda: call(kernel)) == 1
    assert os.listdir(store) == [entry_of(kernel, store).name]


@pytest.mark.parametrize("mode", ["off", "ro"])
def test_modes_that_write_nothing(mode, store, monkeypatch):
    monkeypatch.setenv("GRAPHNN_CACHE", mode)
    assert compiled_by(lambda: call(sample("constant", value=71))) == 1
    assert not store.exists()
    assert not kernel_store.info().writable


def test_an_unknown_mode_is_refused(store, monkeypatch):
    monkeypatch.setenv("GRAPHNN_CACHE", "maybe")
    with pytest.raises(KernelStoreError, match="GRAPHNN_CACHE=maybe: must be on, ro or off"):
        call(sample("constant", value=72))


def test_no_home_means_memory_only(store, monkeypatch):
    for name in ("GRAPHNN_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.warns(RuntimeWarning, match="no HOME and no GRAPHNN_CACHE_DIR"):
        assert call(sample("constant", value=73)) == 73
    assert kernel_store.info().path is None


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG variables")
def test_the_place_follows_the_platform(monkeypatch):
    monkeypatch.delenv("GRAPHNN_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert kernel_folder.location() == Path("/home/ada/.cache/graphnn/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert kernel_folder.location() == Path("/scratch/graphnn/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert kernel_folder.location() == Path("/home/ada/.cache/graphnn/kernels")


# ------------------------------------------------------------------------------------------------ keys
def test_a_key_sees_the_kernel_and_the_machine(monkeypatch):
    isa, generic = instruction_set.named(""), instruction_set.named("generic")
    keys = {
        kernel_key.kernel_key(sample("constant", value=1), isa),
        kernel_key.kernel_key(sample("constant", value=2), isa),
        kernel_key.kernel_key(sample("constant", value=True), isa),
        kernel_key.kernel_key(sample("constant", value="1"), isa),
        kernel_key.kernel_key(sample("constant", value=1), generic),
        kernel_key.kernel_key(Kernel.of(f"{SAMPLES}:constant", signature="epilogue", value=1), isa),
        kernel_key.kernel_key(sample("busy", turns=1), isa),
    }
    assert len(keys) == 7


@pytest.mark.parametrize("changed", ["intrinsics.py", "kernel_compiler.py", "numba_assembly.py", "executor_code.py"])
def test_a_changed_source_file_is_another_key(changed, tmp_path, monkeypatch):
    """Of the builder's module, of what it imports inside its functions, and of the compiler."""
    kernel = Kernel.of("graphnn.runtime.executor_code:lead")
    package = Path(kernel_key.__file__).parent.parent
    copy = tmp_path / "graphnn"
    shutil.copytree(package / "runtime", copy / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kernel_key, "_package_folder", lambda: copy)
    kernel_key.forget_sources()
    try:
        isa = instruction_set.current()
        before = kernel_key.kernel_key(kernel, isa)
        kernel_key.forget_sources()
        assert kernel_key.kernel_key(kernel, isa) == before
        (copy / "runtime" / "row.py").touch()
        with open(copy / "runtime" / changed, "a") as file:
            file.write("# a change\n")
        kernel_key.forget_sources()
        assert kernel_key.kernel_key(kernel, isa) != before
    finally:
        kernel_key.forget_sources()


def test_a_file_that_is_not_reached_leaves_keys_alone(tmp_path, monkeypatch):
    reached = kernel_key.imported_modules("from graphnn.runtime import intrinsics\n", "graphnn.runtime.x")
    assert "graphnn.runtime.table" not in reached


def test_all_forms_of_import_are_seen():
    text = '''
import os, graphnn.runtime.one as first
from graphnn.runtime import (
    two,
    three as third,  # with a comment
)
from graphnn.runtime.four import something
def builder():
    from graphnn.runtime import five
    from .six import x
    import graphnn.ir
'''
    found = kernel_key.imported_modules(text, "graphnn.runtime.kernels.importer")
    wanted = {f"graphnn.runtime.{name}" for name in ("one", "two", "three", "four", "five", "kernels.six")}
    assert wanted <= set(found)
    assert all(name.startswith("graphnn.runtime.") for name in found)


def test_versions_are_read_without_importing_numba(tmp_path):
    code = f"""
import sys
from graphnn.runtime import instruction_set, kernel_key
from graphnn.runtime.row import Kernel
print(kernel_key.kernel_key(Kernel.of("{SAMPLES}:constant", value=1), instruction_set.current()))
assert "numba" not in sys.modules
assert "{SAMPLES}" not in sys.modules
"""
    expected = kernel_key.kernel_key(sample("constant", value=1), instruction_set.current())
    assert run_python(code, tmp_path) == expected


# ------------------------------------------------------------------------------------------------ the command line's part
def test_info_verify_and_clear(store):
    assert kernel_store.info().usable
    assert kernel_store.info().entries == 0
    assert kernel_store.clear() == 0
    kernels = [sample("constant", value=v) for v in (81, 82, 83)]
    kernel_store.addresses(kernels)
    known = kernel_store.info()
    assert (known.path, known.entries, known.writable, known.why_not) == (store, 3, True, "")
    assert known.nbytes == sum(f.stat().st_size for f in store.rglob("*") if f.is_file())
    assert kernel_store.verify() == {}
    spoilt = entry_of(kernels[1], store)
    (spoilt / "kernel.o").write_bytes(b"x")
    assert kernel_store.verify() == {spoilt.name: "its files are not those of its manifest"}
    (store / "tmp.1.abc").mkdir()
    assert kernel_store.clear() == 3
    assert os.listdir(store) == []


def test_what_another_process_published_first_stays(store):
    store.mkdir(parents=True, mode=0o700)
    folder, key = Folder(store, True), "ab" * 32
    folder.publish(key, b"first", "ll", "source")
    folder.publish(key, b"second", "ll", "source")
    assert folder.read(key) == b"first"
    assert os.listdir(store) == [key]


def test_a_full_disk_leaves_nothing_behind(store, monkeypatch):
    store.mkdir(parents=True, mode=0o700)

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(kernel_folder, "_write_durably", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert call(sample("constant", value=91)) == 91
    assert os.listdir(store) == []
