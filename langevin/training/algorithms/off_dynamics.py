"""The off-dynamics planner end to end: whose dynamics a transition has, the target's inverse dynamics, the planner."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from langevin.data.trajectories import Trajectories
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.dynamics.dara import DARA
from langevin.dynamics.domain_classifier import DomainTraining, DynamicsClassifier
from langevin.dynamics.inverse import InverseTraining
from langevin.errors import UsageError, require_at_least, require_between
from langevin.planners.off_dynamics import (
    OffDynamicsPlanner,
    TwoSystems,
    finish_planner,
    init_planner,
    logged_system,
    two_systems,
    update_planner,
)
from langevin.planners.off_dynamics_contexts import BOUNDS, WANTED, ContextName
from langevin.planners.off_dynamics_diagnostics import SATURATED
from langevin.planners.receding import RecedingPlanner
from langevin.planners.window_diffusion import WindowTraining
from langevin.training.algorithms.model_based import model_stage
from langevin.training.algorithms.planning import paced_planner
from langevin.training.algorithms.system import Results, System
from langevin.training.stage import Stage

MOSTLY_SATURATED = 0.9
"""Share of windows with a score at its end from which the score says no more than a label would."""


@dataclass(frozen=True, kw_only=True)
class OffDynamicsConfig:
    """Settings of the off-dynamics planner."""

    steps: int
    """Gradient steps of the planner."""
    classifier_steps: int
    """Gradient steps of the domain classifier."""
    inverse_steps: int
    """Gradient steps of the target's inverse dynamics."""
    planner: WindowTraining
    sampling: ChainSampling = ChainSampling()
    contexts: tuple[ContextName, ...] = ("return", "dynamics", "inverse")
    """What the planner is told of a window."""
    score: Literal["transition", "dynamics"] = "transition"
    """What the dynamics score is made of: p(target | s, a, s'), the paper's, or that less what (s, a) says already."""
    guidance: float = 0.9
    """w of (1 + w) eps(x, contexts) - w eps(x, none); 0 is the conditional model."""
    action: Literal["planned", "inverse"] = "planned"
    """What is executed: the plan's own action, or the target's inverse dynamics between two planned states."""
    replan_every: int = 1
    """Environment steps between two plans."""
    discount: float = 0.99
    """Of a window's return, per step."""
    returns: Literal["window", "episode"] = "window"
    """Which rewards a window's return counts: its own, or all from its first row to the end of the episode."""
    epsilon: float = 1e-3
    """Keeps the logarithms of the dynamics score finite."""
    classifier: DomainTraining = DomainTraining()
    inverse: InverseTraining = InverseTraining(width=32)

    def __post_init__(self):
        require_at_least(1, replan_every=self.replan_every)
        require_at_least(0, guidance=self.guidance)
        require_between(0, 1, discount=self.discount)
        if not 0 < self.epsilon < 1:
            raise UsageError(f"epsilon must lie between 0 and 1, got {self.epsilon}")
        if not self.contexts or len(set(self.contexts)) < len(self.contexts):
            raise UsageError(f"contexts must name at least one, each once, got {list(self.contexts)}")
        if self.planner.batch_size % 2:
            raise UsageError(
                f"planner.batch_size must be even, for half of it is the source's; got {self.planner.batch_size}"
            )
        last = self.planner.horizon - (self.action == "inverse")
        if self.replan_every > last:
            raise UsageError(
                f"replan_every must be at most {last} with {self.action} actions and a horizon of "
                f"{self.planner.horizon}, got {self.replan_every}"
            )
        required = {"process": "ddpm", "stride": 1, "goal_size": 0, "plans_actions": True}
        for name, value in required.items():
            if getattr(self.planner, name) != value:
                raise UsageError(f"planner.{name} must be {value} here, got {getattr(self.planner, name)}")


def prepare(config: OffDynamicsConfig, source: Trajectories, target: Trajectories) -> TwoSystems:
    """Both datasets on the device, with the windows' returns."""
    both = (
        logged_system(data, config.planner.horizon, config.discount, config.returns == "episode")
        for data in (source, target)
    )
    return two_systems(*both)


