"""What imagined rollouts give a learner, beside what true ones would: DyDiff's gain as a share of the oracle's.

    langevin data make pointmaze/umaze-v0 --transitions 200000 --as pointmaze/umaze-200k-v0
    python -m langevin.experiments.dydiff_gain --dataset pointmaze/umaze-200k-v0 --seeds 5 --steps 100000
    python -m langevin.experiments.dydiff_gain --dataset pointmaze/umaze-200k-v0 --base iql --set learner.width=128

Every variant is the same loop with the same learner, filter, number of rollouts and gradient steps. They differ in
the world alone: none (the base learner), the ensemble (M = 0), DyDiff at several conditioning strengths with states
drawn from noise ("dydiff", the paper's) or from the rollout with noise on it ("renoised"), refined states from each of
which the ensemble takes one step ("stepped"), states of the data from which it does ("data+stepped": what a step is
worth without any rollout), and the simulator (the oracle). The world models are trained once and shared by all seeds
of the learner, so an interval says how learners differ, not how world models do.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import tyro
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.data.sampling import Transitions
from langevin.data.sources import open_dataset
from langevin.dynamics.reward import RewardModel
from langevin.envs.tasks import Task
from langevin.errors import DivergedError, UsageError
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.scores import score_summary
from langevin.experiments.gain_table import write_gains
from langevin.experiments.oracle import simulator_world
from langevin.experiments.runs import CHUNK_STEPS, EVALUATION_SEED, evaluator, one_seed, task_of
from langevin.imagination.halting import fit_halt
from langevin.imagination.stepped import SteppedWorld
from langevin.imagination.worlds import Imagined, World, act_along, acting, imagined
from langevin.policies.base import Policy
from langevin.progress import AbstractProgress, BarProgress
from langevin.training.algorithms import dydiff
from langevin.training.algorithms.registry import load_settings
from langevin.training.algorithms.system import Results, System, system_of
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.loop import train
from langevin.training.results import TrainingResult
from langevin.training.run_folder import read_summary, write_summary
from langevin.training.stage import Stage

REFINED = {
    "dydiff": {"refine_from": "noise", "successors": "refined"},
    "renoised": {"refine_from": "rollout", "successors": "refined"},
    "stepped": {"refine_from": "noise", "successors": "single_step"},
    "renoised+stepped": {"refine_from": "rollout", "successors": "single_step"},
}
"""Variants whose states a trajectory model refines: how, and where the learner is shown that they lead."""

TRAINED_BY = (
    "dataset",
    "base",
    "seeds",
    "steps",
    "dynamics_steps",
    "world_model_steps",
    "final_actions",
    "set",
)
"""Of the gain experiment, what its policies and world models go back to."""


class GainData(eqx.Module):
    """What the policy stage draws from: real transitions, and the shared world."""

    transitions: Transitions
    world: World
    reward_factor: Float[Array, ""]


class DataStates(World):
    """No rollout at all: states drawn from the data, and what the policy does in them."""

    states: Float[Array, "rows observation"]
    reward: RewardModel

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """As many states as rollouts from the starts would have; one does not lead to the next."""
        draw_key, act_key = jax.random.split(key)
        drawn = jax.random.choice(draw_key, self.states, (len(starts), horizon))
        actions = act_along(acting(policy), drawn, key=act_key)
        return imagined(self.reward, lambda before, taken, after: jnp.zeros(len(after), bool), drawn, actions)


@dataclass(frozen=True)
class Setup:
    """What all variants share."""

    task: Task
    system: System
    config: Any
    data: dydiff.DyDiffData
    models: Results

    def world(self, variant: str) -> World:
        """The world that a variant's rollouts come from, by its name: "renoised-0.5+halt-2.5"."""
        if variant in ("base", "oracle"):
            return simulator_world(self.task)
        kind, halting, margin = variant.partition("+halt")
        transitions, halt = self.data.transitions, self.data.halt if halting else None
        if margin:
            halt = fit_halt(transitions, float(margin.removeprefix("-")), self.config.patience)
        name, _, strength = kind.partition("-")
        if name == "data+stepped":
            visited = DataStates(transitions.observations, self.models["reward"])
            return SteppedWorld(visited, self.models["dynamics"], halt, self.task.termination)
        changed: dict[str, Any] = {"iterations": 0}
        if name in REFINED:
            changed = {"strength": float(strength), **REFINED[name]}
        config = dataclasses.replace(self.config, **changed)
        edge = dydiff.fit_edge(config, transitions)
        return dydiff.taught_world(config, self.system, self.models, halt, edge)


