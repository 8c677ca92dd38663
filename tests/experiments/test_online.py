"""SAC in the simulator: resumed it ends with the same bits, and its replay is the simulator's own account."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.errors import LangevinError, UsageError
from langevin.experiments.online import OnlineRun, OnlineTraining, Replay, train_online, train_replay
from langevin.policies.sac import SAC
from langevin.progress import SilentProgress

SETTINGS = OnlineTraining(
    steps=400, copies=4, steps_a_round=5, updates_a_step=0.2, random_steps=100, batch_size=8, capacity=1000,
    evaluate_every=100_000, learner=SAC(width=8, depth=1),
)  # fmt: skip
TASK = get_task("hopper")


def leaves(run: OnlineRun) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state) if hasattr(leaf, "dtype")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train_online(SETTINGS, TASK, tmp_path_factory.mktemp("whole"))


def test_a_training_resumed_ends_as_one_never_stopped(whole, tmp_path):
    """Stopped after 200 steps by an evaluation that says enough; simulator, buffer and random numbers go on."""
    stopping = OnlineRun(SETTINGS, TASK, tmp_path)
    while stopping.steps < 200:
        stopping.round()
    stopping.save()
    resumed = train_online(SETTINGS, TASK, tmp_path, resume=True)
    assert resumed.steps == whole.steps == 400
    for ours, theirs in zip(leaves(resumed), leaves(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in Replay.FIELDS:
        np.testing.assert_array_equal(getattr(resumed.replay, name), getattr(whole.replay, name))
    assert resumed.updates == 60


def test_the_replay_made_again_is_that_of_the_training(whole):
    streams = train_replay(SETTINGS, TASK, SilentProgress())
    assert streams["stream_ends"].tolist() == [100, 200, 300, 400]
    for name in Replay.FIELDS:
        made = getattr(whole.replay, name)[:400].reshape(100, 4, -1)
        np.testing.assert_array_equal(streams[name].reshape(4, 100, -1), made.swapaxes(0, 1))


def test_the_replay_ends_where_an_evaluation_returns_enough_and_is_the_trainings_up_to_there(whole):
    """Evaluated every 100 steps, and any hopper returns more than 0: so after the first 100."""
    streams = train_replay(replace(SETTINGS, evaluate_every=100), TASK, SilentProgress(), enough=0.0)
    assert streams["stream_ends"].tolist() == [25, 50, 75, 100]
    made = whole.replay.observations[:100].reshape(25, 4, -1)
    np.testing.assert_array_equal(streams["observations"].reshape(4, 25, -1), made.swapaxes(0, 1))


def test_a_training_that_never_returns_enough_says_what_it_came_to():
    asked = replace(SETTINGS, evaluate_every=200)
    with pytest.raises(
        LangevinError, match=r"hopper returned \d+ after 400 steps, and its .* at 9,999; try another --seed"
    ):
        train_replay(asked, TASK, SilentProgress(), enough=9_999.0)


def test_the_replay_is_what_the_simulator_did(whole):
    streams = train_replay(SETTINGS, TASK, SilentProgress())
    after, _ = make_simulator(TASK, 1).advance(streams["observations"], streams["actions"])
    assert np.median(np.abs(after - streams["next_observations"])) < 1e-5
    ended = (streams["terminations"] + streams["truncations"]) > 0
    ended[streams["stream_ends"] - 1] = True
    inside = np.flatnonzero(~ended)
    np.testing.assert_array_equal(streams["next_observations"][inside], streams["observations"][inside + 1])


def test_the_oldest_rows_are_forgotten_first():
    replay = Replay(5, 1, 1)
    for start in (0, 3, 6):
        values = np.arange(start, start + 3, dtype=np.float32)
        column = values[:, None]
        replay.add(
            observations=column, actions=column, rewards=values, terminations=values, truncations=values,
            next_observations=column,
        )  # fmt: skip
    assert sorted(replay.rewards.tolist()) == [4, 5, 6, 7, 8]
    drawn = replay.sample(np.random.default_rng(0), 3, 50)
    assert drawn.rewards.shape == (3, 50)
    assert set(np.unique(drawn.rewards)) == {4, 5, 6, 7, 8}


def test_a_folder_in_use_is_refused_without_resume_and_with_other_settings(tmp_path):
    run = OnlineRun(SETTINGS, TASK, tmp_path)
    run.save()
    with pytest.raises(UsageError, match=r"already holds a training; pass --resume"):
        train_online(SETTINGS, TASK, tmp_path)
    with pytest.raises(UsageError, match=r"holds a training of hopper .* resume it with its own settings"):
        train_online(OnlineTraining(steps=500), TASK, tmp_path, resume=True)


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(UsageError, match="must be at least 1"):
        OnlineTraining(copies=0)
    with pytest.raises(UsageError, match="gives no update a round of 64 steps"):
        OnlineTraining(updates_a_step=0.001)
    with pytest.raises(UsageError, match="has a recipe of its own"):
        OnlineRun(SETTINGS, get_task("pointmaze/umaze"), tmp_path)
