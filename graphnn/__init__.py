"""graphnn: declare a network as a graph, compile it, train and run it.

    import graphnn as gnn
    from graphnn import nn

`gnn.Input`, `gnn.Model`, `gnn.load` for networks; `gnn.gradients`, `gnn.Graph`, `gnn.compile` for your own loops; functions
such as `gnn.mean` and `gnn.tanh` write the graph.
"""

from graphnn import errors, nn
from graphnn.autodiff import check_gradients, gradients
from graphnn.errors import GraphnnError
from graphnn.ir import *  # noqa: F403  (the functions that write ops; their list is graphnn.ir.__all__)
from graphnn.ir.graph import Graph, Value
from graphnn.ir.interpret import interpret
from graphnn.nn.loading import load
from graphnn.nn.model import Input, Model
from graphnn.runtime.compile import compile_graph as compile
from graphnn.runtime.executable import Executable
from graphnn.runtime.kernel_store import compiled_count as kernels_compiled
from graphnn.runtime.state import State, seed
from graphnn.runtime.threads import set_threads, threads
from graphnn.version import __version__
