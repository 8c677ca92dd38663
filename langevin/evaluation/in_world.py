"""What a world model says a policy is worth: its predicted return, without the system (ADEPT, Section 4).

The gap between this number and the true return is what every model-based method lives off, and what ADEPT's Theorem 4.4
bounds. Next to it stands how often an imagined episode leaves the data: a prediction made out there is a guess.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from langevin.dynamics.support import Support
from langevin.errors import UsageError, require_at_least, require_between
from langevin.imagination.worlds import World
from langevin.policies.base import Policy, keeps_memory


@dataclass(frozen=True)
class ImaginedEpisodes:
    """How long episodes are, in how long pieces they are imagined, and how often."""

    steps: int
    """Transitions of an episode that no terminal ends."""
    piece: int = 99
    """Transitions imagined at once; the next piece starts where the last one ended."""
    noises: int = 5
    """How often every start state is imagined, each time with other noise."""
    discount: float = 1.0
    """Per step."""

    def __post_init__(self):
        require_at_least(1, steps=self.steps, piece=self.piece, noises=self.noises)
        require_between(0, 1, discount=self.discount)


class Prediction(eqx.Module):
    """One policy's imagined episodes, in reward units and transitions."""

    returns: Float[np.ndarray, "noises starts"]
    lengths: Float[np.ndarray, "noises starts"]
    left: Bool[np.ndarray, "noises starts"]
    """Whether an episode left the support of the data before it ended."""


def predict_returns(
    policy: Policy,
    world: World,
    support: Support,
    starts: Float[Array, "starts observation"],
    settings: ImaginedEpisodes,
    *,
    key: PRNGKeyArray,
) -> Prediction:
    """Episodes of a policy in a world, a stochastic one acting by its mode, as in the environment.

    Raises UsageError for a policy with memory: a world is asked for the actions of states it then corrects, and a plan
    made along the way would not be the one that is followed.
    """
    policy = policy.greedy()
    if keeps_memory(policy):
        raise UsageError(
            "a world model can judge a policy without memory; this one keeps a plan or a history, so evaluate it in "
            "the environment"
        )
    repeated = jnp.tile(starts, (settings.noises, 1))
    found = _imagined_episodes(policy, world, support, repeated, settings, key)
    return Prediction(*(np.asarray(leaf).reshape(settings.noises, -1) for leaf in found))


@eqx.filter_jit
def _imagined_episodes(
    policy: Policy,
    world: World,
    support: Support,
    starts: Float[Array, "episodes observation"],
    settings: ImaginedEpisodes,
    key: PRNGKeyArray,
) -> tuple[Float[Array, " episodes"], Float[Array, " episodes"], Bool[Array, " episodes"]]:
    """Return, length and whether it left the data, of every episode."""
    pieces = -(-settings.steps // settings.piece)

    def imagine(carry, inputs):
        observations, running = carry
        index, key = inputs
        found = world.imagine(policy, observations, settings.piece + 1, key=key)
        step = index * settings.piece + jnp.arange(settings.piece)
        counted = found.valid & running[:, None] & (step < settings.steps)
        earned = jnp.where(counted, settings.discount**step * found.rewards, 0.0).sum(axis=1)
        known = jax.lax.map(support.contains, jnp.moveaxis(found.observations[:, 1:], 1, 0)).T
        running = running & ~found.terminations.any(axis=1)
        lengths = counted.sum(axis=1, dtype=jnp.float32)
        return (found.observations[:, -1], running), (earned, lengths, (counted & ~known).any(axis=1))

    first = starts, jnp.ones(starts.shape[0], bool)
    _, (earned, lengths, left) = jax.lax.scan(
        imagine, first, (jnp.arange(pieces), jax.random.split(key, pieces))
    )
    return earned.sum(axis=0), lengths.sum(axis=0), left.any(axis=0)
