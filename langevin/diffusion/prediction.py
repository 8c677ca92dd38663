"""What a DDPM's network predicts, the noise or the clean sample, and its loss with entries held fixed.

Samplers ask for the clean sample alone, and never learn which of the two it came from.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.ddpm import DiscreteSchedule
from langevin.diffusion.edm import Network


class DDPM(eqx.Module):
    """A discrete chain and what its network predicts at each step.

    The network sees the noisy sample, held entries clean, with the condition beside it, and is told ln(noise level) / 4
    as EDM's is: the same networks serve both.
    """

    schedule: DiscreteSchedule
    predicts: Literal["noise", "clean"] = eqx.field(static=True, default="noise")

    def output(
        self,
        network: Network,
        noisy: Float[Array, "horizon channels"],
        step: Int[Array, ""],
        condition: Float[Array, "horizon conditions"],
    ) -> Float[Array, "horizon channels"]:
        """What the network says: eps or x_0."""
        time = jnp.log(self.schedule.noise_level(step)) / 4
        return network(jnp.concatenate([noisy, condition], axis=-1), time)

    def denoise(
        self,
        network: Network,
        noisy: Float[Array, "horizon channels"],
        step: Int[Array, ""],
        condition: Float[Array, "horizon conditions"],
    ) -> Float[Array, "horizon channels"]:
        """The clean sample behind a noisy one, as the network predicts it in either form."""
        output = self.output(network, noisy, step, condition)
        return output if self.predicts == "clean" else self.schedule.clean_of(noisy, step, output)

    def corrupted(
        self, clean: Float[Array, "horizon channels"], constraint: Constraint, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "horizon channels"], Int[Array, ""], Float[Array, "horizon channels"]]:
        """x_k at a step drawn evenly, held entries clean; beside it the step and the noise."""
        step_key, noise_key = jax.random.split(key)
        step = jax.random.randint(step_key, (), 0, self.schedule.steps)
        noise = jax.random.normal(noise_key, clean.shape)
        return constraint.apply(self.schedule.noised(clean, step, noise)), step, noise

    def square_error(
        self,
        network: Network,
        clean: Float[Array, "horizon channels"],
        constraint: Constraint,
        condition: Float[Array, "horizon conditions"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """The network's error at a step drawn evenly: |eps - eps(x_k, k)|^2 (Ho et al. 2020, Eq. 14), or of x_0."""
        noisy, step, noise = self.corrupted(clean, constraint, key=key)
        target = noise if self.predicts == "noise" else clean
        return (self.output(network, noisy, step, condition) - target) ** 2
