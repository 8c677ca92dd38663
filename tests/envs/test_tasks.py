import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.envs.tasks import TASKS, get_task, task_of_dataset
from langevin.errors import UsageError

REFERENCES = {
    "pointmaze/umaze": (300, 23.85, 161.86),
    "pointmaze/medium": (600, 13.13, 277.39),
    "pointmaze/large": (800, 6.7, 273.99),
}


@pytest.mark.parametrize("task_id", REFERENCES)
def test_limits_and_references_are_maze2ds(task_id):
    task = get_task(task_id)
    steps, random, expert = REFERENCES[task_id]
    assert (task.max_steps, task.random_score, task.expert_score) == (steps, random, expert)
    np.testing.assert_allclose(task.normalized_score(np.array([random, expert])), [0, 100], atol=1e-9)
    middle = (random + expert) / 2
    assert task.normalized_score(middle) == pytest.approx(50)


def test_reward_is_one_within_half_a_metre_of_the_goal_after_the_step():
    task = get_task("pointmaze/umaze")
    goal = np.array([-1.0, 1.0])
    near, far = np.array([0.3, 0.39]), np.array([0.3, 0.41])
    states = np.zeros((4, 4), np.float32)
    states[:, :2] = goal + np.stack([near, far, -near, [0.5, 0.0]])
    elsewhere = np.zeros((4, 4), np.float32)
    actions = np.zeros((4, 2), np.float32)
    assert task.reward(elsewhere, actions, states).tolist() == [1, 0, 1, 1]
    assert task.reward(states, actions, elsewhere).tolist() == [0, 0, 0, 0]


MAZES = {task.id: task for task in TASKS.values() if task.maze is not None}


@pytest.mark.parametrize("task", MAZES.values(), ids=MAZES)
def test_reward_and_termination_inside_jit_equal_numpy_in_any_batch(task):
    rng = np.random.default_rng(0)
    states = np.concatenate([rng.uniform(-6, 6, (2, 400, 2)), rng.normal(size=(2, 400, 2))], axis=-1).astype(
        np.float32
    )
    states[0, :200, :2] = task.maze.goal + rng.uniform(-0.6, 0.6, (200, 2))
    step = states, np.zeros((2, 400, 2), np.float32), states
    rewards = task.reward(*step)
    assert rewards.shape == (2, 400)
    assert rewards.dtype == np.float32
    assert 0 < rewards.mean() < 1
    compiled = jax.jit(task.reward)(*map(jnp.asarray, step))
    assert (np.asarray(compiled) != rewards).sum() <= 1, "more than rounding at the very edge of the disc"
    assert not task.termination(*step).any()
    ends = jax.jit(task.termination)(*map(jnp.asarray, step))
    assert ends.dtype == bool
    assert ends.shape == (2, 400)
    assert not ends.any()


def test_a_task_is_one_object():
    assert get_task("pointmaze/umaze") is task_of_dataset("pointmaze/umaze-v0")


@pytest.mark.parametrize(
    ("dataset_id", "task_id"),
    [
        ("pointmaze/umaze-v0", "pointmaze/umaze"),
        ("pointmaze/umaze-v12", "pointmaze/umaze"),
        ("pointmaze/medium-noisy-v0", "pointmaze/medium"),
    ],
)
def test_a_dataset_id_begins_with_its_task(dataset_id, task_id):
    assert task_of_dataset(dataset_id).id == task_id


@pytest.mark.parametrize(
    ("task_id", "message"),
    [
        ("pointmaze/umase", "did you mean pointmaze/umaze"),
        ("umaze", "did you mean pointmaze/umaze"),
        ("atari/pong", "choose one of halfcheetah, halfcheetah-d4rl, hopper, hopper-d4rl, pointmaze/large"),
        ("", "choose one of"),
    ],
)
def test_an_unknown_task_is_named_with_its_nearest(task_id, message):
    with pytest.raises(UsageError, match=message):
        get_task(task_id)


@pytest.mark.parametrize(
    ("dataset_id", "message"),
    [
        ("pointmaze/umaze", "must end in a version"),
        ("pointmaze/umaze-v", "must end in a version"),
        ("pointmaze/medum-v0", "did you mean pointmaze/medium"),
        ("pointmaze/umazes-v0", "belongs to no task"),
    ],
)
def test_an_id_of_no_task_is_refused(dataset_id, message):
    with pytest.raises(UsageError, match=message):
        task_of_dataset(dataset_id)
