"""Modules: layers made of layers."""

from graphnn.nn.modules.bidirectional import Bidirectional, BidirectionalLSTM
from graphnn.nn.modules.multi_head_attention import MultiHeadedAttentionModule
from graphnn.nn.modules.skip_connection import SkipConnectionConvModule, SkipConnectionIdentityModule
from graphnn.nn.modules.transformer import TransformerEncoderBlock
from graphnn.nn.modules.wavenet import WavenetResidualModule
