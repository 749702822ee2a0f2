"""An example of each layer and module that graphnn.nn exports, and others of other arguments: what test_layer_family.py runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import graphnn as gnn
from graphnn import nn


@dataclass(frozen=True)
class Case:
    """How to make a layer for a dtype, and what to call it on: "N,T,3" for real numbers, "i64[N,T]" in full for others."""

    make: Callable[[str], Any]
    inputs: tuple[str, ...]
    call: Callable[..., Any] = lambda layer, *values: layer(*values)
    still: tuple[str, ...] = ()                          # endings of parameters without influence on this example's result


def case(layer: Callable[[], Any], *inputs: str, **more: Any) -> Case:
    return Case(lambda _: layer(), inputs, **more)


@dataclass(eq=False)
class Decay(nn.Cell):
    """h' = d h + x."""

    def build(self, x: gnn.TensorType) -> None:
        self.decay = self.param("decay", x.shape[1:], nn.Constant(0.5), dtype=x.dtype)

    def first_states(self, x: gnn.TensorType) -> Sequence[gnn.Value]:
        return [gnn.zeros(x.shape, x.dtype)]

    def step(self, x: gnn.Value, *states: gnn.Value) -> tuple[gnn.Value, ...]:
        h = self.decay * states[0] + x
        return h, h


FAMILY: dict[str, Case] = {
    "Add": case(lambda: nn.Add("tanh"), "N,3", "N,1"),
    "Affine": case(lambda: nn.Affine(2.0, -0.5), "N,T,3"),
    "BatchNorm1D": case(nn.BatchNorm1D, "N,3"),
    "BatchNorm2D": case(nn.BatchNorm2D, "N,H,W,2"),
    "Bidirectional": case(lambda: nn.Bidirectional(nn.GRU(2)), "N,T,3"),
    "BidirectionalLSTM": case(lambda: nn.BidirectionalLSTM(2, merge="multiply", return_state=True), "N,T,3"),
    "Concatenate": case(nn.Concatenate, "N,3", "N,2"),
    "Conv1D": case(lambda: nn.Conv1D(4, 3, padding="causal", dilation=2), "N,T,2"),
    "Conv2D": case(lambda: nn.Conv2D(4, (3, 2), (1, 2), "same_size", groups=2, activation="tanh"), "N,H,W,2"),
    "Deconv2D": case(lambda: nn.Deconv2D(3, 3, 2, 1, 1), "N,H,W,2"),
    "DotProductAttention": case(lambda: nn.DotProductAttention(dropout_p=0.3, causal=True), "N,T,2", "N,T,2", "N,T,3"),
    "Dropout": case(lambda: nn.Dropout(0.4), "N,T,3"),
    "Embedding": Case(lambda dtype: nn.Embedding(5, 2, pool="mean", dtype=dtype), ("i64[N,T]", "i64[N]"),
                      lambda layer, ids, lengths: layer(ids, lengths=lengths)),
    "Flatten": case(nn.Flatten, "N,T,3"),
    "FullyConnected": case(lambda: nn.FullyConnected(4, "sigmoid"), "N,T,3"),
    "GRU": case(lambda: nn.GRU(2, num_layers=2, reverse=True), "N,T,3"),
    "GRUCell": case(lambda: nn.GRUCell(2), "N,3", "N,2"),
    "GlobalPool": case(nn.GlobalPool, "N,H,W,2"),
    "GroupNorm": case(lambda: nn.GroupNorm(2), "N,H,W,4"),
    "LSTM": case(lambda: nn.LSTM(2, return_state=True), "N,T,3", "bool[N,T]", call=lambda layer, x, mask: layer(x, mask=mask)),
    "LSTMCell": case(lambda: nn.LSTMCell(2, forget_bias=1.0), "N,3", "N,2", "N,2"),
    "LayerNorm1D": case(nn.LayerNorm1D, "N,T,3"),
    "LayerNorm2D": case(nn.LayerNorm2D, "N,3,2,2"),
    "MultiHeadedAttentionModule": case(lambda: nn.MultiHeadedAttentionModule(2, dropout_p=0.2), "N,T,4", "N,S,3",
                                       still=("key/bias",)),
    "Multiply": case(nn.Multiply, "N,3", "N,3"),
    "Pool2D": case(lambda: nn.Pool2D(2, mode="average", padding=1, ceil_mode=True), "N,H,W,2"),
    "RBM": case(lambda: nn.RBM(3), "N,4", call=lambda layer, v: layer.free_energy(v)),
    "RNN": case(lambda: nn.RNN(2, return_sequences=False), "N,T,3", "i64[N]", call=lambda layer, x, n: layer(x, lengths=n)),
    "RNNCell": case(lambda: nn.RNNCell(2), "N,3", "N,2"),
    "Recurrent": case(lambda: nn.Recurrent(Decay()), "N,T,3"),
    "Reshape": case(lambda: nn.Reshape((3, -1)), "N,6"),
    "SkipConnectionConvModule": case(lambda: nn.SkipConnectionConvModule(2, 3, 3, 2, 1, 1, "same", activation="tanh"), "N,H,W,2",
                                     still=("conv1/bias", "conv2/bias", "skip/bias")),
    "SkipConnectionIdentityModule": case(lambda: nn.SkipConnectionIdentityModule(3, 3, 2, activation="tanh"), "N,H,W,2",
                                         still=("conv1/bias", "conv2/bias")),
    "Softmax": case(nn.Softmax, "N,T,3"),
    "SparseEvolution": case(lambda: nn.SparseEvolution(4), "N,5"),
    "TransformerEncoderBlock": case(lambda: nn.TransformerEncoderBlock(2, 3, "tanh", norm_first=True), "N,T,4", "i64[N]",
                                    call=lambda layer, x, n: layer(x, lengths=n), still=("key/bias",)),
    "UpSampling2D": case(lambda: nn.UpSampling2D((2, 1)), "N,H,W,2"),
    "WavenetResidualModule": case(lambda: nn.WavenetResidualModule(2, 3, 2), "N,T,2"),
    **{name: case(getattr(nn, name), "N,T,3") for name in (
        "ELU", "Exponential", "GELU", "HardSigmoid", "HardSwish", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "SiLU",
        "Sigmoid", "SoftPlus", "Tanh")},
}


