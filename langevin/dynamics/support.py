"""Where the data say something: the neighbourhood of the dataset's states.

A model is trusted only where it has data (Kidambi et al. 2020, "MOReL", its unknown state-action detector). The
detector here is the distance to the nearest of a sample of the dataset's states, each dimension in units of its
standard deviation, against the distances at which held-out states lie.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions


class Support(eqx.Module):
    """A sample of the data's states, z-scored, and how far from all of them a state is still known."""

    states: Float[Array, "sample observation"]
    reach: Float[Array, ""]
    normalizer: GaussianNormalizer

    def distance(self, observations: Float[Array, "rows observation"]) -> Float[Array, " rows"]:
        """Distance to the nearest state of the sample, in standard deviations."""
        squares = self._squares(self.normalizer.normalize(observations))
        return jnp.sqrt(jnp.maximum(squares.min(axis=-1), 0.0))

    def contains(self, observations: Float[Array, "rows observation"]) -> Bool[Array, " rows"]:
        """Whether a state is known."""
        return self.distance(observations) <= self.reach

    def keep(self, observations: Float[Array, "rows observation"]) -> Float[Array, "rows observation"]:
        """The observations; unknown ones are drawn straight towards the nearest known state, as far as the edge."""
        rows = self.normalizer.normalize(observations)
        nearest = self.states[self._squares(rows).argmin(axis=-1)]
        away = rows - nearest
        distance = jnp.linalg.norm(away, axis=-1, keepdims=True)
        unknown = distance > self.reach
        drawn = nearest + away * self.reach / jnp.where(unknown, distance, 1.0)
        return jnp.where(unknown, self.normalizer.denormalize(drawn), observations)

    def _squares(self, rows: Float[Array, "rows observation"]) -> Float[Array, "rows sample"]:
        """Squared distances of normalised rows to the sample."""
        # |a - b|^2 = |a|^2 - 2 a.b + |b|^2: one matrix product instead of rows x sample differences.
        return (rows**2).sum(-1)[:, None] - 2 * rows @ self.states.T + (self.states**2).sum(-1)


def fit_support(
    transitions: Transitions, margin: float = 5.0, sample: int = 8_000, held_out: int = 4_000, seed: int = 0
) -> Support:
    """The support of the rows' observations: `margin` times the 99th percentile of held-out distances.

    The margin leaves room for states that are new but near, which imagined trajectories are for: measured in the
    U-Maze, 2 halts the rollouts of a good policy that the ensemble predicts well, 6 lets some into a wall. Where as
    many rows cover a larger space, distances grow and so does what lies within them. Made once, outside jit.
    **Raises:** `ValueError` for fewer than 2 rows.
    """
    if transitions.size < 2:
        raise ValueError(f"a support needs at least 2 rows, got {transitions.size}")
    rows = np.random.default_rng(seed).permutation(transitions.size)
    known = min(sample, transitions.size // 2)
    observations = np.asarray(transitions.observations)
    normalizer = GaussianNormalizer.fit(observations)
    states = normalizer.normalize(jnp.asarray(observations[rows[:known]]))
    support = Support(states, jnp.array(jnp.inf), normalizer)
    distances = support.distance(jnp.asarray(observations[rows[known : known + held_out]]))
    return Support(states, margin * jnp.quantile(distances, 0.99), normalizer)
