"""Episodes in the real environment, for all seeds at once."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task
from langevin.policies.base import Policy, heeds_rewards
from langevin.progress import AbstractProgress, SilentProgress


class Episodes(eqx.Module):
    """What happened in the environment. Rows after an episode's end repeat its last observation.

    returns: sum of rewards, undiscounted unless a discount was asked for. observations: `steps` + 1 of them, the
    first is the start.
    """

    returns: Float[np.ndarray, "seeds episodes"]
    lengths: Any
    observations: Float[np.ndarray, "seeds episodes states observation"] | None
    first_memories: Any
    """What each seed's policy keeps after its first step, in a planner's case the plan it follows."""


@eqx.filter_jit
def _start(policies: Policy, batch_size: int) -> Any:
    return eqx.filter_vmap(lambda policy: policy.start(batch_size))(policies)


@eqx.filter_jit
def act_all(
    policies: Policy,
    observations: Float[Array, "seeds batch observation"],
    memories: Any,
    keys: Key[Array, " seeds"],
) -> tuple[Float[Array, "seeds batch action"], Any]:
    """Every seed's policy on its own batch, one seed after the other.

    A map and not a vmap: a planner's "plan only when due" is a branch, and vmap would take both sides of it.
    """
    arrays, static = eqx.partition(policies, eqx.is_array)

    def one(inputs):
        policy_arrays, observations, memory, key = inputs
        return eqx.combine(policy_arrays, static).act(observations, memory, key=key)

    return jax.lax.map(one, (arrays, observations, memories, keys))


@eqx.filter_jit
def observe_all(policies: Policy, memories: Any, rewards: Float[Array, "seeds batch"]) -> Any:
    """Every seed's policy told of what its last actions earned."""
    return eqx.filter_vmap(lambda policy, memory, earned: policy.observe(memory, earned))(
        policies, memories, rewards
    )


def run_episodes(
    policies: Policy,
    task: Task,
    *,
    seeds: int,
    episodes: int,
    seed: int,
    keep_observations: bool = False,
    sample: bool = False,
    discount: float = 1.0,
    starts: Float[Any, "episodes observation"] | None = None,
    steps: int | None = None,
    progress: AbstractProgress = SilentProgress(),  # noqa: B008 - stateless
) -> Episodes:
    """Run `episodes` episodes of every seed's policy (a pytree stacked over `seeds`).

    Start states are drawn from `seed` for all of them: seed i's episode j starts where no other one does. With `starts`
    every seed's episode j begins in the j-th of them. `steps` takes the place of the task's `max_steps`. An
    episode ends at a terminal state or after the task's `max_steps`; rewards after that are not counted, the
    reward of the ending step is. A stochastic policy acts by its mode, or with `sample` by samples. `discount` is
    per step.
    """
    policies = policies if sample else policies.greedy()
    batch = seeds * episodes
    simulator = make_simulator(task, batch)
    observations = simulator.reset(np.random.default_rng(seed))
    if starts is not None:
        observations = np.tile(np.asarray(starts, np.float32), (seeds, 1))
        simulator.set_state(observations)
    memories = _start(policies, episodes)
    returns, lengths = np.zeros(batch), np.zeros(batch, np.int64)
    running = np.ones(batch, bool)
    history, first_memories = [observations.copy()], memories
    key = jax.random.key(seed)
    steps = steps or task.max_steps
    with progress.track(steps, f"{batch} episodes of {task.id}") as advance:
        for step in range(steps):
            keys = jax.random.split(jax.random.fold_in(key, step), seeds)
            shaped = jnp.asarray(observations, jnp.float32).reshape(seeds, episodes, -1)
            actions, memories = act_all(policies, shaped, memories, keys)
            first_memories = memories if step == 0 else first_memories
            observations, rewards, terminations = simulator.step(np.asarray(actions).reshape(batch, -1))
            if heeds_rewards(policies):
                earned = jnp.asarray(rewards, jnp.float32).reshape(seeds, episodes)
                memories = observe_all(policies, memories, earned)
            returns += discount**step * np.where(running, rewards, 0.0)
            lengths += running
            if keep_observations:
                history.append(np.where(running[:, None], observations, history[-1]))
            running = running & ~np.asarray(terminations, bool)
            advance(1)
            if not running.any():
                break
    kept = np.stack(history, axis=1).reshape(seeds, episodes, len(history), -1) if keep_observations else None
    return Episodes(returns.reshape(seeds, episodes), lengths.reshape(seeds, episodes), kept, first_memories)
