"""Building blocks of exported Linen modules: `export_module` copies what is needed.

Written for people who know Flax: the same numbers as `jnas.networks`, by the ordinary
layers, without the forms that only compile faster. Runs in the dtype of its arrays.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

# Uniform in +-1 / sqrt(fan_in), as PyTorch's.
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv(features, window, stride=1, dilation=1, groups=1, name=None):
    """A convolution without bias that pads both sides alike."""
    return nn.Conv(
        features,
        (window, window),
        stride,
        padding=dilation * (window - 1) // 2,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=UNIFORM,
        name=name,
    )


class BatchNorm(nn.Module):
    """As nn.BatchNorm(momentum=0.9), but keeps the unbiased variance, as PyTorch."""

    @nn.compact
    def __call__(self, x, train):
        """Normalises by the batch in training, else by what is kept."""
        features = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_var.value = 0.9 * running_var.value + 0.1 * unbiased
        return (x - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias


class ReluConvNorm(nn.Module):
    """ReLU, convolution, normalisation."""

    features: int
    window: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, H / stride, W / stride, features]`."""
        x = conv(self.features, self.window, self.stride, name="conv")(nn.relu(x))
        return BatchNorm(name="norm")(x, train)


class FactorizedReduce(nn.Module):
    """Halves the image: one half of the channels sees even pixels, one odd ones."""

    features: int

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, H / 2, W / 2, features]`."""
        x = nn.relu(x)
        half = self.features // 2
        even = conv(half, 1, 2, name="even")(x)
        odd = conv(self.features - half, 1, 2, name="odd")(x[:, 1:, 1:])
        return BatchNorm(name="norm")(jnp.concatenate([even, odd], axis=-1), train)


class SepConv(nn.Module):
    """Twice: ReLU, depthwise convolution, pointwise convolution, normalisation."""

    channels: int
    window: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, H / stride, W / stride, C]`."""
        c = self.channels
        x = conv(c, self.window, self.stride, groups=c, name="depthwise0")(nn.relu(x))
        x = BatchNorm(name="norm0")(conv(c, 1, name="pointwise0")(x), train)
        x = conv(c, self.window, groups=c, name="depthwise1")(nn.relu(x))
        x = BatchNorm(name="norm1")(conv(c, 1, name="pointwise1")(x), train)
        return x


class DilConv(nn.Module):
    """ReLU, depthwise convolution of dilation 2, pointwise one, normalisation."""

    channels: int
    window: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, H / stride, W / stride, C]`."""
        c, x = self.channels, nn.relu(x)
        x = conv(c, self.window, self.stride, 2, groups=c, name="depthwise0")(x)
        return BatchNorm(name="norm0")(conv(c, 1, name="pointwise0")(x), train)


class Conv7x1(nn.Module):
    """ReLU, 1x7 convolution, 7x1 convolution, normalisation."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, H / stride, W / stride, C]`."""
        c, across, down = self.channels, (1, self.stride), (self.stride, 1)
        options = {"use_bias": False, "kernel_init": UNIFORM}
        row = nn.Conv(c, (1, 7), across, ((0, 0), (3, 3)), name="conv0", **options)
        column = nn.Conv(c, (7, 1), down, ((3, 3), (0, 0)), name="conv1", **options)
        return BatchNorm(name="norm")(column(row(nn.relu(x))), train)


