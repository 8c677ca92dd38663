"""SynthER end to end: a diffusion model of transitions, a buffer drawn from it once, then any learner."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.sampling import Transitions, transitions_of
from langevin.data.trajectories import Trajectories
from langevin.errors import UsageError
from langevin.imagination.filters import FILTERS, FilterName
from langevin.imagination.synther import TransitionModel, TransitionModelTraining, TransitionWorld
from langevin.training.algorithms.model_based import diffusion_stage
from langevin.training.algorithms.single_step import reward_factor
from langevin.training.algorithms.synthesis import SynthesisConfig, learning_stage, synthesis_stage
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class SynthERConfig(SynthesisConfig):
    """Settings of SynthER and, with `keep_share` below 1, of SynthER-f (DyDiff, appendix E.2)."""

    filter: FilterName
    """Which transitions are kept, by their reward: a draw that favours the high ones, or the highest."""
    keep_share: float
    """Share of the transitions kept (eta); 1 keeps all, which is SynthER."""
    world_model: TransitionModelTraining = TransitionModelTraining()

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.kept <= self.synthesis_batch:
            raise UsageError(
                f"keep_share must keep at least one of {self.synthesis_batch} transitions and at most all, "
                f"got {self.keep_share}"
            )

    @property
    def kept(self) -> int:
        """Transitions kept of a batch."""
        return round(self.keep_share * self.synthesis_batch)


class TransitionData(eqx.Module):
    """What the stages draw from."""

    transitions: Transitions
    reward_factor: Float[Array, ""]


def prepare(config: Any, trajectories: Trajectories) -> TransitionData:
    """All transitions, on the device."""
    return TransitionData(transitions_of(trajectories), reward_factor(config, trajectories))


def drawn_world(config: Any, results: Results) -> TransitionWorld:
    """What the synthetic data are drawn from, before any filter."""
    return TransitionWorld(results["world_model"], config.schedule, config.churn)


def stages(config: Any, system: System) -> list[Stage]:
    """The model, the synthetic data, the policy."""

    def draw(model: TransitionModel, *, key: PRNGKeyArray):
        sample_key, filter_key = jax.random.split(key)
        drawn = model.sample(config.synthesis_batch, config.schedule, config.churn, key=sample_key)
        return keep(config, drawn, key=filter_key), jnp.ones(config.kept, bool)

    return [
        diffusion_stage(config, lambda data: data.transitions),
        synthesis_stage(config, system, draw, config.kept),
        learning_stage(config, system),
    ]


def keep(config: Any, drawn: Transitions, *, key: PRNGKeyArray) -> Transitions:
    """The transitions of a batch that are learned from; SynthER-f scores each by its reward (DyDiff, appendix E.2)."""
    if config.kept == drawn.size:
        return drawn
    kept = FILTERS[config.filter](drawn.rewards, config.kept, key=key)
    return jax.tree.map(lambda leaf: leaf[kept], drawn)
