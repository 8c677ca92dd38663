"""Samples that are drawn towards what is worth more (Janner et al. 2022, Diffuser, Algorithm 1)."""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from langevin.errors import require_at_least
from langevin.planners.plan_value import PlanValue


class ValueGuidance(eqx.Module):
    """Settings of a guide.

    scale: alpha, per standard deviation of the data's returns; 0 leaves every sample as it is. gradient_steps: taken in
    each denoising step. unguided_steps: of the chain, the last ones, without guidance.
    """

    scale: float = eqx.field(static=True, default=1.0)
    gradient_steps: int = eqx.field(static=True, default=2)
    unguided_steps: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        require_at_least(0, scale=self.scale, unguided_steps=self.unguided_steps)
        require_at_least(1, gradient_steps=self.gradient_steps)

    def guide(self, value: PlanValue, observation_size: int) -> "ValueGuide":
        """The guide towards plans of greater value, whose first observations are known."""
        return ValueGuide(value, self, observation_size)


class ValueGuide(eqx.Module):
    """mu <- mu + alpha Sigma grad J(mu), as the paper's Algorithm 1 moves the mean of a step.

    The published code moves the noisy plan before the model sees it instead, with the variance of the step to come. J
    is asked at the level that the mean belongs to, the one arrived at.
    """

    value: PlanValue
    settings: ValueGuidance
    observation_size: int = eqx.field(static=True)

    def __call__(
        self,
        mean: Float[Array, "horizon channels"],
        clean: Float[Array, "horizon channels"],
        variance: Float[Array, ""],
        time: Array,
    ) -> Float[Array, "horizon channels"]:
        def climb() -> Float[Array, "horizon channels"]:
            moved = mean
            for _ in range(self.settings.gradient_steps):
                gradient = jax.grad(self.value.at)(moved, time)
                gradient = gradient.at[0, : self.observation_size].set(0.0)  # where the system is, it is
                moved = moved + self.settings.scale * variance * gradient
            return moved

        # The step before the last arrives at level 0, the last one at the plan itself.
        return jax.lax.cond(time >= self.settings.unguided_steps - 1, climb, lambda: mean)
