"""The robots' datasets: streams that the simulator replays, ends where they belong, same seed same bytes."""

import itertools

import numpy as np
import pytest

from langevin.envs import behaviour_policies, robot_datasets
from langevin.envs.behaviour_policies import BehaviourPolicy, read_behaviour, save_behaviour
from langevin.envs.robot_datasets import make_robot_dataset, robot_recipes
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.errors import LangevinError, UsageError


def policy(observation_size: int = 11, action_size: int = 3, seed: int = 0) -> BehaviourPolicy:
    rng = np.random.default_rng(seed)
    sizes = [observation_size, 8, 2 * action_size]
    draw = lambda *shape: rng.normal(size=shape).astype(np.float16).astype(np.float32) * np.float32(0.25)
    return BehaviourPolicy(
        tuple(draw(a, b) for a, b in itertools.pairwise(sizes)),
        tuple(draw(b) for b in sizes[1:]),
        {"task": "hopper", "steps": 640, "copies": 4, "updates_a_step": 0.5},
    )


def make(dataset_id: str, transitions: int, seed: int = 0, behaviour=None):
    return make_robot_dataset(dataset_id, robot_recipes()[dataset_id], transitions, seed, behaviour)


@pytest.fixture(scope="module")
def random_data():
    return make("hopper/random-v0", 3000)


def test_every_row_is_what_the_simulator_does(random_data):
    """From each logged state the logged action leads to the logged successor and reward."""
    simulator = make_simulator(get_task("hopper"), 1)
    rows = slice(0, 500)
    after, rewards = simulator.advance(random_data.observations[rows], random_data.actions[rows])
    # The solver starts cold, and a stored state is rounded; contact amplifies both.
    assert np.median(np.abs(after - random_data.next_observations[rows])) < 1e-5
    assert np.median(np.abs(rewards - random_data.rewards[rows])) < 1e-4


def test_episodes_are_whole_and_go_on_inside(random_data):
    data = random_data
    inside = np.ones(data.transitions, bool)
    inside[data.episode_ends - 1] = False
    np.testing.assert_array_equal(
        data.next_observations[:-1][inside[:-1]], data.observations[1:][inside[:-1]]
    )
    starts = data.observations[data.episode_starts]
    np.testing.assert_allclose(starts[:, 0], 1.25, atol=6e-3)
    fallen = get_task("hopper").termination(data.observations, data.actions, data.next_observations)
    np.testing.assert_array_equal(fallen, data.terminations)


def test_only_the_last_episode_of_a_stream_is_cut(random_data):
    """Three streams of 1,000 rows, hoppers that fall after some 20 steps."""
    cut = random_data.truncations
    assert cut.sum() == random_data.metadata["cut_episodes"] <= 3
    assert set(np.flatnonzero(cut)) <= {999, 1999, 2999}


def test_the_clock_ends_an_episode_of_a_robot_that_cannot_fall():
    data = make("halfcheetah/random-v0", 2500)
    assert not data.terminations.any()
    assert data.episode_lengths().tolist() == [1000, 250, 1000, 250]
    assert data.metadata["cut_episodes"] == 2


def test_the_same_seed_gives_the_same_bytes(random_data):
    again, other = make("hopper/random-v0", 3000), make("hopper/random-v0", 3000, seed=1)
    for name in ("observations", "actions", "rewards", "next_observations", "episode_ends"):
        assert getattr(again, name).tobytes() == getattr(random_data, name).tobytes()
    assert (other.actions != random_data.actions).any()


def test_a_uniform_random_hopper_earns_what_it_is_known_to(random_data):
    """16.7 a gymnasium v5 episode, measured over many."""
    returns = random_data.episode_returns()
    assert len(returns) > 100
    assert returns.mean() == pytest.approx(16.7, abs=4)


@pytest.mark.parametrize("transitions", [1, 2, 999, 1001])
def test_any_number_of_transitions_can_be_asked_for(transitions):
    assert make("hopper/random-v0", transitions).transitions == transitions


