"""What a model is: sizes, types, ops, values and graphs. Importing it registers every op.

Functions that write ops are here by name (`ir.matmul`, `ir.sum`); tools on graphs stay in their modules
(`ir.interpret.interpret`, `ir.rewrite.rewrite`, `ir.verify.verify`, `ir.text`).
"""

from graphnn.ir import ops
from graphnn.ir.dims import Dim, Size, ceildiv, dim, dim_max, dim_min
from graphnn.ir.dims import floordiv as dim_floordiv
from graphnn.ir.graph import Graph, Node, Use, Value
from graphnn.ir.loc import Loc, scope
from graphnn.ir.op import Fusion, Op, Sample
from graphnn.ir.ops.arithmetic import add, div, floordiv, maximum, minimum, mod, mul, pow, sub
from graphnn.ir.ops.attention import attention as attention
from graphnn.ir.ops.casting import cast, stop_gradient
from graphnn.ir.ops.compare import (
    equal,
    greater,
    greater_equal,
    is_finite,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
    where,
)
from graphnn.ir.ops.composed import clip, gelu, log_sigmoid, reciprocal, silu, softplus, square
from graphnn.ir.ops.conv import conv2d, conv2d_transpose
from graphnn.ir.ops.functions import (
    abs,
    ceil,
    cos,
    erf,
    exp,
    expm1,
    floor,
    log,
    log1p,
    neg,
    relu,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    tanh,
)
from graphnn.ir.ops.index import check_index, gather, one_hot, scatter_add
from graphnn.ir.ops.inputs import constant, parameter, placeholder, state
from graphnn.ir.ops.linalg import matmul, matrix_transpose
from graphnn.ir.ops.modes import by_mode, with_update
from graphnn.ir.ops.pool import avg_pool2d, max_pool2d
from graphnn.ir.ops.random import random_bernoulli, random_bits, random_integers, random_normal, random_uniform
from graphnn.ir.ops.reduce import argmax, argmin, logsumexp, max, mean, min, norm, prod, sum, variance
from graphnn.ir.ops.rewire import rewire
from graphnn.ir.ops.scan import scan
from graphnn.ir.ops.shaping import expand, expand_dims, flatten, flip, moveaxis, reshape, squeeze, swapaxes, transpose
from graphnn.ir.ops.sizes import arange, full, iota, ones, ones_like, size_of, zeros, zeros_like
from graphnn.ir.ops.slicing import concat, pad, split, stack
from graphnn.ir.ops.softmax import log_softmax, softmax
from graphnn.ir.ops.sparse import sampled_matmul, sparse_matmul
from graphnn.ir.ops.words import context_windows, word_vector_steps
from graphnn.ir.types import DType, TensorType, as_dtype, boolean, f32, f64, i32, i64

# What `import graphnn` shows of them, under `gnn`.
__all__ = [
    "DType", "Dim", "Fusion", "Graph", "Loc", "Node", "Op", "Sample", "Size", "TensorType", "Use", "Value", "abs",
    "add", "arange", "argmax", "argmin", "as_dtype", "avg_pool2d", "boolean", "by_mode", "cast", "ceil", "ceildiv",
    "check_index", "clip", "concat", "constant", "context_windows", "conv2d", "conv2d_transpose", "cos", "dim", "dim_floordiv",
    "dim_max", "dim_min", "div", "equal", "erf", "exp", "expand", "expand_dims", "expm1", "f32", "f64", "flatten",
    "flip", "floor", "floordiv", "full", "gather", "gelu", "greater", "greater_equal", "i32", "i64", "iota",
    "is_finite", "less", "less_equal", "log", "log1p", "log_sigmoid", "log_softmax", "logical_and", "logical_not",
    "logical_or", "logsumexp", "matmul", "matrix_transpose", "max", "max_pool2d", "maximum", "mean", "min",
    "minimum", "mod", "moveaxis", "mul", "neg", "norm", "not_equal", "one_hot", "ones", "ones_like", "pad",
    "parameter", "placeholder", "pow", "prod", "random_bernoulli", "random_bits", "random_integers",
    "random_normal", "random_uniform", "reciprocal", "relu", "reshape", "rewire", "round", "rsqrt", "sampled_matmul", "scan",
    "scatter_add", "scope", "sigmoid", "sign", "silu", "sin", "size_of", "softmax", "softplus", "sparse_matmul",
    "split", "sqrt", "square", "squeeze", "stack", "state", "stop_gradient", "sub", "sum", "swapaxes", "tanh",
    "transpose", "variance", "where", "with_update", "word_vector_steps", "zeros", "zeros_like",
]  # fmt: skip
