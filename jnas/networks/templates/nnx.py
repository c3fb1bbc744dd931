"""Building blocks of exported NNX modules: `export_module` copies what is needed.

As `linen.py` beside it; `model.train()` and `model.eval()` switch the normalisations.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# Uniform in +-1 / sqrt(fan_in), as PyTorch's.
UNIFORM = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv(inputs, features, window, stride=1, dilation=1, groups=1, *, rngs):
    """A convolution without bias that pads both sides alike."""
    return nnx.Conv(
        inputs,
        features,
        (window, window),
        stride,
        padding=dilation * (window - 1) // 2,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=UNIFORM,
        rngs=rngs,
    )


class BatchNorm(nnx.Module):
    """As nnx.BatchNorm(momentum=0.9), but keeps the unbiased variance, as PyTorch."""

    def __init__(self, features):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.use_running_average = False

    def __call__(self, x):
        """Normalises by the batch in training, else by what is kept."""
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size // x.shape[-1]
            unbiased = var * (count / max(count - 1, 1))
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * mean
            self.var[...] = 0.9 * self.var[...] + 0.1 * unbiased
        factor = jax.lax.rsqrt(var + 1e-5) * self.scale[...]
        return (x - mean) * factor + self.bias[...]


class ReluConvNorm(nnx.Module):
    """ReLU, convolution, normalisation."""

    def __init__(self, inputs, features, window=1, stride=1, *, rngs):
        self.conv = conv(inputs, features, window, stride, rngs=rngs)
        self.norm = BatchNorm(features)

    def __call__(self, x):
        """`[B, H, W, C] -> [B, H / stride, W / stride, features]`."""
        return self.norm(self.conv(nnx.relu(x)))


class FactorizedReduce(nnx.Module):
    """Halves the image: one half of the channels sees even pixels, one odd ones."""

    def __init__(self, inputs, features, *, rngs):
        half = features // 2
        self.even = conv(inputs, half, 1, 2, rngs=rngs)
        self.odd = conv(inputs, features - half, 1, 2, rngs=rngs)
        self.norm = BatchNorm(features)

    def __call__(self, x):
        """`[B, H, W, C] -> [B, H / 2, W / 2, features]`."""
        x = nnx.relu(x)
        halves = [self.even(x), self.odd(x[:, 1:, 1:])]
        return self.norm(jnp.concatenate(halves, axis=-1))


class SepConv(nnx.Module):
    """Twice: ReLU, depthwise convolution, pointwise convolution, normalisation."""

    def __init__(self, channels, window, stride=1, *, rngs):
        c = channels
        self.depthwise0 = conv(c, c, window, stride, groups=c, rngs=rngs)
        self.pointwise0 = conv(c, c, 1, rngs=rngs)
        self.norm0 = BatchNorm(c)
        self.depthwise1 = conv(c, c, window, groups=c, rngs=rngs)
        self.pointwise1 = conv(c, c, 1, rngs=rngs)
        self.norm1 = BatchNorm(c)

    def __call__(self, x):
        """`[B, H, W, C] -> [B, H / stride, W / stride, C]`."""
        x = self.norm0(self.pointwise0(self.depthwise0(nnx.relu(x))))
        return self.norm1(self.pointwise1(self.depthwise1(nnx.relu(x))))


class DilConv(nnx.Module):
    """ReLU, depthwise convolution of dilation 2, pointwise one, normalisation."""

    def __init__(self, channels, window, stride=1, *, rngs):
        c = channels
        self.depthwise0 = conv(c, c, window, stride, 2, groups=c, rngs=rngs)
        self.pointwise0 = conv(c, c, 1, rngs=rngs)
        self.norm0 = BatchNorm(c)

    def __call__(self, x):
        """`[B, H, W, C] -> [B, H / stride, W / stride, C]`."""
        return self.norm0(self.pointwise0(self.depthwise0(nnx.relu(x))))


class Conv7x1(nnx.Module):
    """ReLU, 1x7 convolution, 7x1 convolution, normalisation."""

    def __init__(self, channels, stride=1, *, rngs):
        c, across, down = channels, (1, stride), (stride, 1)
        options = {"use_bias": False, "kernel_init": UNIFORM, "rngs": rngs}
        self.conv0 = nnx.Conv(c, c, (1, 7), across, padding=((0, 0), (3, 3)), **options)
        self.conv1 = nnx.Conv(c, c, (7, 1), down, padding=((3, 3), (0, 0)), **options)
        self.norm = BatchNorm(c)

    def __call__(self, x):
        """`[B, H, W, C] -> [B, H / stride, W / stride, C]`."""
        return self.norm(self.conv1(self.conv0(nnx.relu(x))))


class GroupedHalving(nnx.Module):
    """ReLU, 1x3 and 3x1 convolutions in groups, norm, ReLU, 1x1 convolution, norm."""

    def __init__(self, channels, *, rngs):
        c = channels
        options = {"use_bias": False, "kernel_init": UNIFORM, "rngs": rngs}
        options["feature_group_count"] = int(np.gcd(8, c))
        across, down = ((0, 0), (1, 1)), ((1, 1), (0, 0))
        self.conv0 = nnx.Conv(c, c, (1, 3), (1, 2), padding=across, **options)
        self.conv1 = nnx.Conv(c, c, (3, 1), (2, 1), padding=down, **options)
        self.norm0 = BatchNorm(c)
        self.pointwise = conv(c, c, 1, rngs=rngs)
        self.norm1 = BatchNorm(c)

    def __call__(self, x):
        """`[B, H, W, C] -> [B, H / 2, W / 2, C]`."""
        x = self.norm0(self.conv1(self.conv0(nnx.relu(x))))
        return self.norm1(self.pointwise(nnx.relu(x)))


def max_pool(x, stride=1):
    """The maximum over 3x3 pixels, as far as they are in the image."""
    return nnx.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def avg_pool(x, stride=1):
    """The mean over 3x3 pixels, as far as they are in the image."""
    edge = ((1, 1), (1, 1))
    return nnx.avg_pool(x, (3, 3), (stride, stride), edge, count_include_pad=False)


class ResidualReduction(nnx.Module):
    """Halves the image: two 3x3 convolutions beside an average-pooled shortcut."""

    def __init__(self, inputs, features, *, rngs):
        self.conv_a = ReluConvNorm(inputs, features, 3, 2, rngs=rngs)
        self.conv_b = ReluConvNorm(features, features, 3, rngs=rngs)
        self.shortcut = conv(inputs, features, 1, rngs=rngs)

    def __call__(self, x):
        """`[B, H, W, C] -> [B, H / 2, W / 2, features]`."""
        y = self.conv_b(self.conv_a(x))
        return y + self.shortcut(nnx.avg_pool(x, (2, 2), (2, 2)))


class ImagenetStem(nnx.Module):
    """Three convolutions of stride 2; gives what the first two cells read."""

    def __init__(self, inputs, channels, *, rngs):
        self.conv0 = conv(inputs, channels // 2, 3, 2, rngs=rngs)
        self.norm0 = BatchNorm(channels // 2)
        self.conv1 = conv(channels // 2, channels, 3, 2, rngs=rngs)
        self.norm1 = BatchNorm(channels)
        self.conv2 = conv(channels, channels, 3, 2, rngs=rngs)
        self.norm2 = BatchNorm(channels)

    def __call__(self, x):
        """Images `[B, H, W, 3]` to a quarter and an eighth of their size."""
        first = self.norm1(self.conv1(nnx.relu(self.norm0(self.conv0(x)))))
        return first, self.norm2(self.conv2(nnx.relu(first)))


class AuxiliaryHead(nnx.Module):
    """A second classifier that helps to train; reads a cell two thirds up."""

    def __init__(self, inputs, num_classes, *, rngs):
        self.conv_a = conv(inputs, 128, 1, rngs=rngs)
        self.norm_a = BatchNorm(128)
        self.conv_b = conv(128, 768, 2, rngs=rngs)  # 2x2, without padding
        self.norm_b = BatchNorm(768)
        dense = nnx.Linear(768, num_classes, kernel_init=UNIFORM, rngs=rngs)
        self.classifier = dense

    def __call__(self, x):
        """`[B, H, W, C] -> [B, num_classes]`."""
        x = nnx.avg_pool(nnx.relu(x), (5, 5), (3, 3))
        x = nnx.relu(self.norm_a(self.conv_a(x)))
        x = nnx.relu(self.norm_b(self.conv_b(x)))
        return self.classifier(x.mean((1, 2)))


class ImagenetAuxiliaryHead(nnx.Module):
    """A second classifier that helps to train; reads a cell two thirds up."""

    def __init__(self, inputs, num_classes, *, rngs):
        self.conv_a = conv(inputs, 128, 1, rngs=rngs)
        self.norm_a = BatchNorm(128)
        # 2x2, without padding; no normalisation follows, as in DARTS' code.
        self.conv_b = conv(128, 768, 2, rngs=rngs)
        dense = nnx.Linear(768, num_classes, kernel_init=UNIFORM, rngs=rngs)
        self.classifier = dense

    def __call__(self, x):
        """`[B, H, W, C] -> [B, num_classes]`."""
        x = nnx.avg_pool(nnx.relu(x), (5, 5), (2, 2))
        x = nnx.relu(self.norm_a(self.conv_a(x)))
        x = nnx.relu(self.conv_b(x))
        return self.classifier(x.mean((1, 2)))


def drop_path_scales(key, rate, shape):
    """Factors of drop path: 0 with probability `rate`, else 1 / (1 - rate)."""
    kept = jax.random.uniform(key, shape) < 1 - rate
    return jnp.where(kept, 1 / (1 - rate), 0.0)


def drop(x, scales, edge):
    """Drops an edge in some of the images, by its row of `drop_path_scales`."""
    return x if scales is None else x * scales[edge][:, None, None, None]


def load(model, path):
    """Puts the arrays that jnas wrote to an .npz file into the model."""
    state = nnx.to_flat_state(nnx.state(model))
    with np.load(path, allow_pickle=False) as arrays:
        for place, variable in state:
            variable.set_value(jnp.asarray(arrays["/".join(map(str, place))]))
    nnx.update(model, nnx.from_flat_state(state))


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
