"""Decision Transformer: one stage."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.contexts import returns_to_go, steps_before
from langevin.data.normalize import GaussianNormalizer
from langevin.data.trajectories import Trajectories
from langevin.errors import require_at_least
from langevin.policies.base import SystemSpec
from langevin.policies.decision_transformer import DecisionTransformer, ReturnRows, sample_return_contexts
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True)
class DecisionTransformerConfig:
    """Settings of Decision Transformer."""

    steps: int
    """Gradient steps."""
    batch_size: int = 64
    """Contexts a gradient step."""
    learner: DecisionTransformer = DecisionTransformer()

    def __post_init__(self):
        require_at_least(1, batch_size=self.batch_size)


def prepare(config: DecisionTransformerConfig, trajectories: Trajectories) -> ReturnRows:
    """All rows with their returns-to-go, not discounted."""
    return ReturnRows(
        jnp.asarray(trajectories.observations),
        jnp.asarray(trajectories.actions),
        jnp.asarray(returns_to_go(trajectories)),
        jnp.asarray(steps_before(trajectories), jnp.int32),
    )


def stages(config: DecisionTransformerConfig, system: System) -> list[Stage]:
    """Training is one stage, "policy"."""
    learner = config.learner

    def init(data: ReturnRows, results: Results, *, key: PRNGKeyArray):
        spec = SystemSpec(
            system.observation_size, system.action_size, jnp.asarray(system.action_low),
            jnp.asarray(system.action_high), GaussianNormalizer.fit(data.observations),
        )  # fmt: skip
        return learner.init(spec, data, key=key)

    def update(state, data: ReturnRows, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        batch_key, update_key = jax.random.split(key)
        batch = sample_return_contexts(data, learner.context, config.batch_size, key=batch_key)
        return learner.update(state, batch, key=update_key)

    return [Stage("policy", config.steps, init, update, policy=lambda state, results: learner.policy(state))]
