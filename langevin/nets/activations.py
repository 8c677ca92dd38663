"""Activation functions applied element by element."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def mish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x tanh(log(1 + exp(x)))` (Misra 2019, "Mish: a self regularized non-monotonic activation").

    With `e = exp(x)` the hyperbolic tangent of the softplus is `e (e + 2) / (e (e + 2) + 2)`: one
    exponential and one division in place of three transcendental functions.
    """
    # Above 20 the ratio is 1 to float32's last bit, while exp(x)^2 would overflow from 44 on.
    e = jnp.exp(jnp.minimum(x, 20.0))
    ratio = e * (e + 2.0)
    return x * (ratio / (ratio + 2.0))
