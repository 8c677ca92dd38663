"""Hierarchical planners end to end at the smallest scale: trained, saved, loaded, judged; and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.training.algorithms import hdmi
from langevin.training.algorithms.registry import find_algorithm, load_settings
from langevin.training.algorithms.system import system_of
from langevin.training.loop import train
from langevin.training.results import load_results

SMALL = {
    "steps": 4, "planner.jump": 3, "planner.high.horizon": 4, "planner.high.width": 8, "planner.low.width": 8,
    "planner.high.multipliers": [1], "planner.low.multipliers": [1], "planner.high.batch_size": 4,
    "planner.low.batch_size": 4, "planner.high.chain.steps": 4, "planner.low.chain.steps": 4, "sampling.steps": 2,
}  # fmt: skip


def data(observation_size=4, action_size=2, rows=120):
    rng = np.random.default_rng(0)
    states = np.cumsum(rng.normal(size=(rows + 1, observation_size)), axis=0).astype(np.float32)
    ends = np.arange(30, rows + 1, 30)
    return Trajectories(
        observations=states[:-1],
        actions=rng.uniform(-1, 1, (rows, action_size)).astype(np.float32),
        rewards=rng.uniform(size=rows).astype(np.float32),
        terminations=np.zeros(rows, bool),
        truncations=np.isin(np.arange(rows), ends - 1),
        next_observations=states[1:],
        episode_ends=ends,
        action_low=-np.ones(action_size, np.float32),
        action_high=np.ones(action_size, np.float32),
    )


@pytest.mark.parametrize(
    ("name", "task", "dataset", "extra"),
    [
        pytest.param("hierarchical_diffuser", "hopper", "hopper/medium-v0", {
            "replan_every": 2, "value.width": 8, "value.multipliers": [1], "candidates": 2,
        }, marks=pytest.mark.slow),
        ("hdmi", "pointmaze/umaze", "pointmaze/umaze-v0", {"landmarks": 20, "ways": 30, "planner.high.shortest": 1}),
    ],
)  # fmt: skip
def test_it_is_trained_and_its_policy_comes_back_from_disk(name, task, dataset, extra, tmp_path):
    sizes = (4, 2) if task.startswith("pointmaze") else (11, 3)
    trajectories = data(*sizes)
    system = system_of(get_task(task), trajectories)
    settings = load_settings(name, None, "cpu", dataset, SMALL | extra)
    algorithm = find_algorithm(name)
    stages = algorithm.stages(settings, system)
    trained = train(stages, algorithm.prepare(settings, trajectories), [0], tmp_path, chunk_steps=2)
    blank = algorithm.prepare(settings, system.blank_data(100))
    loaded = load_results(tmp_path, stages, blank, [0])
    observations = jnp.asarray(trajectories.observations[:2])[None]

    def first_action(policies):
        policy = jax.tree.map(lambda leaf: leaf[0] if hasattr(leaf, "shape") else leaf, policies)
        return policy.act(observations[0], policy.start(2), key=jax.random.key(0))[0]

    actions = first_action(trained.policies(stages))
    np.testing.assert_array_equal(actions, first_action(loaded.policies(stages)))
    assert actions.shape == (2, sizes[1])
    assert (np.abs(actions) <= 1).all()


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("hierarchical_diffuser", {"replan_every": 9}, "replan_every must lie between 1 and 3, got 9"),
        (
            "hierarchical_diffuser",
            {"planner.high.goal_size": 2},
            "goal_size is 2, and task hopper has no goal",
        ),
        (
            "hierarchical_diffuser",
            {"sampling.steps": 999, "replan_every": 1},
            "steps must lie between 1 and .*, got 999",
        ),
        ("hierarchical_diffuser", {"value.noised": False}, "value.noised must be true"),
        ("hierarchical_diffuser", {"planner.low.process": "edm"}, "a chain of steps"),
        (
            "hdmi",
            {},
            "hdmi searches ways to a goal, and task hopper has none; choose a pointmaze task, or hier",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(name, settings, words):
    system = system_of(get_task("hopper"), data(11, 3))
    with pytest.raises(UsageError, match=words):
        find_algorithm(name).stages(
            load_settings(name, None, "cpu", "hopper/medium-v0", SMALL | settings), system
        )


def test_hdmi_learns_from_ways_of_the_graph_and_segments_of_the_data():
    settings = load_settings("hdmi", None, "cpu", "pointmaze/umaze-v0", SMALL | {"landmarks": 20, "ways": 30})
    trajectories = data()
    prepared = hdmi.prepare(settings, trajectories)
    assert prepared.ways.size == 30
    assert prepared.segments.horizon == 4
    states = {tuple(row) for row in trajectories.observations}
    assert all(tuple(row) in states for row in np.asarray(prepared.ways.observations)), "states of the data"
