"""Two tiny stages with everything a learner carries: an optimiser, a target, a ring buffer, epochs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from langevin.training.stage import Stage

OPTIMISER = optax.adam(3e-3)


class ToyState(eqx.Module):
    network: eqx.nn.MLP
    target: eqx.nn.MLP
    optimiser: optax.OptState
    buffer: jax.Array
    written: jax.Array


class ToyPolicy(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, observation):
        return self.network(observation)


def toy_data(rows=64):
    inputs = jax.random.normal(jax.random.key(7), (rows, 2))
    return {"inputs": inputs, "outputs": jnp.sin(inputs.sum(axis=1, keepdims=True))}


def init(data, results, *, key):
    network = eqx.nn.MLP(data["inputs"].shape[1], 1, 8, 1, key=key)
    parameters = eqx.filter(network, eqx.is_inexact_array)
    return ToyState(
        network, network, OPTIMISER.init(parameters), jnp.zeros((32, 2)), jnp.zeros((), jnp.int32)
    )


def update(state, data, results, *, step, key, poison=None):
    rows_key, noise_key = jax.random.split(key)
    rows = jax.random.randint(rows_key, (16,), 0, data["inputs"].shape[0])
    inputs = data["inputs"][rows] + 0.01 * jax.random.normal(noise_key, (16, 2)) + state.buffer.mean()
    outputs = data["outputs"][rows]
    if "model" in results:
        outputs = outputs + jax.vmap(results["model"].target)(inputs)

    def loss_of(network):
        return jnp.mean((jax.vmap(network)(inputs) - outputs) ** 2)

    loss, gradients = eqx.filter_value_and_grad(loss_of)(state.network)
    changes, optimiser = OPTIMISER.update(gradients, state.optimiser)
    network = eqx.apply_updates(state.network, changes)
    decay = jax.lax.cond(step % 2 == 0, lambda: 0.9, lambda: 1.0)
    target = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new if eqx.is_inexact_array(old) else old,
        state.target,
        network,
    )
    return ToyState(network, target, optimiser, state.buffer, state.written), {"toy/loss": loss}


def begin_epoch(state, data, results, *, step, key):
    rows = (state.written + jnp.arange(8)) % 32
    buffer = state.buffer.at[rows].set(0.1 * jax.random.normal(key, (8, 2)))
    state = eqx.tree_at(lambda state: (state.buffer, state.written), state, (buffer, state.written + 8))
    return state, {"toy/written": state.written}


def finish(state, data, results):
    return eqx.tree_at(lambda state: state.network, state, state.target)


def policy(state, results):
    return ToyPolicy(state.network)


def toy_stages(steps=60):
    return [
        Stage("model", steps, init, update, epoch_steps=20, begin_epoch=begin_epoch, finish=finish),
        Stage("policy", steps, init, update, epoch_steps=30, begin_epoch=begin_epoch, policy=policy),
    ]


def evaluate(policies, stage, step):
    """A made-up score that depends on the policies only."""
    outputs = eqx.filter_vmap(lambda policy: policy(jnp.ones(2))[0])(policies)
    return [{"evaluation/return": float(output)} for output in outputs]