class GroupedHalving(nn.Module):
    """ReLU, 1x3 and 3x1 convolutions in groups, norm, ReLU, 1x1 convolution, norm."""

    channels: int

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, H / 2, W / 2, C]`."""
        c, x = self.channels, nn.relu(x)
        for i, window, stride in ((0, (1, 3), (1, 2)), (1, (3, 1), (2, 1))):
            x = nn.Conv(
                c,
                window,
                stride,
                padding=[(k // 2, k // 2) for k in window],
                feature_group_count=int(np.gcd(8, c)),
                use_bias=False,
                kernel_init=UNIFORM,
                name=f"conv{i}",
            )(x)
        x = BatchNorm(name="norm0")(x, train)
        x = conv(c, 1, name="pointwise")(nn.relu(x))
        return BatchNorm(name="norm1")(x, train)


def max_pool(x, stride=1):
    """The maximum over 3x3 pixels, as far as they are in the image."""
    return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def avg_pool(x, stride=1):
    """The mean over 3x3 pixels, as far as they are in the image."""
    edge = ((1, 1), (1, 1))
    return nn.avg_pool(x, (3, 3), (stride, stride), edge, count_include_pad=False)


class ResidualReduction(nn.Module):
    """Halves the image: two 3x3 convolutions beside an average-pooled shortcut."""

    features: int

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, H / 2, W / 2, features]`."""
        y = ReluConvNorm(self.features, 3, 2, name="conv_a")(x, train)
        y = ReluConvNorm(self.features, 3, name="conv_b")(y, train)
        return y + conv(self.features, 1, name="shortcut")(
            nn.avg_pool(x, (2, 2), (2, 2))
        )


class ImagenetStem(nn.Module):
    """Three convolutions of stride 2; gives what the first two cells read."""

    channels: int

    @nn.compact
    def __call__(self, x, train):
        """Images `[B, H, W, 3]` to a quarter and an eighth of their size."""
        x = conv(self.channels // 2, 3, 2, name="conv0")(x)
        x = nn.relu(BatchNorm(name="norm0")(x, train))
        x = conv(self.channels, 3, 2, name="conv1")(x)
        first = BatchNorm(name="norm1")(x, train)
        x = conv(self.channels, 3, 2, name="conv2")(nn.relu(first))
        return first, BatchNorm(name="norm2")(x, train)


class AuxiliaryHead(nn.Module):
    """A second classifier that helps to train; reads a cell two thirds up."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, num_classes]`."""
        x = nn.avg_pool(nn.relu(x), (5, 5), (3, 3))
        x = nn.relu(BatchNorm(name="norm_a")(conv(128, 1, name="conv_a")(x), train))
        # A 2x2 window without padding.
        x = conv(768, 2, name="conv_b")(x)
        x = nn.relu(BatchNorm(name="norm_b")(x, train))
        dense = nn.Dense(self.num_classes, kernel_init=UNIFORM, name="classifier")
        return dense(x.mean((1, 2)))


class ImagenetAuxiliaryHead(nn.Module):
    """A second classifier that helps to train; reads a cell two thirds up."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, C] -> [B, num_classes]`."""
        x = nn.avg_pool(nn.relu(x), (5, 5), (2, 2))
        x = nn.relu(BatchNorm(name="norm_a")(conv(128, 1, name="conv_a")(x), train))
        # A 2x2 window without padding; no normalisation follows, as in DARTS' code.
        x = nn.relu(conv(768, 2, name="conv_b")(x))
        dense = nn.Dense(self.num_classes, kernel_init=UNIFORM, name="classifier")
        return dense(x.mean((1, 2)))


def drop_path_scales(key, rate, shape):
    """Factors of drop path: 0 with probability `rate`, else 1 / (1 - rate)."""
    kept = jax.random.uniform(key, shape) < 1 - rate
    return jnp.where(kept, 1 / (1 - rate), 0.0)


def drop(x, scales, edge):
    """Drops an edge in some of the images, by its row of `drop_path_scales`."""
    return x if scales is None else x * scales[edge][:, None, None, None]


def load(path):
    """Reads the variables of a network that jnas wrote to an .npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        return traverse_util.unflatten_dict(dict(arrays), sep="/")


def uniform(key, shape, dtype=jnp.float32):
    """Initial weights of recurrent networks: uniform in +-0.04."""
    return jax.random.uniform(key, shape, dtype, -0.04, 0.04)


def highway(state, both, activation):
    """From a state towards its activation, by a learned share for each channel."""
    gate, value = jnp.split(both, 2, axis=-1)
    return state + jax.nn.sigmoid(gate) * (activation(value) - state)


def dropout_mask(key, number, rate, shape):
    """0 with probability `rate`, else 1 / (1 - rate); ones without a key."""
    if key is None:
        return jnp.ones(shape)
    kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - rate, shape)
    return kept / (1 - rate)