@dataclass(frozen=True)
class Gain:
    """Base, ensemble, DyDiff and oracle at equal gradient steps."""

    dataset: str
    """Dataset id or path."""
    out: Path = Path("runs/dydiff-gain")
    """One run folder a variant, and gain.json."""
    base: str = "td3bc"
    """The learner: td3bc, cql, iql, sac or diffusion_ql."""
    seeds: int = 5
    """Seeds of the learner: 0, 1, …"""
    steps: int = 100_000
    """Gradient steps of every variant."""
    dynamics_steps: int = 6_000
    """Updates of the ensemble."""
    world_model_steps: int = 3_000
    """Updates of the trajectory diffusion model."""
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Conditioning strengths of refined variants."""
    variants: tuple[str, ...] = ("base", "oracle", "ensemble", "dydiff")
    """Which to run, in order."""
    final_actions: str = "policy"
    """Actions stored with refined states: policy or inverse."""
    halt_margins: tuple[float, ...] = ()
    """How far the data reach in variants that are halted, each a variant of its own; none: the preset's."""
    episodes: int = 100
    """Evaluation episodes a seed."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: change one setting of DyDiff's `cpu` preset, in all variants."""

    def run(self) -> dict[str, Any]:
        """Train what is not yet trained, write gain.json and print the table."""
        if self.seeds < 2:
            raise UsageError(f"--seeds must be at least 2, for an interval needs a spread; got {self.seeds}")
        progress = BarProgress()
        setup, results, diverged = self.setup(progress), {}, {}
        for variant in self.names():
            try:
                self.fill(variant, setup, progress)
            except DivergedError as error:
                diverged[variant] = str(error)
            results = write_gains(self.out, diverged)
        return results

    def fill(self, variant: str, setup: Setup, progress: AbstractProgress) -> None:
        """Train what is not yet trained of one variant and evaluate its last policies."""
        stage, trained = self.trained(variant, setup, progress)
        episodes = run_episodes(
            trained.policies([stage]),
            setup.task,
            seeds=self.seeds,
            episodes=self.episodes,
            seed=EVALUATION_SEED,
        )
        summary = {
            "settings": self.settings(),
            **score_summary(episodes.returns, setup.task),
            "updates_per_second": trained.updates_per_second,
            "wall_seconds": trained.seconds,
        }
        write_summary(self.out / variant, summary)

    def setup(self, progress: AbstractProgress) -> Setup:
        """The data and the world models."""
        trajectories = open_dataset(self.dataset)
        task = task_of(trajectories, self.dataset)
        system = system_of(task, trajectories)
        config = load_settings("dydiff", self.base, "cpu", self.dataset, self.overrides())
        data = dydiff.prepare(config, trajectories)
        models = trained_models(config, system, data, self.out / "models", progress)
        return Setup(task, system, config, data, models)

    def trained(self, variant: str, setup: Setup, progress: AbstractProgress) -> tuple[Stage, TrainingResult]:
        """The learner fed by a variant's world, trained as far as it is not."""
        config = setup.config
        every = max(self.steps // 10 // config.epoch_steps, 1) * config.epoch_steps
        chunk = config.epoch_steps
        if variant == "base":  # the same program with nothing imagined in its batches
            config = dataclasses.replace(config, real_share=1.0, rollouts=2, epoch_steps=self.steps)
        stage = dydiff.policy_stage(
            config, setup.system, lambda data, results: data.world, stochastic=config.stochastic
        )
        given = GainData(setup.data.transitions, setup.world(variant), setup.data.reward_factor)
        trained = train(
            [stage], given, tuple(range(self.seeds)), self.out / variant, chunk_steps=chunk,
            evaluate=evaluator(setup.task, self.seeds), evaluate_every=every, resume=True, progress=progress,
        )  # fmt: skip
        return stage, trained

    def names(self) -> list[str]:
        """The variants: DyDiff once for each strength, and what is halted once for each margin."""
        learned = ("ensemble", "data+stepped", *REFINED)
        known = ("base", "oracle", *learned, *(f"{name}+halt" for name in learned))
        names = []
        for variant in self.variants:
            if variant not in known:
                raise UsageError(f"--variants takes {', '.join(known)}, got {variant!r}")
            kind, halting, _ = variant.partition("+halt")
            kinds = [f"{kind}-{strength:g}" for strength in self.strengths] if kind in REFINED else [kind]
            ends = [f"{halting}-{margin:g}" for margin in self.halt_margins if halting] or [halting]
            names += [kind + end for kind in kinds for end in ends]
        return names

    def overrides(self) -> dict[str, Any]:
        """What differs from the preset in all variants."""
        from langevin.commands.train import parse_setting

        names = ("steps", "dynamics_steps", "world_model_steps", "final_actions")
        return {name: getattr(self, name) for name in names} | dict(map(parse_setting, self.set))

    def settings(self) -> dict[str, Any]:
        """What was asked for, without where it goes."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "out"
        }


def reopened(folder: Path, variant: str) -> Gain:
    """The experiment that filled a folder, as a finished variant's summary has it."""
    settings = read_summary(folder / variant)["settings"]
    held: dict[str, Any] = {name: settings[name] for name in TRAINED_BY if name in settings}
    held["set"] = tuple(held.get("set", ()))
    return Gain(out=folder, **held)


def trained_models(
    config: Any, system: System, data: dydiff.DyDiffData, folder: Path, progress: AbstractProgress
) -> Results:
    """DyDiff's world models of one seed; what the folder holds of them is read or gone on with."""
    stages = [stage for stage in dydiff.stages(config, system) if stage.name != "policy"]
    trained = train(stages, data, (0,), folder, chunk_steps=CHUNK_STEPS, resume=True, progress=progress)
    return one_seed(trained.states, 0)


if __name__ == "__main__":
    enable_compile_cache()
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # the oracle's callback must not wait on itself
    tyro.cli(Gain).run()
