"""A probabilistic ensemble of one-step dynamics models, and rollouts in it.

Each member maps (observation, action) to a Gaussian over the change of the observation (Chua et al. 2018,
"Deep reinforcement learning in a handful of trials using probabilistic dynamics models", PETS). Networks see
z-scored numbers; the model takes and returns the environment's units. A rollout draws an elite member at
random at every step and follows its mean, or a sample.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from langevin.dynamics.split import Scales
from langevin.dynamics.support import Support
from langevin.nets.ensemble import Ensemble
from langevin.nets.mlp import MLP


def soft_bound(
    x: Float[Array, "*batch size"], low: Float[Array, " size"], high: Float[Array, " size"]
) -> Float[Array, "*batch size"]:
    """Squash x between low and high, with a gradient everywhere, also to the bounds (PETS, appendix A.1).

    Never below low; above high by at most log(1 + exp(low - high)), which is 3e-5 for bounds 10.5 apart.
    """
    x = high - jax.nn.softplus(high - x)
    return low + jax.nn.softplus(x - low)


class GaussianNetwork(eqx.Module):
    """A diagonal Gaussian whose mean and log-variance are the outputs of one network.

    The log-variance is held between two learned bounds for each output, so that inputs far from the data
    cannot send it to either infinity; the bounds start at MBPO's -10 and 0.5 (of a z-scored target).
    """

    network: MLP
    lowest_log_variance: Float[Array, " output"]
    highest_log_variance: Float[Array, " output"]

    def __init__(self, in_size: int, out_size: int, width: int, depth: int, *, key: PRNGKeyArray):
        self.network = MLP(in_size, 2 * out_size, width, depth, jax.nn.silu, key=key)
        self.lowest_log_variance = jnp.full(out_size, -10.0)
        self.highest_log_variance = jnp.full(out_size, 0.5)

    def __call__(
        self, inputs: Float[Array, "batch input"]
    ) -> tuple[Float[Array, "batch output"], Float[Array, "batch output"]]:
        """Means and log-variances."""
        means, log_variances = jnp.split(jax.vmap(self.network)(inputs), 2, axis=-1)
        return means, soft_bound(log_variances, self.lowest_log_variance, self.highest_log_variance)


class DynamicsModel(eqx.Module):
    """A trained ensemble: predicts next observations in the environment's units."""

    members: Ensemble[GaussianNetwork]
    elites: Int32[Array, " elites"]
    """Indices of the members that predict, those of lowest held-out error first."""
    scales: Scales

    def predict(
        self,
        observations: Float[Array, "batch observation"],
        actions: Float[Array, "batch action"],
        *,
        key: PRNGKeyArray,
        sample: bool = False,
    ) -> Float[Array, "batch observation"]:
        """Next observations, clipped to the dataset's range: for each row the mean of an elite drawn for it,
        or with `sample` a draw from that elite's Gaussian.

        A random permutation deals the rows to the elites in equal shares. A row's elite is uniform and, under
        fresh keys, independent from step to step, as if drawn by itself; only the counts within a batch are
        balanced. So a row costs one forward pass, where independent draws would cost one for every elite.
        """
        deal_key, noise_key = jax.random.split(key)
        rows, elites = observations.shape[0], self.elites.size
        share = -(-rows // elites)
        place = jax.random.permutation(deal_key, share * elites)[:rows]
        inputs = self.scales.inputs(observations, actions)
        dealt = jnp.zeros((share * elites, inputs.shape[-1])).at[place].set(inputs)
        networks = jax.tree.map(lambda field: field[self.elites], self.members.networks)
        outputs = eqx.filter_vmap(lambda network, inputs: network(inputs))(
            networks, dealt.reshape(elites, share, -1)
        )
        change, log_variance = (output.reshape(share * elites, -1)[place] for output in outputs)
        if sample:
            change += jnp.exp(0.5 * log_variance) * jax.random.normal(noise_key, change.shape)
        observations = self.scales.clip_observations(observations)
        return self.scales.clip_observations(observations + self.scales.change.denormalize(change))

    def predict_distribution(
        self, observations: Float[Array, "batch observation"], actions: Float[Array, "batch action"]
    ) -> tuple[Float[Array, "members batch observation"], Float[Array, "members batch observation"]]:
        """Mean and variance of the next observation by every member, elite or not.

        For measures of uncertainty, so the means are not clipped (the networks' inputs are).
        """
        change, log_variances = self.members(self.scales.inputs(observations, actions))
        means = self.scales.clip_observations(observations) + self.scales.change.denormalize(change)
        return means, jnp.square(self.scales.change.std) * jnp.exp(log_variances)


def rollout(
    policy_act: Callable[..., Float[Array, "batch action"]],
    model: DynamicsModel,
    start: Float[Array, "batch observation"],
    horizon: int,
    *,
    key: PRNGKeyArray,
    sample: bool = False,
    edge: Support | None = None,
) -> tuple[Float[Array, "batch horizon observation"], Float[Array, "batch horizon action"]]:
    """Let a policy act in the model: `horizon` rows of observation and action, from `start` (row 0) on.

    `policy_act(observations, key=key)` returns actions (batch, action). The observation of row t + 1 is the
    model's answer to row t: ``horizon - 1`` predictions, each kept to the edge of the data where one is given.
    """
    policy_key, model_key = jax.random.split(key)
    first_key, *_ = policy_keys = jax.random.split(policy_key, horizon)

    def advance(row, keys):
        model_key, policy_key = keys
        observations = _kept(model.predict(*row, key=model_key, sample=sample), edge)
        row = observations, policy_act(observations, key=policy_key)
        return row, row

    first = start, policy_act(start, key=first_key)
    _, rows = jax.lax.scan(advance, first, (jax.random.split(model_key, horizon - 1), policy_keys[1:]))
    observations, actions = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:, None], jnp.moveaxis(rest, 0, 1)], axis=1), first, rows
    )
    return observations, actions


def replay(
    model: DynamicsModel,
    start: Float[Array, "batch observation"],
    actions: Float[Array, "batch steps action"],
    *,
    key: PRNGKeyArray,
    sample: bool = False,
    edge: Support | None = None,
) -> Float[Array, "batch steps+1 observation"]:
    """The observations met under given actions, from `start` (row 0) on; row t + 1 answers action t, kept to the edge
    of the data where one is given."""

    def advance(observations, inputs):
        actions, key = inputs
        observations = _kept(model.predict(observations, actions, key=key, sample=sample), edge)
        return observations, observations

    keys = jax.random.split(key, actions.shape[1])
    _, rows = jax.lax.scan(advance, start, (jnp.moveaxis(actions, 0, 1), keys))
    return jnp.concatenate([start[:, None], jnp.moveaxis(rows, 0, 1)], axis=1)


def _kept(observations: Float[Array, "batch observation"], edge: Support | None) -> Array:
    return observations if edge is None else edge.keep(observations)