def test_a_mixture_has_as_many_rows_of_each(tmp_path, monkeypatch):
    paths = {}
    for seed, level in enumerate(("medium", "expert")):
        paths["hopper", level] = tmp_path / f"hopper-{level}.npz"
        save_behaviour(paths["hopper", level], policy(seed=seed))
    monkeypatch.setattr(behaviour_policies, "shipped_behaviours", lambda: paths)
    monkeypatch.setattr(robot_datasets, "shipped_behaviours", lambda: paths)
    mixed = make("hopper/medium-expert-v0", 401)
    assert mixed.transitions == 401
    assert mixed.metadata["recipe"]["controller"] == "medium then expert"
    # The first 201 rows are medium's: its own dataset of that many with the same random numbers.
    policies = [read_behaviour(paths["hopper", level]) for level in ("medium", "expert")]
    rng = np.random.default_rng(0).spawn(2)[0]
    first = robot_datasets.run_streams(
        get_task("hopper"), robot_datasets.Actor(policies[0].act), 201, rng, robot_datasets.SilentProgress()
    )
    np.testing.assert_array_equal(mixed.actions[:201], first["actions"])
    assert mixed.episode_ends.tolist().count(201) == 1, "an episode ends where one policy's rows do"


def test_a_target_set_lives_in_the_shifted_body_and_says_what_its_references_earn():
    data = make("hopper/leg_size/target-v0", 400, behaviour=("mine", robot_datasets.Actor(policy().act)))
    assert data.metadata["task"] == "hopper/leg_size"
    shifts = data.metadata["physics"]["shifts"]
    assert [(shift["field"], shift["name"]) for shift in shifts] == [("radius", "leg_geom")]
    assert 5 < data.metadata["target_returns"]["random"] < 40
    shifted = make_simulator(get_task("hopper/leg_size"), 1).advance(data.observations, data.actions)[0]
    source = make_simulator(get_task("hopper"), 1).advance(data.observations, data.actions)[0]
    error = lambda found: np.abs(found - data.next_observations).mean()
    assert error(shifted) < 0.1 * error(source)


@pytest.mark.parametrize(("robot", "level"), behaviour_policies.shipped_behaviours())
def test_a_shipped_policy_earns_what_its_file_says(robot, level):
    """20 episodes against the 50 that were run when it was kept."""
    found = behaviour_policies.behaviour_of(get_task(robot), level)
    assert (found.origin["task"], found.origin["level"]) == (robot, level)
    earned = robot_datasets.episode_return(get_task(robot), found.act, seed=1)
    assert earned == pytest.approx(found.origin["return_of_samples"], rel=0.3)
    if level == "medium":
        share = found.origin["return_of_samples"] / get_task(robot).expert_score
        assert 0.2 < share < 0.55, "about a third of the expert's return"


def test_a_policy_that_did_not_come_with_the_package_is_asked_for(monkeypatch):
    monkeypatch.setattr(behaviour_policies, "shipped_behaviours", dict)
    with pytest.raises(UsageError, match=r"no medium policy of hopper .* train-behaviour hopper` trains one"):
        make("hopper/medium-v0", 100)


def test_a_behaviour_policy_survives_its_file(tmp_path):
    """Weights of float16 resolution come back as they were, and act the same."""
    save_behaviour(tmp_path / "p.npz", policy())
    found = read_behaviour(tmp_path / "p.npz")
    observations = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
    for mode in (True, False):
        expected = policy().act(observations, np.random.default_rng(1), mode)
        np.testing.assert_allclose(
            found.act(observations, np.random.default_rng(1), mode), expected, rtol=1e-6
        )
    assert found.origin == policy().origin


def test_samples_have_the_mean_and_spread_of_the_gaussian():
    """Before the tanh: arctanh of 20,000 actions for one observation."""
    observations = np.tile(np.random.default_rng(0).normal(size=11), (20_000, 1)).astype(np.float32)
    made = policy()
    latent = np.arctanh(np.clip(made.act(observations, np.random.default_rng(1)), -1 + 1e-7, 1 - 1e-7))
    hidden = np.maximum(observations[:1] @ made.weights[0] + made.biases[0], 0)
    mean, log_std = np.split((hidden @ made.weights[1] + made.biases[1])[0], 2)
    np.testing.assert_allclose(latent.mean(0), mean, atol=5 * np.exp(log_std).max() / np.sqrt(20_000))
    np.testing.assert_allclose(latent.std(0), np.exp(log_std), rtol=0.05)


@pytest.mark.parametrize("content", [b"", b"not an archive", "empty"])
def test_a_file_that_is_no_policy_is_refused(tmp_path, content):
    path = tmp_path / "p.npz"
    if content == "empty":
        np.savez(path, origin=np.array("{}"))
    else:
        path.write_bytes(content)
    with pytest.raises(LangevinError, match=r"behaviour policy .*p\.npz"):
        read_behaviour(path)
