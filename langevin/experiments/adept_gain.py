"""What ADEPT gives a learner, beside plain ensemble rollouts and true ones; and what each of its parts does.

    python -m langevin.experiments.adept_gain --dataset halfcheetah/random-v0 --set learner.width=128

Every variant is the same learner at equal gradient steps, with as many rows imagined from states of the data every
epoch and the same share of them in a batch. They differ in the world: none ("base"), an ensemble of single-step models
("ensemble"), the simulator ("oracle"), ADEPT's, and ADEPT's without one of its parts. World models are trained for each
seed, so an interval is over all of it. A variant that is finished is kept, one that was stopped goes on, and one of
which every seed diverged is said to have done so.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from langevin.data.sources import open_dataset
from langevin.data.trajectories import Trajectories
from langevin.errors import DivergedError, UsageError, nearest, require_at_least
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.scores import score_summary
from langevin.experiments.gain_table import write_gains
from langevin.experiments.oracle import simulator_world
from langevin.experiments.runs import EVALUATION_SEED, evaluator, task_of
from langevin.imagination.branched import BranchedRollouts
from langevin.imagination.rewards import RescaledRewards
from langevin.progress import BarProgress
from langevin.training.algorithms import adept
from langevin.training.algorithms.model_based import ensemble_world, imagining_stage, single_step_stages
from langevin.training.algorithms.pace import paced
from langevin.training.algorithms.registry import load_settings
from langevin.training.algorithms.system import System, system_of
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.loop import train
from langevin.training.run_folder import read_summary, write_summary
from langevin.training.stage import Stage

ABLATIONS: dict[str, dict[str, Any]] = {
    "adept": {},
    "unweighted": {"importance_sampling": False},
    "fixed": {"refit_steps": 0},
    "unclipped": {"world_model.clip": False},
}
"""ADEPT, refits without importance weights, no refits, states and rewards not held in the data's range."""
REFERENCES = ("base", "oracle", "ensemble")
VARIANTS = (*REFERENCES, *ABLATIONS)
CURVE_POINTS = 10


@dataclass(frozen=True)
class ADEPTGain:
    """Train what is missing, write gain.json and print the table."""

    dataset: str
    """Dataset id or path, of a system that is simulated here."""
    out: Path = Path("runs/adept-gain")
    """One run folder a variant, and gain.json."""
    base: str = "iql"
    """The learner."""
    seeds: int = 5
    """Seeds of every variant: 0, 1, …"""
    steps: int = 50_000
    """Gradient steps of every variant."""
    variants: tuple[str, ...] = VARIANTS
    """Which to run, in order."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: change one setting of ADEPT's `cpu` preset, in all variants."""
    episodes: int = 50
    """Evaluation episodes a seed."""

    def run(self) -> dict[str, Any]:
        """The finished variants' summaries."""
        require_at_least(2, seeds=self.seeds)
        for name in self.variants:
            if name not in VARIANTS:
                raise UsageError(f"--variants {name} is none of them; {nearest(name, VARIANTS)}")
        trajectories = open_dataset(self.dataset)
        task = task_of(trajectories, self.dataset)
        if not task.has_simulator:
            raise UsageError(
                f"{self.dataset} is of a system without a simulator here, which the oracle and the scores need"
            )
        system = system_of(task, trajectories)
        results, diverged = {}, {}
        for name in self.variants:
            try:
                if not self.finished(name):
                    self.fill(name, trajectories, system)
            except DivergedError as error:
                diverged[name] = str(error)
            results = write_gains(self.out, diverged)
        return results

    def config(self, variant: str) -> Any:
        """ADEPT's settings in a variant."""
        from langevin.commands.train import parse_setting

        changed = {"steps": self.steps} | dict(map(parse_setting, self.set)) | ABLATIONS.get(variant, {})
        return load_settings("adept", self.base, "cpu", self.dataset, changed)

    def stages(self, variant: str, config: Any, system: System) -> list[Stage]:
        """The variant's world model, where it learns one, and the learner that imagines in its world."""
        if variant in ABLATIONS:
            return adept.stages(config, system)
        if variant == "ensemble":
            single_step = load_settings("single_step", self.base, "cpu", self.dataset, {})
            world_of = lambda data, results: ensemble_world(single_step, system, results)
            return [*single_step_stages(single_step, system), learner_stage(config, system, world_of)]
        if variant == "base":
            config = alone(config)
        return [learner_stage(config, system, lambda data, results: simulator_world(system.task))]

    def finished(self, variant: str) -> bool:
        """Whether the folder holds the variant. Raises UsageError where it holds it at another budget."""
        if not (self.out / variant / "summary.json").is_file():
            return False
        held = read_summary(self.out / variant)["settings"]
        if held != self.settings():
            raise UsageError(
                f"{self.out / variant} was run with {held}, and {self.settings()} were asked for; choose another --out"
            )
        return True

    def settings(self) -> dict[str, Any]:
        """What a variant's scores depend on."""
        names = ("dataset", "base", "seeds", "steps", "set", "episodes")
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in names
        }

    def fill(self, variant: str, trajectories: Trajectories, system: System) -> None:
        """Train one variant and evaluate its last policies."""
        progress, config = BarProgress(), self.config(variant)
        stages, epoch = self.stages(variant, config, system), config.epoch_steps
        trained = train(
            stages, adept.prepare(config, trajectories), tuple(range(self.seeds)), self.out / variant,
            chunk_steps=epoch, evaluate=evaluator(system.task, self.seeds),
            evaluate_every=max(self.steps // CURVE_POINTS // epoch, 1) * epoch, resume=True, progress=progress,
        )  # fmt: skip
        episodes = run_episodes(
            trained.policies(stages), system.task, seeds=self.seeds, episodes=self.episodes, seed=EVALUATION_SEED,
            progress=progress,
        )  # fmt: skip
        summary = {
            "settings": self.settings(),
            **score_summary(episodes.returns, system.task),
            "updates_per_second": trained.updates_per_second,
            "wall_seconds": trained.seconds,
        }
        write_summary(self.out / variant, summary)


def learner_stage(config: Any, system: System, world_of: Any) -> Stage:
    """ADEPT's loop in a world that does not change: as many rollouts as long, as many rows kept."""
    imagined = config.rollouts * config.rollout_steps
    branched = BranchedRollouts(
        paced(config.learner, config.steps), config.rollouts, config.rollout_steps,
        max(config.capacity // imagined, 1), config.real_share, config.batch_size,
    )  # fmt: skip
    return imagining_stage(
        branched, config, system, world_of,
        lambda learner, data: RescaledRewards(learner, data.reward_factor, config.rewards.shift),
    )  # fmt: skip


def alone(config: Any) -> Any:
    """The learner alone: no imagined row is in a batch, and as good as none is imagined."""
    return dataclasses.replace(config, real_share=1.0, rollouts=1, rollout_steps=1, capacity=1)


if __name__ == "__main__":
    enable_compile_cache()
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # the oracle's callback must not wait on itself
    tyro.cli(ADEPTGain, description=__doc__).run()
