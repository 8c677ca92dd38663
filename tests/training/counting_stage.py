"""A stage that adds one to a number: cheap to compile, and every mistake of the loop shows in it."""

import equinox as eqx
import jax
import jax.numpy as jnp

from langevin.training.stage import Stage


class Count(eqx.Module):
    draw: jax.Array
    """Uniform number that tells the seeds apart."""
    count: jax.Array
    best: jax.Array
    """Starts at infinity, as a smallest loss so far does."""
    epochs: jax.Array


def init(data, results, *, key):
    return Count(jax.random.uniform(key), jnp.zeros(()), jnp.array(jnp.inf), jnp.zeros((), jnp.int32))


def update(state, data, results, *, step, key):
    """Count up; the seed whose draw is `data["poisoned"]` divides by zero at update number 25."""
    poison = (state.draw == data["poisoned"]) & (step == 25)
    count = state.count + 1 / jnp.where(poison, 0.0, 1.0)
    state = Count(state.draw, count, jnp.minimum(state.best, count), state.epochs)
    return state, {"toy/noise": jax.random.normal(key), "toy/count": jnp.where(poison, jnp.nan, count)}


def begin_epoch(state, data, results, *, step, key):
    return eqx.tree_at(lambda state: state.epochs, state, state.epochs + 1), {"toy/epoch_step": step}


def counting(name="count", steps=60, **parts):
    return Stage(name, steps, init, update, **parts)


def counting_data(poisoned=2.0):
    return {"poisoned": jnp.asarray(poisoned, jnp.float32)}
