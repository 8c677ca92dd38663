import json
from contextlib import contextmanager

import numpy as np
import pytest

from langevin.envs import collect
from langevin.envs.collect import make_dataset, makeable_datasets
from langevin.envs.tasks import get_task, task_of_dataset
from langevin.errors import UsageError
from langevin.progress import AbstractProgress

UMAZE = "pointmaze/umaze-v0"


@pytest.fixture(scope="module")
def clean():
    return make_dataset(UMAZE, 6000, seed=0)


@pytest.fixture(scope="module")
def noisy():
    return make_dataset(UMAZE, 6000, seed=0, action_noise=0.5)


def test_every_listed_dataset_can_be_made_and_belongs_to_its_task():
    for dataset_id in makeable_datasets():
        data = make_dataset(dataset_id, 20, seed=1)
        assert data.transitions == 20
        assert data.metadata["task"] == task_of_dataset(dataset_id).id


def test_one_seed_gives_one_dataset_and_another_seed_another(clean):
    again, other = make_dataset(UMAZE, 6000, seed=0), make_dataset(UMAZE, 6000, seed=1)
    assert again.observations.tobytes() == clean.observations.tobytes()
    assert again.actions.tobytes() == clean.actions.tobytes()
    assert again.metadata == clean.metadata
    assert (other.observations != clean.observations).any()


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_longer_dataset_begins_with_the_shorter_one(noise):
    short, long = make_dataset(UMAZE, 700, 5, noise), make_dataset(UMAZE, 1400, 5, noise)
    np.testing.assert_array_equal(long.observations[:700], short.observations)
    np.testing.assert_array_equal(long.actions[:700], short.actions)


def test_episodes_are_cut_by_the_clock_while_the_ball_rolls_on():
    data = make_dataset("pointmaze/medium-v0", 1500, seed=2)
    assert data.episode_ends.tolist() == [600, 1200, 1500]
    assert np.flatnonzero(data.truncations).tolist() == [599, 1199, 1499]
    assert not data.terminations.any()
    np.testing.assert_array_equal(data.next_observations[:-1], data.observations[1:])


