"""EDM: the loss and the denoiser of Karras et al. 2022, with entries held fixed and conditions at data scale.

The network sees two things: the noisy sample scaled by `c_in`, held entries clean, and beside it a condition
that is *not* scaled. At the highest noise `c_in` shrinks a held entry to 1/80 of itself; without the second
view the network cannot tell where a trajectory starts while its place is being decided.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint, mean_of_counted

Network = Callable[[Float[Array, "horizon inputs"], Float[Array, ""]], Float[Array, "horizon channels"]]


class EDM(eqx.Module):
    """The constants of EDM (Table 1): the data's standard deviation and the training noise distribution.

    sigma_data: standard deviation of the data. log_noise_mean, log_noise_std: of ln(noise level) in training.
    """

    sigma_data: float = eqx.field(static=True, default=0.5)
    log_noise_mean: float = eqx.field(static=True, default=-1.2)
    log_noise_std: float = eqx.field(static=True, default=1.2)

    def denoise(
        self,
        network: Network,
        noisy: Float[Array, "horizon channels"],
        noise_level: Float[Array, ""],
        condition: Float[Array, "horizon conditions"],
    ) -> Float[Array, "horizon channels"]:
        """The denoiser D(x; sigma) (EDM, Eq. 7): the expected clean trajectory behind a noisy one."""
        total_variance = noise_level**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / total_variance
        c_out = noise_level * self.sigma_data / jnp.sqrt(total_variance)
        c_in = 1 / jnp.sqrt(total_variance)
        c_noise = jnp.log(noise_level) / 4
        network_input = jnp.concatenate([c_in * noisy, condition], axis=-1)
        return c_skip * noisy + c_out * network(network_input, c_noise)

    def loss_weight(self, noise_level: Float[Array, ""]) -> Float[Array, ""]:
        """lambda(sigma) = 1 / c_out^2: every noise level starts with the same loss."""
        return (noise_level**2 + self.sigma_data**2) / (noise_level * self.sigma_data) ** 2

    def draw_noise_level(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """ln(sigma) ~ N(log_noise_mean, log_noise_std^2)."""
        return jnp.exp(self.log_noise_mean + self.log_noise_std * jax.random.normal(key))

    def square_error(
        self,
        network: Network,
        clean: Float[Array, "horizon channels"],
        constraint: Constraint,
        condition: Float[Array, "horizon conditions"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """lambda(sigma) (D(x) - x_0)^2 of every entry, at a noise level drawn for the trajectory (DyDiff, Eq. 4)."""
        level_key, noise_key = jax.random.split(key)
        noise_level = self.draw_noise_level(key=level_key)
        noise = jax.random.normal(noise_key, clean.shape)
        noisy = constraint.apply(clean + noise_level * noise)
        denoised = self.denoise(network, noisy, noise_level, condition)
        return self.loss_weight(noise_level) * (denoised - clean) ** 2


def edm_loss(
    edm: EDM,
    network: Network,
    clean: Float[Array, "batch horizon channels"],
    valid: Bool[Array, "batch horizon"],
    constraints: Constraint,
    conditions: Float[Array, "batch horizon conditions"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """Mean weighted square error over the entries that are neither held nor padded (EDM, Eq. 8).

    `constraints` carries a leading batch axis. One noise level is drawn for each trajectory.
    """
    keys = jax.random.split(key, clean.shape[0])

    def one(clean, constraint, condition, key):
        return edm.square_error(network, clean, constraint, condition, key=key)

    errors = jax.vmap(one)(clean, constraints, conditions, keys)
    return mean_of_counted(errors, valid[:, :, None] & ~constraints.held)
