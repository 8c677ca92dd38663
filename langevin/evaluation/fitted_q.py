"""Fitted-Q evaluation (Le et al. 2019, "Batch policy learning under constraints"): a policy's return from logs alone.

A critic is fitted to the policy's own Bellman equation on logged transitions; its value in the logged start states is
the estimate. It answers "what is this controller worth" without the system, and errs where the policy leaves the data.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions, sample_transitions
from langevin.errors import UsageError, require_at_least, require_between
from langevin.nets.ensemble import Ensemble
from langevin.policies.base import Policy, SystemSpec, keeps_memory
from langevin.policies.critics import action_values, make_critics
from langevin.policies.optimization import apply_gradient, init_optimizer, move_towards
from langevin.progress import AbstractProgress, SilentProgress

CHUNK = 500


@dataclass(frozen=True)
class FittedQ:
    """Settings of the evaluation."""

    steps: int = 20_000
    """Updates of the critic."""
    batch_size: int = 256
    discount: float = 0.99
    """Per environment step; the estimate is a discounted return."""
    learning_rate: float = 3e-4
    target_rate: float = 0.02
    """Share of the critic mixed into its target each update. A value of the discount's horizon takes several times
    horizon / target_rate updates to arrive."""
    width: int = 256
    depth: int = 2

    def __post_init__(self):
        require_at_least(1, steps=self.steps, batch_size=self.batch_size)
        require_between(0, 1, discount=self.discount, target_rate=self.target_rate)


class FittedQState(eqx.Module):
    """The critics (two; the estimate is their mean, for nothing is maximised here), their targets and Adam's state."""

    critics: Ensemble
    target_critics: Ensemble
    optimizer: Any


def fitted_q_values(
    policies: Policy,
    transitions: Transitions,
    starts: Float[Array, "starts observation"],
    spec: SystemSpec,
    settings: FittedQ = FittedQ(),
    *,
    key: PRNGKeyArray,
    progress: AbstractProgress = SilentProgress(),  # noqa: B008 - stateless
) -> Float[np.ndarray, "seeds starts"]:
    """The discounted return of every seed's policy (a pytree stacked over seeds) from every start state.

    A stochastic policy is judged by its mode, as in the environment. Raises UsageError for a policy with memory: its
    action is not a function of one logged state.
    """
    greedy = policies.greedy()
    if keeps_memory(_one(greedy, 0)):
        raise UsageError(
            "fitted-Q evaluation needs a policy without memory; this one keeps a plan or a history, so evaluate it in "
            "the environment or in a world model"
        )
    scale = value_scale(transitions.rewards, settings.discount)
    transitions = eqx.tree_at(lambda logs: logs.rewards, transitions, transitions.rewards / scale)
    seeds = jax.tree.leaves(eqx.filter(greedy, eqx.is_array))[0].shape[0]
    keys = jax.random.split(key, seeds)
    states = eqx.filter_vmap(lambda key: init(settings, spec, key=key))(keys)
    chunk = eqx.filter_jit(_chunk)
    with progress.track(settings.steps, "fitted-Q evaluation") as advance:
        for first in range(0, settings.steps, CHUNK):
            length = min(CHUNK, settings.steps - first)
            states = chunk(
                settings,
                states,
                greedy,
                transitions,
                spec.observation_normalizer,
                keys,
                jnp.int32(first),
                length,
            )
            jax.block_until_ready(states)
            advance(length)

    def value(state: FittedQState, policy: Policy, key: PRNGKeyArray) -> Float[Array, " starts"]:
        actions, _ = policy.act(starts, None, key=key)
        return action_values(state.critics, spec.observation_normalizer.normalize(starts), actions).mean(
            axis=0
        )

    return scale * np.asarray(eqx.filter_jit(eqx.filter_vmap(value))(states, greedy, keys))


def value_scale(rewards: Float[Array, " rows"], discount: float) -> float:
    """The size that values come to, root mean square reward / (1 - discount); 1 where nothing is ever paid.

    Critics learn values divided by it: Adam's steps have one size, so that values of hundreds would take it longer than
    values near 1. A discount above 0.999 counts as that.
    """
    size = float(jnp.sqrt(jnp.mean(rewards**2)))
    return size / max(1 - discount, 1e-3) or 1.0


def init(settings: FittedQ, spec: SystemSpec, *, key: PRNGKeyArray) -> FittedQState:
    """Fresh critics; the targets start equal to them."""
    critics = make_critics(spec, settings.width, settings.depth, key=key)
    return FittedQState(critics, critics, init_optimizer(optax.adam(settings.learning_rate), critics))


def loss(
    critics: Ensemble,
    target_critics: Ensemble,
    policy: Policy,
    normalizer: GaussianNormalizer,
    batch: Transitions,
    discount: float,
    *,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """sum_i mean (r + gamma (1 - terminal) Q'_i(s', pi(s')) - Q_i(s, a))^2: every critic has its own target."""
    next_actions, _ = policy.act(batch.next_observations, None, key=key)
    next_values = action_values(target_critics, normalizer.normalize(batch.next_observations), next_actions)
    targets = jax.lax.stop_gradient(batch.rewards + discount * (1 - batch.terminations) * next_values)
    values = action_values(critics, normalizer.normalize(batch.observations), batch.actions)
    return jnp.mean((values - targets) ** 2, axis=1).sum()


def update(
    settings: FittedQ,
    state: FittedQState,
    policy: Policy,
    normalizer: GaussianNormalizer,
    batch: Transitions,
    *,
    key: PRNGKeyArray,
) -> FittedQState:
    """One gradient step."""
    gradient = eqx.filter_grad(loss)(
        state.critics, state.target_critics, policy, normalizer, batch, settings.discount, key=key
    )
    optimizer = optax.adam(settings.learning_rate)
    critics, optimizer_state = apply_gradient(optimizer, state.critics, gradient, state.optimizer)
    targets = move_towards(state.target_critics, critics, settings.target_rate)
    return FittedQState(critics, targets, optimizer_state)


def _chunk(settings, states, policies, transitions, normalizer, keys, first, length):
    def one_seed(state, policy, key):
        arrays, rest = eqx.partition(state, eqx.is_array)

        def step(arrays, index):
            batch_key, act_key = jax.random.split(jax.random.fold_in(key, index))
            batch = sample_transitions(transitions, settings.batch_size, key=batch_key)
            state = update(settings, eqx.combine(arrays, rest), policy, normalizer, batch, key=act_key)
            return eqx.filter(state, eqx.is_array), None

        return eqx.combine(jax.lax.scan(step, arrays, first + jnp.arange(length))[0], rest)

    return eqx.filter_vmap(one_seed)(states, policies, keys)


def _one(policies: Policy, index: int) -> Policy:
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, policies)
