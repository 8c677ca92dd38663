"""The oracle: on-policy rollouts in the true simulator, in the place of a world model.

It breaks the rule of offline learning on purpose, to say what on-policy rollouts can give at a budget: a world model
fed through the same loop and the same filter can be measured by the share of the oracle's gain that it gets.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from langevin.envs.stepping import Simulator, make_simulator
from langevin.envs.tasks import Task
from langevin.imagination.worlds import DynamicsWorld, Imagined, acting
from langevin.policies.base import Policy


class SimulatorWorld(DynamicsWorld):
    """The true simulator as a world; its steps leave the device through a callback."""

    task: Task = eqx.field(static=True)
    advance: Callable[[Any, Any], Any] = eqx.field(static=True)

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """True trajectories with true rewards and terminals."""
        act = acting(policy)
        return self._driven(
            lambda observations, key: act(observations, key=key), starts, jax.random.split(key, horizon)
        )

    def replay(
        self,
        starts: Float[Array, "rollouts observation"],
        actions: Float[Array, "rollouts horizon action"],
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """The true trajectories under given actions."""
        return self._driven(lambda observations, given: given, starts, jnp.moveaxis(actions, 1, 0))

    def _driven(
        self,
        act: Callable[[Array, Array], Array],
        starts: Float[Array, "rollouts observation"],
        inputs: Key[Array, " horizon"] | Float[Array, "horizon rollouts action"],
    ) -> Imagined:
        """Trajectories under `act(observations, input)`, one input a step."""

        def step(observations: Array, given: Array):
            actions = act(observations, given)
            shapes = [
                jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (observations.shape, actions.shape[:-1])
            ]
            after, rewards = jax.pure_callback(
                self.advance, shapes, observations, actions, vmap_method="expand_dims"
            )
            return after, (observations, actions, rewards)

        _, rows = jax.lax.scan(step, starts, inputs)
        observations, actions, rewards = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), rows)
        before, taken, after = observations[:, :-1], actions[:, :-1], observations[:, 1:]
        return Imagined(
            observations,
            actions,
            rewards[:, :-1],
            self.task.termination(before, taken, after),
        )


def simulator_world(task: Task) -> SimulatorWorld:
    """The oracle of a task."""
    return SimulatorWorld(task, _any_batch(make_simulator(task, 1)))


def _any_batch(simulator: Simulator) -> Callable[[Any, Any], Any]:
    """`simulator.advance` for arrays with any leading axes."""

    def advance(states: Any, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        states, actions = np.asarray(states, np.float32), np.asarray(actions, np.float32)
        shape = np.broadcast_shapes(states.shape[:-1], actions.shape[:-1])
        flat_states = np.broadcast_to(states, (*shape, states.shape[-1])).reshape(-1, states.shape[-1])
        flat_actions = np.broadcast_to(actions, (*shape, actions.shape[-1])).reshape(-1, actions.shape[-1])
        after, rewards = simulator.advance(flat_states, flat_actions)
        return after.reshape(*shape, states.shape[-1]), rewards.reshape(shape)

    return advance
