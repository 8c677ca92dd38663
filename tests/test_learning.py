"""Learning curves, slow: what each algorithm reaches on a maze, against an agent that knows nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sources.minari import save_dataset
from langevin.data.trajectories import Trajectories
from langevin.envs.behaviours import along_the_way, next_cells
from langevin.envs.collect import make_dataset
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.evaluation.episodes import run_episodes
from langevin.experiments.runs import EVALUATION_SEED, RunRequest, run
from langevin.policies.base import Policy

pytestmark = pytest.mark.slow
ID, EXPERT_ID = "pointmaze/umaze-v0", "pointmaze/umaze-expert-v0"
EPISODES = 50


class Uniform(Policy):
    """Every action alike."""

    seed: jax.Array

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return jax.random.uniform(key, (len(observations), 2), minval=-1, maxval=1), None


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """200,000 steps of a controller on its way to goals all over the U-Maze."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("datasets")))
        save_dataset(make_dataset(ID, 200_000, seed=0), ID)
        yield


@pytest.fixture(scope="module")
def chance():
    """The score of a policy that draws its actions."""
    task = get_task("pointmaze/umaze")
    found = run_episodes(Uniform(jnp.zeros(1)), task, seeds=1, episodes=EPISODES, seed=EVALUATION_SEED)
    return float(task.normalized_score(found.returns).mean())


def score(algorithm, folder, dataset=ID, **overrides):
    request = RunRequest(algorithm, dataset, folder, seeds=(0,), episodes=EPISODES, overrides=overrides)
    return run(request)["normalized_score"]["mean"]


def expert_log(episodes=100):
    """Episodes of the waypoint controller on its way to the task's goal, with noise on its actions."""
    task, rng = get_task("pointmaze/umaze"), np.random.default_rng(0)
    simulator, table = make_simulator(task, episodes), next_cells(task.maze)
    observations, rows = simulator.reset(rng), []
    for _ in range(task.max_steps):
        actions = np.asarray(along_the_way(task.maze, table, jnp.asarray(observations)))
        actions = np.clip(actions + rng.normal(0, 0.3, actions.shape), -1, 1).astype(np.float32)
        after, rewards, _ = simulator.step(actions)
        rows.append((observations, actions, rewards, after))
        observations = after
    before, actions, rewards, after = (
        np.swapaxes(np.stack(column), 0, 1).reshape(episodes * task.max_steps, -1)
        for column in zip(*rows, strict=True)
    )
    ends = task.max_steps * np.arange(1, episodes + 1)
    last = np.isin(np.arange(len(before)) + 1, ends)
    return Trajectories(
        before, actions, rewards[:, 0], np.zeros(len(before), bool), last, after, ends, [-1, -1], [1, 1]
    )


@pytest.fixture(scope="module")
def expert(logged):
    """The expert's score; its log stands under EXPERT_ID."""
    log = expert_log()
    save_dataset(log, EXPERT_ID)
    return float(get_task("pointmaze/umaze").normalized_score(log.episode_returns()).mean())


@pytest.mark.parametrize(("algorithm", "steps"), [("bc", 5_000), ("td3bc", 10_000)])
def test_learning_from_an_experts_log_is_nearly_as_good_as_the_expert(
    expert, chance, tmp_path, algorithm, steps
):
    """Far from what a policy of chance comes to."""
    assert chance < 0.4 * expert
    assert score(algorithm, tmp_path / algorithm, EXPERT_ID, steps=steps) > 0.8 * expert


def test_the_planner_reaches_a_goal_the_log_was_not_about(logged, chance, tmp_path):
    """At half the preset's updates and half its width."""
    overrides = {"planner.width": 16, "steps": 1_500}
    assert score("diffuser", tmp_path / "diffuser", **overrides) > max(80, chance + 30)
