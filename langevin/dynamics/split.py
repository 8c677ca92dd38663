"""What models of single transitions are fitted to: training rows, held-out rows, and the scales of both."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.errors import DatasetError

MOST_HELD_OUT = 5000


class Scales(eqx.Module):
    """The statistics and the range of each dimension, between the environment's units and a network's."""

    observation: GaussianNormalizer
    action: GaussianNormalizer
    change: GaussianNormalizer
    """Of next observation - observation."""
    observation_low: Float[Array, " observation"]
    observation_high: Float[Array, " observation"]
    action_low: Float[Array, " action"]
    action_high: Float[Array, " action"]

    @staticmethod
    def fit(transitions: Transitions) -> "Scales":
        """Statistics and range of the rows; the range covers the next observations too. Not inside jit."""
        observations, next_observations = (
            np.asarray(rows) for rows in (transitions.observations, transitions.next_observations)
        )
        actions = np.asarray(transitions.actions)
        return Scales(
            observation=GaussianNormalizer.fit(observations),
            action=GaussianNormalizer.fit(actions),
            change=GaussianNormalizer.fit(next_observations - observations),
            observation_low=jnp.asarray(np.minimum(observations.min(0), next_observations.min(0))),
            observation_high=jnp.asarray(np.maximum(observations.max(0), next_observations.max(0))),
            action_low=jnp.asarray(actions.min(0)),
            action_high=jnp.asarray(actions.max(0)),
        )

    def clip_observations(
        self, observations: Float[Array, "*batch observation"]
    ) -> Float[Array, "*batch observation"]:
        """The nearest observations within the dataset's range."""
        return jnp.clip(observations, self.observation_low, self.observation_high)

    def inputs(
        self, observations: Float[Array, "*batch observation"], actions: Float[Array, "*batch action"]
    ) -> Float[Array, "*batch input"]:
        """What a dynamics network sees: observation and action, clipped to the data's range and z-scored."""
        observations = self.observation.normalize(self.clip_observations(observations))
        actions = self.action.normalize(jnp.clip(actions, self.action_low, self.action_high))
        return jnp.concatenate([observations, actions], axis=-1)

    def targets(self, transitions: Transitions) -> Float[Array, "*batch observation"]:
        """What a dynamics network is to predict: the z-scored change of the observation."""
        return self.change.normalize(transitions.next_observations - transitions.observations)


class SplitTransitions(eqx.Module):
    """The rows a model is trained on, the rows its error is measured on, and the scales of all rows."""

    training: Transitions
    held_out: Transitions
    scales: Scales


def split_transitions(data: Trajectories | Transitions, seed: int = 0) -> SplitTransitions:
    """Set aside min(5000, a fifth) of the rows, drawn without replacement; the same rows for the same seed.

    Made once, outside the training loop and outside jit: every seed of a run is measured on the same rows.

    **Raises:** `DatasetError` for fewer than 2 transitions.
    """
    transitions = transitions_of(data) if isinstance(data, Trajectories) else data
    rows = transitions.size
    if rows < 2:
        raise DatasetError(f"a model needs at least 2 transitions, of which one is held out, got {rows}")
    held_out_rows = max(1, min(MOST_HELD_OUT, rows // 5))
    held_out = np.zeros(rows, bool)
    held_out[np.random.default_rng(seed).permutation(rows)[:held_out_rows]] = True
    return SplitTransitions(
        training=jax.tree.map(lambda field: field[~held_out], transitions),
        held_out=jax.tree.map(lambda field: field[held_out], transitions),
        scales=Scales.fit(transitions),
    )
