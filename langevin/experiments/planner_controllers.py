"""What a plan is worth by who drives it: D4RL's controller, a learned one, or its own actions, renewed every n steps.

    langevin train diffuser --dataset pointmaze/umaze-v0 --out runs/planner
    python -m langevin.experiments.planner_controllers runs/planner --episodes 50

Beside the scores stands the reason for them: how far a plan's own actions, replayed in the simulator, drift from its
states, and how much of an action is noise (what is left of it after the action that leads along the planned states).
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float
from rich.console import Console

from langevin.data.sources import open_dataset
from langevin.data.trajectories import Trajectories
from langevin.envs.stepping import make_simulator
from langevin.evaluation.episodes import run_episodes
from langevin.evaluation.fidelity import position_errors, simulate
from langevin.evaluation.scores import score_summary
from langevin.experiments.runs import EVALUATION_SEED, LoadedRun, load_run, one_seed
from langevin.planners.goal_planner import PlannerPolicy
from langevin.training.files import atomic_write

PLANS = 64
DRIFT_STEPS = (10, 50, 99)


@dataclass(frozen=True)
class PlannerControllers:
    """Score a trained planner under each controller and several intervals between plans."""

    run_folder: tyro.conf.Positional[Path]
    """A finished run of the planner."""
    intervals: tuple[int, ...] = (0, 64, 8)
    """Steps between two plans; 0 plans once an episode."""
    controllers: tuple[str, ...] = ("waypoint", "inverse", "actions")
    """Which to try."""
    episodes: int = 50
    """Episodes a seed."""

    def run(self) -> dict[str, Any]:
        """Print the table and write controllers.json into the run folder."""
        loaded = load_run(self.run_folder)
        console = Console()
        drift = action_drift(loaded)
        console.print(f"own actions replayed, cells from the plan after {drift['drift']}", highlight=False)
        noise = action_noise(loaded, open_dataset(loaded.config.dataset))
        console.print(f"root mean square of an action and of its noise: {noise}", highlight=False)
        scores = {}
        for controller in self.controllers:
            for interval in self.intervals:
                policies = dataclasses.replace(loaded.policies, controller=controller, replan_every=interval)
                episodes = run_episodes(
                    policies, loaded.system.task, seeds=len(loaded.config.seeds), episodes=self.episodes,
                    seed=EVALUATION_SEED,
                )  # fmt: skip
                score = score_summary(episodes.returns, loaded.system.task)["normalized_score"]
                scores[f"{controller}, every {interval}"] = score
                console.print(f"{controller:<9} every {interval:>3}: {score}", highlight=False)
                report = {"scores": scores, "episodes": self.episodes, "drift": drift, "noise": noise}
                atomic_write(self.run_folder / "controllers.json", json.dumps(report, indent=1) + "\n")
        return scores


def some_plans(
    loaded: LoadedRun,
) -> tuple[Float[Array, "plans horizon observation"], Float[Array, "plans horizon action"]]:
    """Plans of the first seed from start states of the task."""
    policy = one_seed(loaded.policies, 0)
    assert isinstance(policy, PlannerPolicy)
    starts = make_simulator(loaded.system.task, PLANS).reset(np.random.default_rng(EVALUATION_SEED))
    renew = jax.jit(lambda starts, key: policy.renew(starts, policy.start(PLANS), key=key))
    plan = renew(jnp.asarray(starts, jnp.float32), jax.random.key(0))
    return plan.observations, plan.actions


def action_drift(loaded: LoadedRun) -> dict[str, Any]:
    """Mean distance, in cells, between planned positions and those of the plan's own actions in the simulator."""
    planned, actions = some_plans(loaded)
    errors = position_errors(planned, simulate(loaded.system.task, np.asarray(planned[:, 0]), actions))
    return {
        "drift": {str(step): float(errors[:, step].mean()) for step in DRIFT_STEPS if step < errors.shape[1]}
    }


def action_noise(loaded: LoadedRun, trajectories: Trajectories) -> dict[str, float]:
    """Root mean square of planned actions, and of what the planned change of velocity does not explain of them.

    Away from walls the point obeys velocity' = A velocity + B action + c; A, B and c are fitted to the data, whose own
    unexplained part stands beside the plans'.
    """
    rows = np.random.default_rng(0).permutation(len(trajectories.rewards))[:20_000]
    before, after = trajectories.observations[rows], trajectories.next_observations[rows]
    inputs = np.concatenate([before[:, 2:4], after[:, 2:4], np.ones((len(rows), 1))], axis=1)
    explain, *_ = np.linalg.lstsq(inputs, trajectories.actions[rows], rcond=None)
    planned, actions = map(np.asarray, some_plans(loaded))
    pairs = np.concatenate(
        [planned[:, :-1, 2:4], planned[:, 1:, 2:4], np.ones((*planned[:, :-1].shape[:2], 1))], axis=-1
    )
    root_mean_square = lambda values: float(np.sqrt(np.mean(np.square(values))))
    return {
        "planned actions": root_mean_square(actions),
        "unexplained by planned velocities": root_mean_square(actions[:, :-1] - pairs @ explain),
        "unexplained in the data": root_mean_square(trajectories.actions[rows] - inputs @ explain),
    }


if __name__ == "__main__":
    tyro.cli(PlannerControllers).run()
