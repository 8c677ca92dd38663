"""The robots: equal to gymnasium's environments step by step, under both physics."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.envs.locomotion import LocomotionSimulator
from langevin.envs.robot_model import robot_model
from langevin.envs.robots import HALFCHEETAH, HOPPER, ROBOTS, WALKER2D
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task, task_of_dataset
from langevin.errors import UsageError

COPIES = 5


def simulator(name: str, batch_size: int = COPIES) -> LocomotionSimulator:
    found = make_simulator(get_task(name), batch_size, threads=2)
    assert isinstance(found, LocomotionSimulator)
    return found


@pytest.mark.parametrize("name", ROBOTS)
def test_whole_episodes_equal_gymnasiums_step_by_step(name):
    """Observations, rewards and ends, bit by bit, until the last copy has fallen or 400 steps have passed."""
    robot, rng = ROBOTS[name], np.random.default_rng(0)
    ours = simulator(name)
    ours.reset(rng)
    positions, velocities = ours.physical_state()
    theirs = [gymnasium.make(robot.gymnasium_id) for _ in range(COPIES)]
    for env, position, velocity in zip(theirs, positions, velocities, strict=True):
        env.reset(seed=0)
        env.unwrapped.set_state(position, velocity)
    running = np.ones(COPIES, bool)
    for _ in range(400):
        # Slow actions, so that a robot lives long enough to touch the ground in many ways.
        actions = rng.uniform(-1, 1, (COPIES, robot.actions)).astype(np.float32) * (
            1 if name == "halfcheetah" else 0.3
        )
        observations, rewards, ends = ours.step(actions)
        for row in np.flatnonzero(running):
            seen, reward, ended, _, _ = theirs[row].step(actions[row].astype(np.float64))
            np.testing.assert_array_equal(observations[row], seen.astype(np.float32))
            assert rewards[row] == np.float32(reward)
            assert ends[row] == ended
        running &= ~ends
        if not running.any():
            break
    assert running.all() == (name == "halfcheetah"), "hopper and walker fall, the cheetah cannot"


@pytest.mark.parametrize("name", ROBOTS)
def test_start_states_have_gymnasiums_distribution(name):
    """Mean at the model's initial state; noise of the size and kind of `reset_model`."""
    robot = ROBOTS[name]
    many = simulator(name, 4000)
    many.reset(np.random.default_rng(1))
    positions, velocities = many.physical_state()
    noise = robot.reset_noise
    offsets = positions - robot_model(robot).qpos0
    assert np.abs(offsets).max() <= noise
    np.testing.assert_allclose(offsets.std(0), noise / np.sqrt(3), rtol=0.1)
    if robot.normal_velocities:
        np.testing.assert_allclose(velocities.std(0), noise, rtol=0.1)
        assert np.abs(velocities).max() > 2 * noise
    else:
        assert np.abs(velocities).max() <= noise
    np.testing.assert_allclose(velocities.mean(0), 0, atol=5 * noise / np.sqrt(4000))


def test_a_copy_that_is_reset_leaves_the_others_alone():
    ours, rng = simulator("hopper"), np.random.default_rng(0)
    ours.reset(rng)
    before = ours.step(np.zeros((COPIES, 3)))[0]
    rows = np.array([False, True, False, False, True])
    ours.reset_rows(rows, rng)
    after = ours.observe()
    np.testing.assert_array_equal(after[~rows], before[~rows])
    assert (after[rows] != before[rows]).any(axis=1).all()
    np.testing.assert_allclose(after[rows, 0], 1.25, atol=6e-3)


def test_a_batch_of_another_size_gives_each_copy_the_same_numbers():
    """And a robot that starts from an observation goes on as one that came there with x at 0."""
    states = simulator("walker2d").reset(np.random.default_rng(3))
    actions = np.random.default_rng(4).uniform(-1, 1, (20, COPIES, 6))
    together, alone = simulator("walker2d"), simulator("walker2d", 1)
    together.set_state(states)
    alone.set_state(states[2:3])
    for action in actions:
        many, rewards, ends = together.step(action)
        one, reward, end = alone.step(action[2:3])
        np.testing.assert_array_equal(many[2:3], one)
        assert (rewards[2], ends[2]) == (reward[0], end[0])


@pytest.mark.parametrize("name", ROBOTS)
def test_advance_is_a_step_from_any_state_and_leaves_the_batch_where_it_is(name):
    ours, rng = simulator(name), np.random.default_rng(0)
    states = ours.reset(rng)
    actions = rng.uniform(-1, 1, (COPIES, ROBOTS[name].actions))
    after, rewards = ours.advance(states, actions)
    np.testing.assert_array_equal(ours.observe(), states)
    ours.set_state(states)
    stepped, paid, _ = ours.step(actions)
    np.testing.assert_allclose(after, stepped, atol=1e-4)
    np.testing.assert_allclose(rewards, paid, atol=1e-3)
    reversed_after, _ = ours.advance(states[::-1], actions[::-1])
    np.testing.assert_array_equal(reversed_after[::-1], after)


