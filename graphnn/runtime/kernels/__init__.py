"""The lowering rules and kernels, one module per family of ops. This is the explicit list: importing it registers the rules."""

from importlib import import_module

FAMILIES = (
    "attention", "contractions", "fused", "movement", "reduce", "pool", "index", "softmax", "random", "scan", "sparse", "rewire",
    "words",
)

for family in FAMILIES:
    import_module(f"graphnn.runtime.kernels.{family}")
