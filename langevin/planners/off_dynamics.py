"""The off-dynamics conditional diffusion planner: one model of a source's and a target's windows, told which is which.

Much good data with the wrong dynamics and a little poor data with the right ones are learned together; every window
comes with its return, whose dynamics it shows and how far its actions are from the target's inverse dynamics
(`off_dynamics_contexts`). Plans are then asked for with the best return under the target's dynamics.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.contexts import returns_to_go
from langevin.data.sampling import Transitions, WindowBatch, Windows, transitions_of, windows_at, windows_of
from langevin.data.trajectories import Trajectories
from langevin.dynamics.domain_classifier import DomainClassifier, DynamicsClassifier
from langevin.dynamics.inverse import InverseModel
from langevin.planners.off_dynamics_contexts import (
    CONTEXTS,
    ContextName,
    ContextScales,
    Range,
    evidence_of,
    window_contexts,
)
from langevin.planners.off_dynamics_diagnostics import Diagnostics, diagnose
from langevin.planners.window_diffusion import WindowDiffusion, WindowState, WindowTraining
from langevin.policies.base import Metrics

HELD_OUT_SHARE = 0.1
MOST_HELD_OUT = 1_000


class LoggedSystem(eqx.Module):
    """One system's data: single transitions, the windows of the same rows, and what each window earned.

    returns: discounted, in reward units.
    """

    transitions: Transitions
    windows: Windows
    returns: Float[Array, " windows"]


class TwoSystems(eqx.Module):
    """Both systems' data. taught: the target's rows that its models learn from. held_out: those, and as many of the
    source, that the models are judged on; source first."""

    source: LoggedSystem
    target: LoggedSystem
    taught: Transitions
    held_out: tuple[Transitions, Transitions]


def logged_system(
    trajectories: Trajectories, horizon: int, discount: float, to_the_end: bool = False
) -> LoggedSystem:
    """A dataset's rows and windows. discount: per step. to_the_end: whether a return goes on after its window, to the
    end of the episode."""
    transitions, windows = transitions_of(trajectories), windows_of(trajectories, horizon)
    rows = (transitions.observations, transitions.actions, transitions.rewards)
    windows = eqx.tree_at(lambda w: (w.observations, w.actions, w.rewards), windows, rows)
    starts, lengths = np.asarray(windows.starts), np.asarray(windows.lengths)
    to_go = returns_to_go(trajectories, discount).astype(np.float64)
    ends = starts + lengths
    over = np.isin(ends, trajectories.episode_ends)
    after = np.where(over | to_the_end, 0.0, np.append(to_go, 0.0)[ends])
    returns = to_go[starts] - discount**lengths * after
    return LoggedSystem(transitions, windows, jnp.asarray(returns, jnp.float32))


def two_systems(source: LoggedSystem, target: LoggedSystem) -> TwoSystems:
    """Sets a tenth of the target's rows aside, the same ones every time; one of a single row judges what it taught."""
    size = target.transitions.size
    aside = min(MOST_HELD_OUT, max(1, int(HELD_OUT_SHARE * size)))
    order = np.random.default_rng(0).permutation(size)
    spread = np.linspace(0, source.transitions.size - 1, aside).astype(int)
    take = lambda rows, chosen: jax.tree.map(lambda array: array[chosen], rows)
    held_out = (take(source.transitions, spread), take(target.transitions, order[:aside]))
    taught = np.sort(order[aside:]) if size > aside else order
    return TwoSystems(source, target, take(target.transitions, taught), held_out)


class OffDynamicsState(eqx.Module):
    """The planner in training, with the contexts of every window of both datasets."""

    windows: WindowState
    source: Float[Array, "source_windows contexts"]
    target: Float[Array, "target_windows contexts"]
    scales: ContextScales
    diagnostics: Diagnostics


class OffDynamicsPlanner(eqx.Module):
    """What is left of the state once trained."""

    windows: WindowDiffusion
    scales: ContextScales
    diagnostics: Diagnostics


def init_planner(
    training: WindowTraining,
    data: TwoSystems,
    classifier: DomainClassifier | DynamicsClassifier,
    inverse: InverseModel,
    epsilon: float,
    *,
    key: PRNGKeyArray,
) -> OffDynamicsState:
    """A fresh network, and the contexts that both models give the windows. epsilon: of Eq. 3."""
    systems = (data.source, data.target)
    evidence = [evidence_of(classifier, inverse, system.transitions) for system in systems]
    scales = ContextScales(
        Range.of(*(system.returns for system in systems)),
        Range.of(*(found.probability for found in evidence)),
        Range.of(*(found.action_error for found in evidence)),
        epsilon,
    )
    source, target = (
        window_contexts(scales, found, system.windows, system.returns, domain)
        for found, system, domain in zip(evidence, systems, (-1.0, 1.0), strict=True)
    )
    rows = [
        jnp.concatenate([getattr(system.windows, name) for system in systems])
        for name in ("observations", "actions")
    ]
    return OffDynamicsState(
        training.init(*rows, key=key), source, target, scales,
        diagnose(source, target, classifier, inverse, data.held_out),
    )  # fmt: skip


def stratified_batch(
    data: TwoSystems, state: OffDynamicsState, batch_size: int, *, key: PRNGKeyArray
) -> tuple[WindowBatch, Float[Array, "batch contexts"]]:
    """Half source windows, half target windows, each with its contexts (Algorithm 1, line 10)."""

    def half(windows: Windows, contexts: Array, key: PRNGKeyArray) -> tuple[WindowBatch, Array]:
        chosen = jax.random.randint(key, (batch_size // 2,), 0, windows.size)
        return windows_at(windows, chosen), contexts[chosen]

    source_key, target_key = jax.random.split(key)
    halves = (
        half(data.source.windows, state.source, source_key),
        half(data.target.windows, state.target, target_key),
    )
    return jax.tree.map(lambda ours, theirs: jnp.concatenate([ours, theirs]), *halves)


def update_planner(
    training: WindowTraining,
    names: Sequence[ContextName],
    state: OffDynamicsState,
    data: TwoSystems,
    *,
    step: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[OffDynamicsState, Metrics]:
    """One gradient step of Eq. 8 on a stratified batch, told the contexts of these names."""
    batch_key, loss_key = jax.random.split(key)
    batch, contexts = stratified_batch(data, state, training.batch_size, key=batch_key)
    told = contexts[:, np.array([CONTEXTS.index(name) for name in names])]
    windows, loss = training.update(state.windows, batch, told, step=step, key=loss_key)
    return eqx.tree_at(lambda s: s.windows, state, windows), {"planner/loss": loss}


def finish_planner(training: WindowTraining, state: OffDynamicsState) -> OffDynamicsPlanner:
    """The planner with averaged weights."""
    return OffDynamicsPlanner(training.finish(state.windows), state.scales, state.diagnostics)
