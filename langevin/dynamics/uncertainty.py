"""How much an ensemble doubts its own predictions: by the spread that it predicts, and by how far its members differ.

Both are in the environment's units and over all members, elite or not, as in the two papers' own code: every member
has a say about what is unknown. Inputs beyond the data's range are clipped to it (see `Scales.inputs`), so doubt does
not grow any further out there.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from langevin.data.sampling import Transitions
from langevin.dynamics.ensemble import DynamicsModel


def largest_std(
    model: DynamicsModel,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
) -> Float[Array, " batch"]:
    """max_i ||std_i(s, a)||, the size of the standard deviation of the next observation by the member that is least
    sure (Yu et al. 2020, "MOPO", Section 4.3)."""
    _, variances = model.predict_distribution(observations, actions)
    return jnp.sqrt(variances.sum(axis=-1)).max(axis=0)


def disagreement(
    model: DynamicsModel,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
) -> Float[Array, " batch"]:
    """max_{i,j} ||f_i(s, a) - f_j(s, a)||, the largest distance between two members' mean next observations
    (Kidambi et al. 2020, "MOReL", its unknown state-action detector)."""
    means, _ = model.predict_distribution(observations, actions)
    pairs = itertools.combinations(range(means.shape[0]), 2)
    return jnp.stack([jnp.linalg.norm(means[i] - means[j], axis=-1) for i, j in pairs]).max(axis=0)


def largest_disagreement(
    model: DynamicsModel, transitions: Transitions, most: int = 100_000, chunk: int = 5_000
) -> Float[Array, ""]:
    """The largest disagreement on the data: at every row, or of more than `most` at about so many evenly spaced ones.

    `chunk` rows are predicted at once, so that memory is for them and not for the whole dataset.
    """
    chunks = -(-min(transitions.size, most) // chunk)
    spacing = max(transitions.size // (chunks * chunk), 1)
    places = jnp.arange(chunks * chunk) * spacing % transitions.size

    def one(places: Int[Array, " chunk"]) -> Float[Array, ""]:
        return disagreement(model, transitions.observations[places], transitions.actions[places]).max()

    return jax.lax.map(one, places.reshape(chunks, chunk)).max()
