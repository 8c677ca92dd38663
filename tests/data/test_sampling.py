import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import sample_transitions, sample_windows, transitions_of, windows_of
from langevin.errors import UsageError

LENGTHS = [3, 1, 6, 2]
HORIZON = 3


@pytest.fixture
def windows(numbered):
    return windows_of(numbered(LENGTHS), HORIZON)


def steps_of(observations):
    """Episode and step that a numbered observation came from."""
    number = np.asarray(observations[..., 0]).round().astype(int)
    return number // 100, number % 100


def test_there_is_one_window_per_start_and_one_for_a_short_episode(windows):
    assert windows.starts.tolist() == [0, 3, 4, 5, 6, 7, 10]
    assert windows.lengths.tolist() == [3, 1, 3, 3, 3, 3, 2]
    assert windows.size == 7


def test_windows_stay_in_one_episode_and_padding_repeats_its_last_row_and_is_masked(windows):
    batch = sample_windows(windows, 500, key=jax.random.key(0))
    episodes, steps = steps_of(batch.observations)
    assert (episodes == episodes[:, :1]).all(), "a window crosses the end of an episode"
    lengths = np.array(LENGTHS)[episodes[:, 0]]
    expected = np.minimum(steps[:, :1] + np.arange(HORIZON), lengths[:, None] - 1)
    np.testing.assert_array_equal(steps, expected)
    real = steps[:, :1] + np.arange(HORIZON) < lengths[:, None]
    np.testing.assert_array_equal(batch.mask, real)
    assert not real.all()
    assert set(episodes[:, 0]) == {0, 1, 2, 3}


def test_actions_and_rewards_come_from_the_rows_of_the_observations(windows, numbered):
    data = numbered(LENGTHS)
    batch = sample_windows(windows, 100, key=jax.random.key(1))
    episodes, steps = steps_of(batch.observations)
    rows = data.episode_starts[episodes] + steps
    np.testing.assert_array_equal(batch.actions, data.actions[rows])
    np.testing.assert_array_equal(batch.rewards, data.rewards[rows])


def test_a_horizon_of_one_gives_every_row_once(numbered):
    windows = windows_of(numbered(LENGTHS), 1)
    assert windows.starts.tolist() == list(range(12))
    assert windows.lengths.tolist() == [1] * 12


def test_a_horizon_longer_than_every_episode_pads_them_all(numbered):
    windows = windows_of(numbered(LENGTHS), 50)
    assert windows.starts.tolist() == [0, 3, 4, 10]
    assert windows.lengths.tolist() == LENGTHS


def chi_square(counts):
    """Pearson's statistic against equal shares; its mean is one less than the number of cells."""
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum()


def test_every_start_is_equally_likely(windows):
    batch = sample_windows(windows, 70_000, key=jax.random.key(2))
    episodes, steps = steps_of(batch.observations[:, 0])
    _, counts = np.unique(episodes * 10 + steps, return_counts=True)
    assert len(counts) == 7
    # 6 degrees of freedom: 22.5 is passed once in a thousand keys.
    assert chi_square(counts) < 22.5


def test_transitions_are_drawn_uniformly_from_all_rows(numbered):
    transitions = transitions_of(numbered(LENGTHS))
    batch = sample_transitions(transitions, 60_000, key=jax.random.key(3))
    counts = np.bincount(np.asarray(batch.rewards).astype(int), minlength=12)
    # 11 degrees of freedom: 31.3 is passed once in a thousand keys.
    assert chi_square(counts) < 31.3


def test_a_transition_keeps_its_own_fields_and_the_successor_beyond_the_last_row(numbered):
    data = numbered(LENGTHS)
    batch = sample_transitions(transitions_of(data), 200, key=jax.random.key(4))
    rows = np.asarray(batch.rewards).astype(int)
    np.testing.assert_array_equal(batch.observations, data.observations[rows])
    np.testing.assert_array_equal(batch.next_observations, data.next_observations[rows])
    (episodes, steps), (next_episodes, next_steps) = (
        steps_of(batch.observations),
        steps_of(batch.next_observations),
    )
    np.testing.assert_array_equal(next_episodes, episodes)
    np.testing.assert_array_equal(next_steps, steps + 1)


def test_only_terminations_stop_the_bootstrap(fields):
    from langevin.data.trajectories import Trajectories

    fields["terminations"][2] = True
    transitions = transitions_of(Trajectories(**fields))
    assert transitions.terminations.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert transitions.terminations.dtype == jnp.float32


@pytest.mark.parametrize("kind", ["windows", "transitions"])
def test_sampling_inside_jit_and_over_keys_equals_one_key_at_a_time(kind, numbered):
    data = numbered(LENGTHS)
    source, sample = {
        "windows": (windows_of(data, HORIZON), sample_windows),
        "transitions": (transitions_of(data), sample_transitions),
    }[kind]
    keys = jax.random.split(jax.random.key(5), 4)
    many = eqx.filter_jit(lambda source, keys: jax.vmap(lambda key: sample(source, 6, key=key))(keys))(
        source, keys
    )
    for index, key in enumerate(keys):
        one = sample(source, 6, key=key)
        assert eqx.tree_equal(one, jax.tree.map(lambda array, index=index: array[index], many))


@pytest.mark.parametrize("kind", ["windows", "transitions"])
def test_the_data_are_an_argument_of_the_compiled_program_not_a_constant_in_it(kind, numbered):
    data = numbered(LENGTHS)
    source, sample = {
        "windows": (windows_of(data, HORIZON), sample_windows),
        "transitions": (transitions_of(data), sample_transitions),
    }[kind]
    program = jax.make_jaxpr(lambda source, key: sample(source, 6, key=key))(source, jax.random.key(0))
    assert all(np.size(constant) <= 1 for constant in program.consts)


def test_a_horizon_of_none_is_refused(numbered):
    with pytest.raises(UsageError, match="horizon must be at least 1 row, got 0"):
        windows_of(numbered(LENGTHS), 0)
