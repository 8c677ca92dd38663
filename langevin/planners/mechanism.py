"""The environment's mechanism as it was learned, asked along a plan: what follows each row, and what it earns."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from langevin.dynamics.ensemble import DynamicsModel
from langevin.dynamics.reward import RewardModel
from langevin.planners.window_diffusion import Scale


class Mechanism(eqx.Module):
    """A transition model and a reward model that take a plan's normalised rows.

    dynamics: from one row to the next, `stride` environment steps where rows are so far apart. reward: of a row, in
    the environment's reward units. Either is None where nobody asks it. States are compared z-scored, so that every
    dimension counts alike.
    """

    dynamics: DynamicsModel | None
    reward: RewardModel | None
    scale: Scale

    def states(self, rows: Float[Array, "rows channels"]) -> Float[Array, "rows observation"]:
        """The rows' states, z-scored."""
        assert self.dynamics is not None
        return self.dynamics.scales.observation.normalize(self.scale.observations(rows))

    def successors(
        self, rows: Float[Array, "rows channels"]
    ) -> tuple[Float[Array, "rows observation"], Float[Array, "rows observation"]]:
        """Mean and variance of the state after each row by the mixture of the elites, z-scored.

        Where the elites disagree the mixture is wide.
        """
        dynamics = self.dynamics
        assert dynamics is not None
        scales = dynamics.scales
        observations, actions = self.scale.observations(rows), self.scale.actions(rows)
        inputs = scales.inputs(observations, actions)
        elites = jax.tree.map(lambda leaf: leaf[dynamics.elites], dynamics.members.networks)
        changes, log_variances = eqx.filter_vmap(lambda network: network(inputs))(elites)
        change, spread = changes.mean(axis=0), changes.var(axis=0) + jnp.exp(log_variances).mean(axis=0)
        after = scales.clip_observations(observations) + scales.change.denormalize(change)
        units = jnp.square(scales.change.std / scales.observation.std)
        return scales.observation.normalize(after), units * spread

    def log_likelihoods(self, rows: Float[Array, "rows channels"]) -> Float[Array, " rows-1"]:
        """log T(s_{t+1} | s_t, a_t) from each row to the next, in nats, of z-scored states."""
        mean, variance = self.successors(rows[:-1])
        errors = jnp.square(self.states(rows)[1:] - mean) / variance
        return -0.5 * (errors + jnp.log(2 * jnp.pi * variance)).sum(axis=-1)

    def rewards(self, rows: Float[Array, "rows channels"]) -> Float[Array, " rows"]:
        """R(s_t, a_t) of each row, at the nearest row within the data's range: beyond it the model knows nothing."""
        assert self.reward is not None
        rows = self.scale.clip(rows)
        return self.reward.predict(self.scale.observations(rows), self.scale.actions(rows))
