"""DMEMM's dual guidance (Eq. 13): sampling that is drawn to reward and to what the transition model thinks likely."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from langevin.diffusion.ddpm import DiscreteSchedule
from langevin.diffusion.levels import Guide, unmoved
from langevin.errors import UsageError, require_at_least
from langevin.planners.mechanism import Mechanism


class DualGuidance(eqx.Module):
    """How sampling is guided.

    scale: alpha, 0 for none. reward_weight: of the reward's gradient (1 in the paper, 0 without reward guidance).
    transition_weight: lambda, of the log-likelihood's gradient (0 without transition guidance). judged: the plan that
    the models are asked about. "noised", as Eq. 13 is printed, is the step itself: its noise is to the models a plan
    of leaps, and log T of leaps is so steep that alpha = 0.001 moves most entries as far as they may go. "clean" is
    the plan that the network sees behind the noise, and counts by abar_k as in Eqs. 9 and 10. largest_move: by how
    many of its own standard deviations a step can be moved in any entry; the paper has no bound.
    """

    scale: float = eqx.field(static=True, default=0.001)
    reward_weight: float = eqx.field(static=True, default=1.0)
    transition_weight: float = eqx.field(static=True, default=1.0)
    judged: Literal["clean", "noised"] = eqx.field(static=True, default="clean")
    largest_move: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        require_at_least(
            0, scale=self.scale, reward_weight=self.reward_weight, transition_weight=self.transition_weight
        )
        if not self.largest_move > 0:
            raise UsageError(f"largest_move must be greater than 0, got {self.largest_move}")

    def guide(self, mechanism: Mechanism, schedule: DiscreteSchedule) -> Guide:
        """What a sampler of that chain asks in every step; `unmoved` where nothing guides."""
        guided = self.scale and (self.reward_weight or self.transition_weight)
        return DualGuide(mechanism, schedule, self) if guided else unmoved


class DualGuide(eqx.Module):
    """Moves a step of sampling up the gradient of reward and likelihood."""

    mechanism: Mechanism
    schedule: DiscreteSchedule
    guidance: DualGuidance

    def __call__(
        self,
        mean: Float[Array, "horizon channels"],
        clean: Float[Array, "horizon channels"],
        variance: Float[Array, ""],
        time: Array,
    ) -> Float[Array, "horizon channels"]:
        """mu + alpha sigma_k^2 g (Algorithm 1), no entry further than `largest_move` sigma_k."""
        if self.guidance.judged == "clean":
            slope = self.schedule.kept[time] * jax.grad(self.objective)(clean)
        else:
            slope = jax.grad(self.objective)(mean)
        move = self.guidance.scale * variance * slope
        most = self.guidance.largest_move * jnp.sqrt(variance)
        return mean + jnp.clip(move, -most, most)

    def objective(self, rows: Float[Array, "horizon channels"]) -> Float[Array, ""]:
        """Of which g is the gradient by the whole plan: sum_t R(s_t, a_t) + lambda sum_t log T(s_{t+1} | s_t, a_t)."""
        total = jnp.zeros(())
        if self.guidance.reward_weight:
            total += self.guidance.reward_weight * self.mechanism.rewards(rows).sum()
        if self.guidance.transition_weight:
            total += self.guidance.transition_weight * self.mechanism.log_likelihoods(rows).sum()
        return total
