"""The lowering rules and kernels, one module per family of ops. This is the explicit list: importing it registers the rules."""

from importlib import import_module
from importlib.util import find_spec

FAMILIES = ("contractions", "fused", "movement", "reduce", "pool", "index", "softmax", "random", "scan")

for family in FAMILIES:
    if find_spec(f"graphnn.runtime.kernels.{family}"):       # while families are being written
        import_module(f"graphnn.runtime.kernels.{family}")
