"""The learned controller: what its loss counts, and that it learns a system's inverse dynamics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.planners.inverse import InverseTraining

TRAINING = InverseTraining(width=32, depth=1, learning_rate=3e-3)


def walk(key: jax.Array, batch: int = 64, rows: int = 9):
    """position' = position + velocity / 10, velocity' = velocity + action / 10, in a plane, uniform actions."""
    start_key, action_key = jax.random.split(key)
    state = jax.random.uniform(start_key, (batch, 4), minval=-0.5, maxval=0.5)
    actions = jax.random.uniform(action_key, (rows, batch, 2), minval=-1, maxval=1)

    def step(state, action):
        velocity = state[:, 2:] + action / 10
        return jnp.concatenate([state[:, :2] + velocity / 10, velocity], axis=1), state

    _, states = jax.lax.scan(step, state, actions)
    return states.swapaxes(0, 1), actions.swapaxes(0, 1)


def test_it_learns_the_action_that_leads_to_a_position():
    """action = 10 (10 (position' - position) - velocity), exactly."""

    @eqx.filter_jit
    def learn(state, key):
        arrays, rest = eqx.partition(state, eqx.is_array)

        def one(arrays, key):
            observations, actions = walk(key)
            mask = jnp.ones(observations.shape[:2], bool)
            state, error = TRAINING.update(eqx.combine(arrays, rest), observations, actions, mask, 2)
            return eqx.filter(state, eqx.is_array), error

        arrays, errors = jax.lax.scan(one, arrays, jax.random.split(key, 4000))
        return eqx.combine(arrays, rest), errors

    state, errors = learn(TRAINING.init(4, 2, 2, key=jax.random.key(0)), jax.random.key(1))
    assert float(errors[:50].mean()) > 0.2, "uniform actions have a variance of a third"
    assert float(errors[-50:].mean()) < 0.02
    observations, actions = walk(jax.random.key(2))
    found = jax.vmap(state.controller)(observations[:, 3], observations[:, 4, :2])
    assert float(jnp.abs(found - actions[:, 3]).mean()) < 0.15


@pytest.mark.parametrize(
    ("field", "rows", "counts"),
    [
        ("actions", (0, 4), False), ("actions", (0, 3), True), ("actions", (1, 1), True), ("actions", (1, 2), False),
        ("actions", (1, 3), False), ("observations", (0, 4, slice(2, 4)), False),
        ("observations", (0, 4, slice(0, 2)), True), ("observations", (1, 3), False),
    ],
    ids=str,
)  # fmt: skip
def test_only_rows_with_a_real_successor_count(field, rows, counts):
    """Five rows; of the second window three are real."""
    observations, actions = walk(jax.random.key(0), batch=2, rows=5)
    mask = jnp.array([[True] * 5, [True] * 3 + [False] * 2])
    controller = TRAINING.init(4, 2, 2, key=jax.random.key(0)).controller
    given = {"observations": observations, "actions": actions}
    spoiled = given | {field: given[field].at[rows].set(0.9)}
    loss = lambda of: float(TRAINING.loss(controller, of["observations"], of["actions"], mask, 2))
    assert (loss(spoiled) != loss(given)) == counts


def test_actions_stay_inside_the_bounds():
    controller = TRAINING.init(4, 2, 2, key=jax.random.key(0)).controller
    found = jax.vmap(controller)(jnp.zeros((3, 4)), jnp.array([[9.0, 0], [-9, 9], [0, 0]]))
    assert np.all(np.abs(found) <= 1)