def stages(config: OffDynamicsConfig, system: System) -> list[Stage]:
    """Algorithm 1: the classifier (line 5), the inverse model (line 6), the planner (lines 8 to 17)."""
    inverse = model_stage("inverse", config.inverse, config.inverse_steps, lambda data: data.taught)
    return [classifier_stage(config), inverse, planner_stage(config, system)]


def classifier_stage(config: OffDynamicsConfig) -> Stage:
    """p(target | s, a, s'), by Eq. 5; for a score of the dynamics alone p(target | s, a) beside it."""
    training = config.classifier
    both = DARA(classifiers=training)

    def init_one(data: TwoSystems, results: Results, *, key: PRNGKeyArray):
        return training.init(data.source.transitions, data.taught, True, key=key)

    def update_one(state, data: TwoSystems, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return training.update(state, data.source.transitions, data.taught, step=step, key=key)

    def init_both(data: TwoSystems, results: Results, *, key: PRNGKeyArray):
        return both.init(data.source.transitions, data.taught, key=key)

    def update_both(state, data: TwoSystems, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return both.update(state, data.source.transitions, data.taught, step=step, key=key)

    if config.score == "transition":
        return Stage(
            "classifier", config.classifier_steps, init_one, update_one,
            finish=lambda state, data, results: state.classifier,
        )  # fmt: skip
    return Stage(
        "classifier", config.classifier_steps, init_both, update_both,
        finish=lambda state, data, results: DynamicsClassifier(state.full.classifier, state.partial.classifier),
    )  # fmt: skip


def planner_stage(config: OffDynamicsConfig, system: System) -> Stage:
    """The contexts of all windows, then the diffusion model of them; its learning rate decays over the stage."""
    training = dataclasses.replace(paced_planner(config.planner, config.steps), contexts=len(config.contexts))
    sampler = config.sampling.sampler(training.chain.ddpm().schedule)

    def init(data: TwoSystems, results: Results, *, key: PRNGKeyArray):
        return init_planner(
            training, data, results["classifier"], results["inverse"], config.epsilon, key=key
        )

    def report(state, data: TwoSystems, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        found = state.diagnostics
        return state, {
            "contexts/saturated": found.saturated,
            "classifier/accuracy": found.accuracy,
            "classifier/calibration_error": found.calibration_error,
            "inverse/unexplained": found.unexplained,
        }

    def update(state, data: TwoSystems, results: Results, *, step: Int[Array, ""], key: PRNGKeyArray):
        return update_planner(training, config.contexts, state, data, step=step, key=key)

    def policy(planner: OffDynamicsPlanner, results: Results) -> RecedingPlanner:
        return RecedingPlanner(
            planner.windows,
            sampler,
            jnp.asarray(system.action_low),
            jnp.asarray(system.action_high),
            contexts=jnp.array([WANTED[name] for name in config.contexts]),
            inverse=results["inverse"] if config.action == "inverse" else None,
            context_weight=config.guidance,
            replan_every=config.replan_every,
        )

    return Stage(
        "policy", config.steps, init, update, epoch_steps=max(config.steps, 1), begin_epoch=report,
        finish=lambda state, data, results: finish_planner(training, state), policy=policy,
    )  # fmt: skip


def context_bounds(config: OffDynamicsConfig) -> dict[str, tuple[float, float]]:
    """What the policy is told, in its order, and between which values."""
    return {name: BOUNDS[name] for name in config.contexts}


def figures(states: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """What the contexts are made of, drawn for the first seed: name -> figure and caption."""
    from langevin.report.off_dynamics import contexts_figure

    return {"contexts": contexts_figure(states["policy"].diagnostics)}


def remarks(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning if the classifier was so sure that the dynamics score is a label."""
    shares = [record["contexts/saturated"] for record in records if "contexts/saturated" in record]
    if not shares or max(shares) < MOSTLY_SATURATED:
        return []
    return [
        f"the domain classifier is sure of nearly every transition: {max(shares):.0%} of the windows have a dynamics "
        f"score beyond {SATURATED} in size, so the score says no more than a label would; train the classifier less "
        "(classifier_steps) or with noise on its inputs (classifier.input_noise)"
    ]
