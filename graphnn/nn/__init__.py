"""What networks are built with: layers, activations, losses, optimisers."""

from graphnn.nn.activations import Identity, ReLU, Sigmoid, Softmax, Tanh
from graphnn.nn.history import History
from graphnn.nn.initialisers import GlorotUniform, HeUniform
from graphnn.nn.layer import Layer
from graphnn.nn.layers import Conv2D, Flatten, FullyConnected, Pool2D
from graphnn.nn.layers.attention import DotProductAttention
from graphnn.nn.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from graphnn.nn.losses import CrossEntropy, Loss, SquaredError
from graphnn.nn.modules import BidirectionalLSTM, MultiHeadedAttentionModule
from graphnn.nn.optimisers import SGD, Adam, Optimizer
