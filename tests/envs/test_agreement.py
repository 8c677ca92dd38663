from dataclasses import replace

import numpy as np
import pytest

from langevin.data.trajectories import Trajectories
from langevin.envs.agreement import find_disagreements, require_same_shapes
from langevin.envs.collect import make_dataset
from langevin.envs.tasks import get_task
from langevin.errors import DatasetError


@pytest.fixture
def data():
    return make_dataset("pointmaze/umaze-v0", 700, seed=0)


def messages(data, task_id="pointmaze/umaze"):
    return [finding.field + ": " + finding.message for finding in find_disagreements(data, get_task(task_id))]


def test_a_dataset_made_here_agrees_with_its_task(data):
    assert messages(data) == []


def test_data_of_another_maze_disagree_about_walls_rewards_and_length():
    data = make_dataset("pointmaze/large-v0", 800, seed=0)
    fields = " ".join(messages(data))
    assert "observations:" in fields
    assert "lie inside a wall" in fields
    assert "episodes of more than 300 steps" in fields


def test_a_changed_reward_and_a_made_up_terminal_are_pointed_at(data):
    rewards = data.rewards.copy()
    rewards[17] += 1
    terminations = data.terminations.copy()
    terminations[299] = True
    changed = replace(data, rewards=rewards, terminations=terminations)
    assert messages(changed) == [
        "rewards: 1 of 700 rows, the first 17, differ from the task's reward",
        "terminations: 1 of 700 rows, the first 299, differ from the task's termination rule",
    ]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((5, 2, 1.0), "observation_size is 5, but task pointmaze/umaze has 4"),
        ((4, 3, 1.0), "action_size is 3, but task pointmaze/umaze has 2"),
        ((4, 2, 0.5), r"action_low is \[-0\.5, -0\.5\], but task pointmaze/umaze has \[-1\.0, -1\.0\]"),
    ],
)
def test_data_of_other_shapes_are_refused(sizes, message):
    observation_size, action_size, bound = sizes
    other = Trajectories.blank(
        observation_size, action_size, np.full(action_size, -bound), np.full(action_size, bound), 3
    )
    with pytest.raises(DatasetError, match=message):
        require_same_shapes(other, get_task("pointmaze/umaze"))
