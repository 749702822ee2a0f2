"""graphnn: declare a network as a graph, compile it, train and run it."""

from graphnn.version import __version__