@pytest.mark.parametrize(
    ("name", "observation", "healthy"),
    [
        ("hopper", [1.25, 0.0], True), ("hopper", [0.69, 0.0], False), ("hopper", [1.25, 0.21], False),
        ("hopper", [1.25, -0.21], False), ("hopper", [9.0, 0.0], True), ("hopper", [np.nan, 0.0], False),
        ("walker2d", [1.25, 0.0], True), ("walker2d", [0.79, 0.0], False), ("walker2d", [2.01, 0.0], False),
        ("walker2d", [1.25, 1.01], False), ("walker2d", [1.25, -0.99], True),
        ("halfcheetah", [-5.0, 3.0], True),
    ],
)  # fmt: skip
def test_who_is_healthy_inside_jit_and_out(name, observation, healthy):
    """The ranges of gymnasium's documentation."""
    robot = ROBOTS[name]
    row = np.zeros((1, robot.observation_size), np.float32)
    row[0, :2] = observation
    termination = get_task(name).termination
    actions = np.zeros((1, robot.actions), np.float32)
    assert bool(termination(row, actions, row)[0]) is not healthy
    jitted = jax.jit(termination)(jnp.asarray(row), jnp.asarray(actions), jnp.asarray(row))
    assert bool(jitted[0]) is not healthy


def test_a_hopper_that_comes_apart_is_not_healthy():
    row = np.zeros((1, 11), np.float32)
    row[0, 0] = 1.25
    for entry in range(1, 11):
        broken = row.copy()
        broken[0, entry] = 100.5
        assert not HOPPER.healthy(broken)[0]


@pytest.mark.parametrize(
    ("robot", "masses"),
    [
        # Gymnasium's documentation of the -v2 models; capsules were cylinders half a radius longer.
        (HOPPER, [3.53429174, 3.92699082, 2.71433605, 5.0893801]),
        (WALKER2D, [3.53429174, 3.92699082, 2.71433605, 2.94053072, 3.92699082, 2.71433605, 2.94053072]),
    ],
)
def test_d4rls_robots_have_the_body_masses_of_their_time(robot, masses):
    np.testing.assert_allclose(robot_model(robot, "d4rl").body_mass[1:], masses, atol=1e-3)
    today = robot_model(robot).body_mass[1:]
    assert np.all(today > np.array(masses) * 1.01), "a capsule is a heavier thing today"


def test_d4rls_cheetah_is_todays():
    np.testing.assert_array_equal(
        robot_model(HALFCHEETAH, "d4rl").body_mass, robot_model(HALFCHEETAH).body_mass
    )


def test_d4rls_walker_has_a_slippery_right_foot():
    for physics, friction in (("v5", 1.9), ("d4rl", 0.9)):
        model = robot_model(WALKER2D, physics)
        assert model.geom("foot_geom").friction[0] == friction
        assert model.geom("foot_left_geom").friction[0] == 1.9


def test_masses_are_made_of_what_the_contacts_are_not():
    """The cylinders that carry D4RL's masses touch nothing."""
    model = robot_model(HOPPER, "d4rl")
    cylinders = model.geom_type == 5
    assert cylinders.sum() == 4
    assert not model.geom_contype[cylinders].any()
    assert not model.geom_conaffinity[cylinders].any()


def test_the_last_step_is_paid_one_more_under_d4rls_rules():
    """Dropped from too high an angle: the step that ends the episode has 1 more in D4RL's environment."""
    rewards = {}
    for name in ("hopper", "hopper-d4rl"):
        ours = simulator(name, 1)
        state = np.zeros((1, 11), np.float32)
        state[0, :2] = 1.25, 0.1999
        state[0, 7] = 3.0  # falls over within one step
        ours.set_state(state)
        _, reward, ended = ours.step(np.zeros((1, 3)))
        assert ended[0]
        positions, _ = ours.physical_state()
        rewards[name] = reward[0] - positions[0, 0] / ours.time_step
    assert rewards["hopper"] == pytest.approx(0.0, abs=1e-5)
    assert rewards["hopper-d4rl"] == pytest.approx(1.0, abs=1e-5)


def test_the_two_physics_drift_apart():
    actions = np.random.default_rng(0).uniform(-1, 1, (10, COPIES, 3))
    states = simulator("hopper").reset(np.random.default_rng(0))
    after = {}
    for name in ("hopper", "hopper-d4rl"):
        ours = simulator(name)
        ours.set_state(states)
        for action in actions:
            after[name] = ours.step(action)[0]
    assert np.abs(after["hopper"] - after["hopper-d4rl"]).max() > 0.01


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        ("hopper/medium-replay-v0", "hopper"), ("hopper-d4rl/medium-v0", "hopper-d4rl"),
        ("hopper/leg_size/target-v0", "hopper/leg_size"),
        ("hopper/torso_stiffness_strong/target-v0", "hopper/torso_stiffness_strong"),
        ("hopper/leg_sizes/target-v0", "hopper"), ("halfcheetah/expert-v0", "halfcheetah"),
    ],
)  # fmt: skip
def test_a_dataset_id_names_its_task(dataset, task):
    assert task_of_dataset(dataset).id == task


def test_a_tasks_physics_can_be_asked_for():
    assert get_task("hopper", "d4rl") is get_task("hopper-d4rl")
    assert get_task("hopper/leg_size", "d4rl") is get_task("hopper-d4rl/leg_size")
    assert get_task("pointmaze/umaze", "d4rl").maze is not None


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        (np.zeros((COPIES, 2)), r"expected actions of shape \(5, 3\), got \(5, 2\)"),
        (np.full((COPIES, 3), np.nan), "actions must be finite, got .* in row 0"),
    ],
)
def test_bad_actions_are_refused(actions, words):
    ours = simulator("hopper")
    ours.reset(np.random.default_rng(0))
    with pytest.raises(UsageError, match=words):
        ours.step(actions)


def test_bad_states_are_refused():
    with pytest.raises(UsageError, match=r"expected states of 11 entries, got an array of shape \(5, 12\)"):
        simulator("hopper").set_state(np.zeros((COPIES, 12)))
    with pytest.raises(UsageError, match="expected 5 states, got 2"):
        simulator("hopper").set_state(np.zeros((2, 11)))
