"""RvS: one stage."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.contexts import average_rewards_to_go, last_rows
from langevin.data.normalize import GaussianNormalizer
from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError, require_at_least
from langevin.policies.base import SystemSpec
from langevin.policies.rvs import Outcomes, RvS, sample_outcomes
from langevin.training.algorithms.mazes import POSITION_SIZE, STATE_SIZE
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage

BEST_DECILE = 0.9


@dataclass(frozen=True)
class RvSConfig:
    """Settings of RvS."""

    steps: int
    """Gradient steps."""
    condition: Literal["return", "goal"]
    """What is commanded: an average reward a step (RvS-R), or a place to come to (RvS-G)."""
    batch_size: int = 16_384
    """Rows a gradient step."""
    target_reward: float | None = None
    """Average reward a step that is commanded; none takes the best decile of the data's episodes."""
    learner: RvS = RvS()

    def __post_init__(self):
        require_at_least(1, batch_size=self.batch_size)


def prepare(config: RvSConfig, trajectories: Trajectories) -> Outcomes:
    """All rows with what each came to."""
    return (goal_outcomes if config.condition == "goal" else return_outcomes)(config, trajectories)


def return_outcomes(config: RvSConfig, trajectories: Trajectories) -> Outcomes:
    """Each row with its own average reward-to-go; asked for is what one episode in ten of the data exceeds."""
    outcomes = average_rewards_to_go(trajectories)
    best = np.quantile(outcomes[trajectories.episode_starts], BEST_DECILE)
    command = best if config.target_reward is None else config.target_reward
    return Outcomes(
        jnp.asarray(trajectories.observations),
        jnp.asarray(trajectories.actions),
        jnp.asarray(outcomes)[:, None],
        jnp.arange(trajectories.transitions, dtype=jnp.int32),
        jnp.full(1, command, jnp.float32),
    )


def goal_outcomes(config: RvSConfig, trajectories: Trajectories) -> Outcomes:
    """Each row with the places that the rest of its episode came to; a goal that is shown is no part of the state."""
    return Outcomes(
        jnp.asarray(trajectories.observations[:, :STATE_SIZE]),
        jnp.asarray(trajectories.actions),
        jnp.asarray(trajectories.next_observations[:, :POSITION_SIZE]),
        jnp.asarray(last_rows(trajectories), jnp.int32),
        jnp.zeros(POSITION_SIZE),
    )


def stages(config: RvSConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy".

    Raises UsageError for goals in a task that has none, and for a target where a goal is commanded.
    """
    maze, learner = system.task.maze, config.learner
    if config.condition == "goal" and maze is None:
        raise UsageError(f'task {system.task.id} has no goal to command; set condition = "return"')
    if config.condition == "goal" and config.target_reward is not None:
        raise UsageError(
            'target_reward is commanded with condition = "return" alone; leave it out, or set that'
        )
    goal = jnp.asarray(maze.goal, jnp.float32) if maze is not None else None

    def init(data: Outcomes, results: Results, *, key: PRNGKeyArray):
        spec = SystemSpec(
            data.observations.shape[1], system.action_size, jnp.asarray(system.action_low),
            jnp.asarray(system.action_high), GaussianNormalizer.fit(data.observations),
        )  # fmt: skip
        return learner.init(spec, data, key=key)

    def update(state, data: Outcomes, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch = sample_outcomes(data, config.batch_size, key=batch_key)
        return learner.update(state, batch, key=update_key)

    def policy(state, results: Results):
        if config.condition == "return":
            return learner.policy(state, state.command)
        return learner.policy(state, None if system.task.drawn_goals else goal)

    return [Stage("policy", config.steps, init, update, policy=policy)]