@pytest.mark.parametrize("rows", [1, 299, 300, 301, 600])
def test_any_number_of_transitions_gives_whole_episodes_and_a_rest(rows):
    data = make_dataset(UMAZE, rows, seed=3)
    assert data.transitions == rows
    assert data.episode_lengths().tolist() == [300] * (rows // 300) + [rows % 300] * (rows % 300 > 0)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_log_replays_in_gymnasium_bit_for_bit(noise, maze_name, make_gymnasium):
    data = make_dataset(f"pointmaze/{maze_name}-v0", 1000, 4, noise)
    point = make_gymnasium(maze_name).unwrapped.point_env
    first = data.observations[0].astype(np.float64)
    point.reset()
    point.set_state(first[:2], first[2:])
    point.data.qacc_warmstart[:] = 0
    for row, action in enumerate(data.actions):
        observation = point.step(action.astype(np.float64))[0]
        np.testing.assert_array_equal(
            data.next_observations[row], observation.astype(np.float32), err_msg=f"row {row}"
        )


def test_rewards_are_paid_for_the_state_that_is_reached(clean):
    distances = np.linalg.norm(clean.next_observations[:, :2].astype(np.float64) - [-1, 1], axis=1)
    np.testing.assert_array_equal(clean.rewards, distances <= 0.5)
    before = np.linalg.norm(clean.observations[:, :2].astype(np.float64) - [-1, 1], axis=1) <= 0.5
    assert (before != clean.rewards).any(), "nothing tells the two conventions apart in these rows"


def implied_waypoints(data):
    """Where 10 (waypoint - position) - velocity aims, in rows where nothing was clipped."""
    free = (np.abs(data.actions) < 0.999).all(axis=1)
    observations, actions = data.observations[free].astype(np.float64), data.actions[free]
    return observations[:, :2] + (actions + observations[:, 2:]) / 10


def test_clean_actions_aim_at_a_cell_centre_or_a_goal_near_one(clean):
    maze = get_task("pointmaze/umaze").maze
    waypoints = implied_waypoints(clean)
    assert len(waypoints) > 300
    offsets = waypoints - maze.cell_to_xy(maze.xy_to_cell(waypoints))
    assert np.abs(offsets).max() < 0.1001
    assert maze.legal(waypoints).all()
    centred = (np.abs(offsets) < 1e-5).all(axis=1)
    assert 0.05 < centred.mean() < 0.95, "both centres on the way and goals around a centre are aimed at"


def test_goals_lead_through_every_cell_and_never_into_a_wall(clean):
    maze = get_task("pointmaze/umaze").maze
    cells = {tuple(cell) for cell in maze.xy_to_cell(clean.observations[:, :2]).tolist()}
    assert cells == set(maze.free_cells)
    assert maze.legal(clean.observations[:, :2]).all()


def test_noise_is_added_to_the_clipped_action_and_stays_in_bounds(noisy):
    assert np.abs(noisy.actions).max() == 1
    waypoints = implied_waypoints(noisy)
    maze = get_task("pointmaze/umaze").maze
    offsets = waypoints - maze.cell_to_xy(maze.xy_to_cell(waypoints))
    assert (np.abs(offsets) > 0.11).mean() > 0.1, (
        "the actions follow the controller as if there were no noise"
    )
    assert noisy.metadata["recipe"]["action_noise"] == 0.5


def test_noise_drives_the_ball_towards_walls_that_clean_data_stay_clear_of(clean, noisy):
    # The U's outer walls stand 1.5 from the centre, its corridors' middle lines 1.0.
    reach = [np.abs(data.observations[:, :2]).max() for data in (clean, noisy)]
    assert reach[0] < 1.2 < reach[1]


def test_a_goal_not_reached_in_time_is_replaced(monkeypatch):
    routes = []

    def unreachable(maze, x, y, rng):
        routes.append((x, y))
        return [(99.0, 99.0)]

    monkeypatch.setattr(collect, "_route", unreachable)
    make_dataset(UMAZE, 700, seed=0)
    assert len(routes) == 3


def test_metadata_say_how_to_make_it_again(clean):
    metadata = clean.metadata
    assert (metadata["id"], metadata["task"], metadata["seed"]) == (UMAZE, "pointmaze/umaze", 0)
    assert metadata["reference_scores"] == [23.85, 161.86]
    assert metadata["recipe"]["controller"] == "waypoint"
    assert {"mujoco", "gymnasium-robotics", "langevin", "numpy"} <= set(metadata["versions"])
    assert json.loads(json.dumps(metadata)) == metadata


def test_progress_is_told_of_the_rows():
    told = []

    class Recorder(AbstractProgress):
        @contextmanager
        def track(self, total, label):
            told.append((total, label))
            yield lambda amount=1, note="": told.append(amount)

    make_dataset(UMAZE, 20_000, seed=0, progress=Recorder())
    assert told == [(20_000, "collecting pointmaze/umaze"), 10_000, 10_000]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pointmaze/umase-v0", 10, 0), "cannot be made; did you mean pointmaze/umaze-v0"),
        (("pointmaze/umaze", 10, 0), "cannot be made; did you mean pointmaze/umaze-v0"),
        (("pointmaze/umaze-v1", 10, 0), "cannot be made"),
        (("hopper/medium-v0", 10, 0), "cannot be made"),
        ((UMAZE, 0, 0), "transitions must be at least 1, got 0"),
        ((UMAZE, -5, 0), "transitions must be at least 1, got -5"),
        ((UMAZE, 10, -1), "seed must not be negative, got -1"),
        ((UMAZE, 10, 0, -0.5), "action_noise must be a finite standard deviation"),
        ((UMAZE, 10, 0, float("nan")), "action_noise must be a finite standard deviation"),
        ((UMAZE, 10, 0, float("inf")), "action_noise must be a finite standard deviation"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(UsageError, match=message):
        make_dataset(*arguments)
