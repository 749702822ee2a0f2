"""What must not be imported: Numba and networkx by `import graphnn`, Numba by running a graph whose kernels are stored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("numba", "llvmlite", "networkx", "matplotlib", "rich", "sklearn", "scipy", "torch", "pandas", "hypothesis")
STEP = """
import sys, numpy as np
import graphnn as gnn
from graphnn import nn
x = gnn.Input((6,), name="x")
model = gnn.Model(x, nn.FullyConnected(3)(nn.FullyConnected(8, activation="tanh")(x)), name="small")
model.compile(optimizer=nn.Adam(1e-2), loss=nn.CrossEntropy())
data, labels = np.linspace(-1, 1, 120).reshape(20, 6), np.arange(20) % 3
model.fit(data, labels, epochs=2, batch_size=8, verbose=False)
probabilities = model.predict(data)
assert np.isfinite(probabilities).all()
np.save(sys.argv[1], probabilities)
print(gnn.kernels_compiled(), [name for name in {heavy} if name in sys.modules])
"""


def python(code: str, *args: object, **env: str) -> str:
    """What a new process prints."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, *map(str, args)], capture_output=True, text=True,
                          env=settings, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_graphnn_imports_none_of_the_heavy_packages() -> None:
    found = python(f"import graphnn, sys; from graphnn import nn; print([n for n in {HEAVY} if n in sys.modules])")
    assert found == "[]"


@pytest.mark.parametrize("missing", [("numba", "llvmlite", "networkx")])
def test_it_imports_and_interprets_where_they_cannot_be_had(missing: tuple[str, ...]) -> None:
    code = f"""
import sys
for name in {missing}:
    sys.modules[name] = None
import numpy as np, graphnn as gnn
x = gnn.Input((3,), name="x")
exe = gnn.compile(gnn.Graph.of("g", [x], [gnn.softmax(x)]), backend="numpy")
print((300 * exe(np.zeros((1, 3), "f4"))).round().tolist())
"""
    assert python(code) == "[[100.0, 100.0, 100.0]]"


def test_stored_kernels_run_without_numba_and_give_the_same_bits(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    code = STEP.replace("{heavy}", str([name for name in HEAVY if name != "llvmlite"]))
    first = python(code, tmp_path / "a.npy", GRAPHNN_CACHE_DIR=store)
    second = python(code, tmp_path / "b.npy", GRAPHNN_CACHE_DIR=store)
    compiled, imported = first.split(" ", 1)
    assert int(compiled) > 0
    assert "'numba'" in imported
    assert second == "0 []"
    assert np.load(tmp_path / "a.npy").tobytes() == np.load(tmp_path / "b.npy").tobytes()


def test_a_model_file_is_run_in_a_new_process_without_numba(tmp_path: Path) -> None:
    store, file = str(tmp_path / "store"), tmp_path / "small.gnn"
    make = """
import sys, numpy as np, graphnn as gnn
from graphnn import nn
x = gnn.Input((6,), name="x")
model = gnn.Model(x, nn.FullyConnected(3, activation="sigmoid")(x), name="small")
np.save(sys.argv[2], model.predict(np.ones((4, 6), np.float32)))
model.save(sys.argv[1])
"""
    run = """
import sys, numpy as np, graphnn as gnn
found = gnn.load(sys.argv[1]).predict(np.ones((4, 6), np.float32))
print(gnn.kernels_compiled(), "numba" in sys.modules, found.tobytes() == np.load(sys.argv[2]).tobytes())
"""
    python(make, file, tmp_path / "made.npy", GRAPHNN_CACHE_DIR=store)
    assert python(run, file, tmp_path / "made.npy", GRAPHNN_CACHE_DIR=store) == "0 False True"
