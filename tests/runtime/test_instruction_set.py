import subprocess
import sys

import pytest

from graphnn.errors import UnsupportedError
from graphnn.runtime import instruction_set


def runnable() -> list[str]:
    found = []
    for name in ("avx512", "avx2", "neon", "generic"):
        try:
            instruction_set.named(name)
        except UnsupportedError:
            continue
        found.append(name)
    return found


def test_the_host_gets_its_best(monkeypatch):
    monkeypatch.delenv("GRAPHNN_ISA", raising=False)
    assert instruction_set.current().name == runnable()[0]


@pytest.mark.parametrize("name", runnable())
def test_forced_by_the_environment(name, monkeypatch):
    monkeypatch.setenv("GRAPHNN_ISA", name)
    assert instruction_set.current().name == name
    assert instruction_set.current() is instruction_set.current()


@pytest.mark.parametrize("name", runnable())
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_the_register_tile_fits_the_register_file(name, dtype):
    isa = instruction_set.named(name)
    rows, columns = isa.tile(dtype)
    vectors = columns // isa.lanes(dtype)
    assert columns % isa.lanes(dtype) == 0
    assert rows * vectors + vectors + 1 <= isa.registers


def test_float64_has_half_the_columns():
    for name in runnable():
        isa = instruction_set.named(name)
        assert isa.tile("f64") == (isa.tile("f32")[0], isa.tile("f32")[1] // 2)


def test_an_unknown_name_is_refused(monkeypatch):
    monkeypatch.setenv("GRAPHNN_ISA", "mmx")
    with pytest.raises(UnsupportedError, match="GRAPHNN_ISA=mmx: unknown instruction set; choose one of avx512, avx2"):
        instruction_set.current()


def test_what_the_host_cannot_run_is_refused():
    missing = {"avx512", "avx2", "neon", "generic"} - set(runnable())
    assert missing, "no machine is x86 and ARM at once"
    for name in missing:
        with pytest.raises(UnsupportedError, match=f"GRAPHNN_ISA={name}: this machine .* cannot run it; its best is"):
            instruction_set.named(name)


def test_numba_is_not_needed():
    code = "import sys; from graphnn.runtime import instruction_set as s; s.current(); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
