"""What a fresh process costs: the import, compiling the digits' training graph, and the first prediction from a file.

    python -m bench startup

Every measurement is a process of its own; the kernel stores are folders made for it. Python keeps its bytecode, as it does
for an installed package: the first process of each kind is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.figures import Figure, at_most

_IMPORT = """
import time; start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
import sys
assert not {{"numba", "networkx", "llvmlite"}} & set(sys.modules), "something heavy was imported"
"""

_COMPILE = """
import numpy as np
import graphnn as gnn
from graphnn import nn
from examples.digits import network
import time; start = time.perf_counter()
model = network().compile(optimizer=nn.Adam(1e-3), loss=nn.CrossEntropy(), metrics=["accuracy"])
model.training_step(np.zeros((64, 8, 8, 1), np.float32), np.zeros(64, np.int64))
print(time.perf_counter() - start, gnn.kernels_compiled())
"""

_SAVE = """
from examples.digits import network
import numpy as np
model = network()
model.save({path!r})
model.predict(np.zeros((1, 8, 8, 1), np.float32))
"""

# Counted from before the interpreter starts: the parent notes the time, both read the same clock.
_PREDICT = """
import graphnn as gnn, numpy as np
found = gnn.load({path!r}).predict(np.zeros((1, 8, 8, 1), np.float32))
import time, sys
assert "numba" not in sys.modules, "Numba was imported"
assert gnn.kernels_compiled() == 0, "a kernel was compiled"
print(time.clock_gettime(time.CLOCK_MONOTONIC) - {start})
"""


def run(program: str, folder: str, store: str = "store") -> list[float]:
    """The numbers that a fresh Python prints; bytecode and kernel store are in that folder."""
    places = {"GRAPHNN_CACHE_DIR": Path(folder) / store, "PYTHONPYCACHEPREFIX": Path(folder) / "bytecode"}
    environment = os.environ | {name: str(place) for name, place in places.items()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def figures() -> Iterator[Figure]:
    import time

    with tempfile.TemporaryDirectory() as folder:
        imports = {name: [run(_IMPORT.format(module=name), folder)[0] for _ in range(8)][1:] for name in ("graphnn", "numpy")}
        yield at_most("import graphnn", min(imports["graphnn"]), 0.2,
                      f"median {median(imports['graphnn']):.3f}; import numpy alone {min(imports['numpy']):.3f}", form="{:.3f} s")
        run(_COMPILE, folder, "another store")               # keeps Numba's bytecode
        cold, compiled = run(_COMPILE, folder)
        yield at_most("digits training graph, empty kernel store", cold, 6.0, f"{compiled:.0f} kernels compiled")
        warm = [run(_COMPILE, folder) for _ in range(7)]
        assert not any(compiled for _, compiled in warm), "the store was not used"
        times = [seconds for seconds, _ in warm]
        yield at_most("digits training graph, full kernel store", median(times), 0.3, f"best {min(times):.3f}", form="{:.3f} s")
        path = str(Path(folder) / "digits.gnn")
        run(_SAVE.format(path=path), folder)
        times = [run(_PREDICT.format(path=path, start=time.clock_gettime(time.CLOCK_MONOTONIC)), folder)[0] for _ in range(7)]
        yield at_most("fresh process to first prediction of digits.gnn, stored kernels, no Numba", median(times), 0.5,
                      f"best {min(times):.3f}", form="{:.3f} s")
