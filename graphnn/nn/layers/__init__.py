"""Layers, a subject a module."""

from graphnn.nn.layers.attention import DotProductAttention
from graphnn.nn.layers.conv import Conv2D
from graphnn.nn.layers.conv1d import Conv1D
from graphnn.nn.layers.deconv import Deconv2D
from graphnn.nn.layers.dense import FullyConnected
from graphnn.nn.layers.embedding import Embedding
from graphnn.nn.layers.merge import Add, Concatenate, Multiply
from graphnn.nn.layers.norm import GroupNorm, LayerNorm1D, LayerNorm2D
from graphnn.nn.layers.over_time import Cell, Recurrent
from graphnn.nn.layers.pool import Pool2D
from graphnn.nn.layers.rbm import RBM
from graphnn.nn.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from graphnn.nn.layers.shape import Flatten, GlobalPool, Reshape, UpSampling2D
from graphnn.nn.layers.sparse_evolution import SparseEvolution
