"""Modules: layers made of layers."""

from graphnn.nn.modules.bidirectional import Bidirectional, BidirectionalLSTM
from graphnn.nn.modules.multi_head_attention import MultiHeadedAttentionModule
