"""The arithmetic of networks on NumPy arrays, for study and for preparing data: windows, padding, convolution, first values,
images at another size and as one picture.

Images are (N, H, W, C), sequences (N, T, C), kernels (kh, kw, in, out) and (k, in, out), as in the layers. `dilation` counts the
step between taps: 1 means none. (numpy-ml counts the zeros between them, one less; `dilate` alone does so here too.)
`padding` is a number, a pair, four numbers, "valid" (none), "same" (ceil(size / stride) results), "same_size" (as many results as
x has, at any stride: numpy-ml's "same") or, over time, "causal". What draws takes a NumPy generator, and draws from no other.
"""

from graphnn.nn.initialisers import calc_fan, calc_gain
from graphnn.nn.utils.batches import minibatch
from graphnn.nn.utils.columns import col2im, im2col
from graphnn.nn.utils.convolution import conv1D, conv2D, conv2D_naive, deconv2D_naive
from graphnn.nn.utils.first_values import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    orthogonal,
    truncated_normal,
)
from graphnn.nn.utils.images import resize_images, tile_images
from graphnn.nn.utils.padding import calc_conv_out_dims, calc_pad_dims_1D, calc_pad_dims_2D, dilate, pad1D, pad2D

__all__ = [
    "calc_conv_out_dims", "calc_fan", "calc_gain", "calc_pad_dims_1D", "calc_pad_dims_2D", "col2im", "conv1D", "conv2D",
    "conv2D_naive", "deconv2D_naive", "dilate", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "im2col",
    "lecun_normal", "lecun_uniform", "minibatch", "orthogonal", "pad1D", "pad2D", "resize_images", "tile_images",
    "truncated_normal",
]
