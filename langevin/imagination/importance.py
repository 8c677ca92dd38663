"""Importance weights: how much more likely a policy is to act as logged than whoever made the log (ADEPT, Eq. 3)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.policies.base import Policy, has_density
from langevin.policies.gaussian import GaussianPolicy

BORROWED_STD = 0.2
"""Of the Gaussian around the action of a policy without a density, as a share of the action's half-range."""


def log_ratios(
    policy: Policy,
    behaviour: GaussianPolicy,
    observations: Float[Array, "batch observation"],
    actions: Float[Array, "batch action"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, " batch"]:
    """log pi(a | s) - log pi_D(a | s), never a ratio of densities: those overflow.

    A policy without a density is taken as a Gaussian of standard deviation `BORROWED_STD` around its action.
    """
    if has_density(policy):
        log_probs = policy.log_prob(observations, actions)
    else:
        chosen, _ = policy.act(observations, policy.start(observations.shape[0]), key=key)
        half_range = (behaviour.actor.action_high - behaviour.actor.action_low) / 2
        log_probs = jax.scipy.stats.norm.logpdf(actions, chosen, BORROWED_STD * half_range).sum(axis=-1)
    return log_probs - behaviour.log_prob(observations, actions)


def importance_weights(
    log_ratios: Float[Array, " batch"], least: float, most: float
) -> Float[Array, " batch"]:
    """exp(log ratio), clipped to [least, most] while it is a logarithm, then divided by the batch's mean."""
    weights = jnp.exp(jnp.clip(log_ratios, math.log(least), math.log(most)))
    return weights / weights.mean()


def effective_share(weights: Float[Array, " batch"]) -> Float[Array, ""]:
    """(sum w)^2 / sum w^2 as a share of the rows: 1 where all weigh the same, 1/n where one has all the weight."""
    return weights.sum() ** 2 / (weights.size * jnp.square(weights).sum())
