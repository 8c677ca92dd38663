"""Guidance by a policy: samples that the model thinks likely and whose actions the policy would take.

Jackson et al. 2024, "Policy-guided diffusion": of p(trajectory) prod_t pi(a_t | s_t)^lambda the score at a noise level
is the model's own plus lambda times the gradient of log pi. The gradient is taken at the denoised estimate D, in the
actions alone, and added to D in the place of the score, for score = (D - x) / sigma^2.

How far it moves D follows from what D leaves open. Given the noisy sample, the clean action lies about D with a
variance v = c_out^2 (EDM: from the data's sigma_d^2 at high noise to sigma^2 at low), and

    E[a] under N(a; D, v) pi(a)^lambda  =  D + (1/v + lambda h)^-1 lambda g,   g = d log pi, h = -d^2 log pi at D,

exactly for a Gaussian policy and one step of Newton's method for any other. Without h it would be D + v lambda g, the
plain form, which overshoots as soon as the policy is narrower than v; the authors' code scales g to length 1 instead.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from langevin.diffusion.edm import EDM
from langevin.diffusion.levels import Denoiser

ActionDensity = Callable[
    [Float[Array, "horizon channels"], Float[Array, "horizon action"]], Float[Array, " horizon"]
]
"""`(rows, actions)` -> log density of each action in the state of its row; a product over action dimensions."""


def policy_guided(
    denoiser: Denoiser, edm: EDM, log_density: ActionDensity, columns: slice, strength: float
) -> Denoiser:
    """A denoiser that leans towards the policy's actions, which stand in `columns` of a row.

    strength: lambda; 0 is the model alone, 1 weighs the policy's density as much as the data's. What `log_density` sees
    and the actions that come out lie in [-1, 1], as the data do.
    """

    def denoise(
        noisy: Float[Array, "horizon channels"], noise_level: Float[Array, ""]
    ) -> Float[Array, "horizon channels"]:
        clean = denoiser(noisy, noise_level)
        if strength == 0:
            return clean
        rows = jnp.clip(clean, -1, 1)
        total = lambda actions: log_density(rows, actions).sum()
        actions = rows[:, columns]
        # The second derivatives are a diagonal matrix, for the density is a product: times a vector of ones.
        slope, bend = jax.jvp(jax.grad(total), (actions,), (jnp.ones_like(actions),))
        curvature = jnp.maximum(-bend, 0.0)
        precision = edm.loss_weight(noise_level)  # 1 / v = 1 / c_out^2
        guided = clean[:, columns] + strength * slope / (precision + strength * curvature)
        return clean.at[:, columns].set(jnp.clip(guided, -1, 1))

    return denoise