def with_lengths(layer: Any, x: gnn.Value, n: gnn.Value, *states: gnn.Value) -> Any:
    return layer(x, *states, lengths=n)


def with_mask(layer: Any, *values: gnn.Value) -> Any:
    return layer(*values[:-1], mask=values[-1])


# The same layers with other arguments and other calls: what the examples above leave out.
OTHERS: dict[str, Case] = {
    "BatchNorm1D-bare": case(lambda: nn.BatchNorm1D(affine=False, unbiased=False, momentum=1.0), "N,T,3"),
    "Bidirectional-own": case(lambda: nn.Bidirectional(nn.Recurrent(Decay()), "sum"), "N,T,3", "bool[N,T]", call=with_mask),
    "Bidirectional-states": case(lambda: nn.Bidirectional(nn.LSTM(2, return_sequences=False, return_state=True), "average"),
                                 "N,T,3", "i64[N]", call=with_lengths),
    "Conv1D-strided": case(lambda: nn.Conv1D(4, 3, 2, (2, 0), groups=2, activation="silu", bias=False), "N,T,2"),
    "DotProductAttention-added": case(lambda: nn.DotProductAttention(0.7, return_weights=True), "N,T,2", "N,S,2", "N,S,1", "T,S",
                                      call=with_mask),
    "DotProductAttention-hidden": case(lambda: nn.DotProductAttention(False), "N,2,T,2", "N,1,S,2", "N,2,S,1", "bool[N,1,1,S]",
                                       call=with_mask),
    "Dropout-spatial": case(lambda: nn.Dropout(0.4, spatial=True), "N,T,3"),
    "Dropout-wrapping": case(lambda: nn.Dropout(0.4, nn.RNN(2)), "N,T,3", "i64[N]", call=with_lengths),
    "Embedding-masked": Case(lambda dtype: nn.Embedding(5, 2, pool="sum", padding_idx=1, dtype=dtype), ("i64[N,T]", "bool[N,T]"),
                             with_mask),
    "Embedding-rows": Case(lambda dtype: nn.Embedding(5, 2, dtype=dtype), ("i32[N,T]",)),
    "GRU-states": case(lambda: nn.GRU(2, "soft_plus", bias=False, reverse=True, return_state=True), "N,T,3", "i64[N]", "N,2",
                       call=with_lengths),
    "GroupNorm-vectors": case(lambda: nn.GroupNorm(2, affine=False), "N,6"),
    "LSTM-last": case(lambda: nn.LSTM(2, return_sequences=False, reverse=True), "N,T,3", "N,2", "N,2"),
    "LSTM-stacked": case(lambda: nn.LSTM(2, "silu", forget_bias=1.0, num_layers=2, dropout_p=0.3, return_state=True), "N,T,3",
                         "bool[N,T]", call=with_mask),
    "LayerNorm1D-axes": case(lambda: nn.LayerNorm1D((2, 3)), "N,T,2,3"),
    "MultiHeadedAttentionModule-causal": case(lambda: nn.MultiHeadedAttentionModule(2, True, False), "N,T,4"),
    "MultiHeadedAttentionModule-sizes": case(lambda: nn.MultiHeadedAttentionModule(2, head_size=3, value_size=1), "N,T,2",
                                             "N,S,3", "N,S,2", "bool[N,T,S]", call=with_mask, still=("key/bias",)),
    "Pool2D-max": case(lambda: nn.Pool2D((2, 1), (1, 2), "same"), "N,H,W,2"),
    "RNN-masked": case(lambda: nn.RNN(2, "silu", False, reverse=True), "N,T,3", "bool[N,T]", call=with_mask),
    "Recurrent-last": case(lambda: nn.Recurrent(nn.LSTMCell(2), return_sequences=False, return_state=True), "N,T,3", "i64[N]",
                           call=with_lengths),
    "SkipConnectionConvModule-order": case(
        lambda: nn.SkipConnectionConvModule(2, 3, 2, 2, 1, "same", "same_size", 2, stride_skip=2, activation="tanh",
                                            order="conv-activation-norm"), "N,4,4,2", still=("conv2/bias", "skip/bias")),
    "SkipConnectionIdentityModule-order": case(
        lambda: nn.SkipConnectionIdentityModule(2, 2, 2, activation="silu", order="conv-activation-norm"), "N,H,W,2",
        still=("conv2/bias",)),
    "SparseEvolution-steps": case(lambda: nn.SparseEvolution(4, epsilon=1.0, activation="tanh", bias=False), "N,T,5"),
    "TransformerEncoderBlock-causal": case(lambda: nn.TransformerEncoderBlock(2, 3, "gelu", 0.0, causal=True, bias=False),
                                           "N,T,4", "bool[T,T]", call=with_mask),
    "WavenetResidualModule-skip": case(lambda: nn.WavenetResidualModule(2, 3, 2, 3, 3, False), "N,T,2", "N,T,3"),
}
