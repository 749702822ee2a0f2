"""Layers, a subject a module."""

from graphnn.nn.layers.attention import DotProductAttention
from graphnn.nn.layers.conv import Conv2D
from graphnn.nn.layers.dense import FullyConnected
from graphnn.nn.layers.pool import Pool2D
from graphnn.nn.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from graphnn.nn.layers.shape import Flatten
