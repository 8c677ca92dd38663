"""Whether imagined transitions belong together: each one's next state beside the simulator's, world by world.

    python -m langevin.experiments.imagined_steps runs/dydiff-gain --worlds ensemble+halt dydiff-1+halt

The folder is one that `langevin.experiments.dydiff_gain` filled. A learner is taught transitions (s, a, s', r) and asks
of them nothing else than that a leads from s to s' and earns r. The same policies act in every world; of each
transition that a learner would be shown, the simulator is put into s and given a.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task
from langevin.errors import UsageError, require_at_least
from langevin.experiments.dydiff_gain import Gain, Setup, reopened
from langevin.experiments.runs import EVALUATION_SEED, one_seed
from langevin.imagination.worlds import Imagined
from langevin.policies.base import Policy
from langevin.progress import BarProgress
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.files import atomic_write


@dataclass(frozen=True)
class ImaginedSteps:
    """Roll out, hold every transition against the simulator, write imagined_steps.json and .md, and print."""

    folder: tyro.conf.Positional[Path]
    """Of the gain experiment."""
    learner: str = "ensemble+halt"
    """The variant whose policies act."""
    worlds: tuple[str, ...] = ("ensemble+halt", "dydiff-0+halt", "dydiff-1+halt", "renoised-1+halt")
    """The variants whose worlds they act in."""
    rollouts: int = 24
    """Rollouts a seed, from states of the data."""

    def run(self) -> list[dict[str, Any]]:
        """One row a world."""
        require_at_least(1, rollouts=self.rollouts)
        if not (self.folder / self.learner / "summary.json").is_file():
            raise UsageError(
                f"{self.folder} holds no finished {self.learner}; run langevin.experiments.dydiff_gain with it first"
            )
        gain = reopened(self.folder, self.learner)
        setup = gain.setup(BarProgress())
        if setup.task.maze is None:
            raise UsageError(f"{setup.task.id} has no cells to measure in; name a point maze's dataset")
        stage, trained = gain.trained(self.learner, setup, BarProgress())
        policies = trained.policies([stage])
        rows = [
            {"world": world} | steps_row(setup.task, self.imagined(gain, setup, policies, world))
            for world in self.worlds
        ]
        atomic_write(self.folder / "imagined_steps.json", json.dumps(rows, indent=1) + "\n")
        atomic_write(self.folder / "imagined_steps.md", table(rows))
        Console().print(table(rows), markup=False, highlight=False)
        return rows

    def imagined(self, gain: Gain, setup: Setup, policies: Policy, name: str) -> Imagined:
        """Rollouts of every seed's policy in a variant's world, from the same starts in every world."""
        observations, world = setup.data.transitions.observations, setup.world(name)
        starts = observations[np.random.default_rng(EVALUATION_SEED).choice(len(observations), self.rollouts)]
        horizon: int = setup.config.horizon
        found = [
            world.imagine(one_seed(policies, seed), starts, horizon, key=jax.random.key(seed))
            for seed in range(gain.seeds)
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def steps_row(task: Task, imagined: Imagined) -> dict[str, float]:
    """Errors of the transitions that a learner is shown: those before a rollout ends.

    step_error: distance between imagined and true next position in cells, its mean; step_error_90: its 90th
    percentile. step: how far a true step leads, the mean. reward_error: mean of |predicted - true|. shown: share of the
    transitions. One that halts has no next state and is not counted.
    """
    observations, actions = np.asarray(imagined.observations), np.asarray(imagined.actions)
    arrivals = np.asarray(imagined.next_observations)
    shown = np.asarray(imagined.valid & ~imagined.terminations)
    simulator = make_simulator(task, len(observations))
    errors, lengths, reward_errors = (np.zeros(shown.shape) for _ in range(3))
    for step in range(shown.shape[1]):
        simulator.set_state(observations[:, step])
        after, rewards = simulator.step(actions[:, step])[:2]
        errors[:, step] = np.linalg.norm(after[:, :2] - arrivals[:, step, :2], axis=1)
        lengths[:, step] = np.linalg.norm(after[:, :2] - observations[:, step, :2], axis=1)
        reward_errors[:, step] = np.abs(rewards - np.asarray(imagined.rewards)[:, step])
    return {
        "shown": float(shown.mean()),
        "step": float(lengths[shown].mean()),
        "step_error": float(errors[shown].mean()),
        "step_error_90": float(np.quantile(errors[shown], 0.9)),
        "reward_error": float(reward_errors[shown].mean()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row a world."""
    lines = [
        "| world | transitions shown | a true step | error of a step | its 90th percentile | error of a reward |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        numbers = (f"{row[name]:.3f}" for name in ("step", "step_error", "step_error_90", "reward_error"))
        lines.append(f"| {row['world']} | {row['shown']:.0%} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    enable_compile_cache()
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # the oracle's callback must not wait on itself
    tyro.cli(ImaginedSteps, description=__doc__).run()
