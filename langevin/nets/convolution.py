"""One-dimensional convolutions that take the form their backend runs fastest."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.nets.fast_convolution import fast_convolve

Form = Literal["fast", "matmul", "native"]
FAST_KERNEL, FAST_CHANNELS = 5, 16
"""The kernel for which, and the channels from which on, the fast form was measured to be the fastest."""


def convolve(
    x: Float[Array, "length in"],
    weight: Float[Array, "kernel in out"],
    *,
    padding: int = 0,
    stride: int = 1,
    form: Form | None = None,
) -> Float[Array, "steps out"]:
    """`y[i] = sum_k x[i stride + k - padding] weight[k]`, with zeros outside `x`.

    There are `(length + 2 padding - kernel) // stride + 1` steps. `form` is "fast" (fewer multiplications; stride
    1 and kernels of 3 to 5), "matmul" (one matmul over shifted copies of `x`) or "native" (XLA's convolution).
    They agree to rounding; None picks "native" except on a CPU, where XLA's convolution and its gradients are
    several times slower: there "fast" where that pays, else "matmul".
    """
    form = form or _default_form(weight, stride)
    if form == "fast":
        if stride != 1:
            raise ValueError(f"the fast form takes stride 1, got {stride}")
        return fast_convolve(x, weight, padding)
    return (_as_matmul if form == "matmul" else _as_native)(x, weight, padding, stride)


def _default_form(weight: Float[Array, "kernel in out"], stride: int) -> Form:
    if jax.default_backend() != "cpu":
        return "native"
    kernel, *channels = weight.shape
    pays = stride == 1 and kernel == FAST_KERNEL and min(channels) >= FAST_CHANNELS
    return "fast" if pays else "matmul"


def _as_matmul(x, weight, padding, stride):
    kernel, in_channels, out_channels = weight.shape
    padded = jnp.pad(x, ((padding, padding), (0, 0))) if padding else x
    last_start = padded.shape[0] - kernel
    copies = [padded[k : k + last_start + 1 : stride] for k in range(kernel)]
    return jnp.concatenate(copies, axis=-1) @ weight.reshape(kernel * in_channels, out_channels)


def _as_native(x, weight, padding, stride):
    return jax.lax.conv_general_dilated(
        x[None], weight, (stride,), [(padding, padding)], dimension_numbers=("NWC", "WIO", "NWC")
    )[0]


class Convolution(eqx.Module):
    """A convolution of odd kernel along time, with a bias; the length stays, or is divided by `stride`
    (rounded up).

    Initial values: every weight and bias uniform in +-1/sqrt(kernel in), PyTorch's default for `nn.Conv1d`.
    """

    weight: Float[Array, "kernel in out"]
    bias: Float[Array, " out"]
    stride: int = eqx.field(static=True)
    form: Form | None = eqx.field(static=True)

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, form: Form | None = None,
        *, key: PRNGKeyArray,
    ):  # fmt: skip
        if kernel % 2 == 0:
            raise ValueError(f"a kernel must be odd, so that it has a middle, got {kernel}")
        self.weight, self.bias = _initial_values(
            (kernel, in_channels, out_channels), kernel * in_channels, key
        )
        self.stride = stride
        self.form = form

    def __call__(self, x: Float[Array, "length in"]) -> Float[Array, "steps out"]:
        padding = self.weight.shape[0] // 2
        return convolve(x, self.weight, padding=padding, stride=self.stride, form=self.form) + self.bias


class Upsample(eqx.Module):
    """Twice the length: the transposed convolution of kernel 4, stride 2 and padding 1.

    Steps `2 i - 1` and `2 i` of the output both depend on the inputs `i - 1` and `i` alone. So it is a plain
    convolution of kernel 2 that makes two steps' channels at once, laid one after the other: no zeros are
    put between the inputs and none are multiplied.

    Initial values: uniform in +-1/sqrt(4 channels), PyTorch's default for `nn.ConvTranspose1d`.
    """

    weight: Float[Array, "kernel in two_out"]
    bias: Float[Array, " out"]
    form: Form | None = eqx.field(static=True)

    def __init__(self, channels: int, form: Form | None = None, *, key: PRNGKeyArray):
        weight, self.bias = _initial_values((2, channels, 2, channels), 4 * channels, key)
        self.weight = weight.reshape(2, channels, 2 * channels)
        self.form = form

    def __call__(self, x: Float[Array, "length channels"]) -> Float[Array, "doubled channels"]:
        length, channels = x.shape
        pairs_of_steps = convolve(x, self.weight, padding=1, form=self.form)
        return pairs_of_steps.reshape(2 * (length + 1), channels)[1:-1] + self.bias


def _initial_values(shape, inputs, key):
    weight_key, bias_key = jax.random.split(key)
    bound = inputs**-0.5
    return (
        jax.random.uniform(weight_key, shape, minval=-bound, maxval=bound),
        jax.random.uniform(bias_key, shape[-1:], minval=-bound, maxval=bound),
    )
