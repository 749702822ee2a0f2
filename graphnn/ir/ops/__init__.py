"""The ops, a family a module. Importing the package registers them all: this list is the only place that does.

Modules here import each other as modules and use their attributes late, so the order of the list does not matter.
"""

from graphnn.ir.ops import (
    arithmetic,
    attention,
    casting,
    compare,
    composed,
    conv,
    functions,
    fused,
    index,
    indexing,
    inputs,
    linalg,
    modes,
    operators,
    pool,
    random,
    reduce,
    rewire,
    scan,
    shaping,
    sizes,
    slicing,
    softmax,
    sparse,
    words,
)
