"""What is held out, and the scales of the data."""

import equinox as eqx
import jax
import numpy as np
import pytest

from langevin.data.sampling import Transitions
from langevin.data.trajectories import Trajectories
from langevin.dynamics.split import Scales, split_transitions
from langevin.errors import DatasetError


def numbered(rows: int) -> Transitions:
    """Transitions whose reward is their row number."""
    count = np.arange(rows, dtype=np.float32)
    observations = np.stack([count, np.full(rows, 3.0, np.float32)], axis=1)
    return Transitions(
        *jax.tree.map(
            jax.numpy.asarray, (observations, observations[:, :1], count, count * 0, observations + 2)
        )
    )


@pytest.mark.parametrize(("rows", "held_out"), [(2, 1), (4, 1), (10, 2), (1000, 200), (30_000, 5000)])
def test_a_fifth_but_at_most_5000_rows_are_held_out_and_none_is_lost(rows, held_out):
    split = split_transitions(numbered(rows))
    assert split.held_out.size == held_out
    everything = np.concatenate([split.training.rewards, split.held_out.rewards])
    np.testing.assert_array_equal(np.sort(everything), np.arange(rows))


def test_fields_of_a_row_stay_together():
    split = split_transitions(numbered(100))
    for part in (split.training, split.held_out):
        np.testing.assert_array_equal(part.observations[:, 0], part.rewards)
        np.testing.assert_array_equal(part.next_observations[:, 0], part.rewards + 2)


def test_the_seed_decides_which_rows():
    transitions = numbered(1000)
    first, again, other = (split_transitions(transitions, seed).held_out.rewards for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_held_out_rows_come_from_everywhere():
    rows = np.asarray(split_transitions(numbered(10_000)).held_out.rewards)
    counts = np.histogram(rows, bins=10, range=(0, 10_000))[0]
    assert counts.min() > 150, "2000 rows over 10 stretches: 200 each, give or take 40"


def test_trajectories_split_like_their_transitions():
    bound = np.ones(1, np.float32)
    split = split_transitions(Trajectories.blank(2, 1, -bound, bound, 50))
    assert (split.training.size, split.held_out.size) == (40, 10)


def test_one_row_cannot_be_split():
    with pytest.raises(DatasetError, match="at least 2 transitions"):
        split_transitions(numbered(1))


def test_scales_know_the_range_of_next_observations_too():
    change = jax.numpy.array([2.0, -4.0])
    transitions = numbered(100)
    transitions = eqx.tree_at(lambda t: t.next_observations, transitions, transitions.observations + change)
    scales = Scales.fit(transitions)
    np.testing.assert_array_equal(scales.observation_low, [0, -1])
    np.testing.assert_array_equal(scales.observation_high, [101, 3])
    np.testing.assert_array_equal((scales.action_low, scales.action_high), ([0], [99]))


def test_network_inputs_are_z_scored_and_stop_at_the_edge_of_the_data():
    transitions = numbered(100)
    scales = Scales.fit(transitions)
    inputs = np.asarray(scales.inputs(transitions.observations, transitions.actions))
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(inputs[:, [0, 2]].std(0), 1, rtol=1e-5)
    far = scales.inputs(jax.numpy.array([1e6, -1e6]), jax.numpy.array([-50.0]))
    edge = scales.inputs(jax.numpy.array([101.0, 3.0]), jax.numpy.array([0.0]))
    np.testing.assert_array_equal(far, edge)


def test_targets_are_the_z_scored_change():
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(2, 500, 3)).astype(np.float32)
    transitions = eqx.tree_at(
        lambda t: (t.observations, t.next_observations),
        numbered(500),
        (jax.numpy.asarray(fields[0]), jax.numpy.asarray(fields[0] + 0.01 * fields[1] + 4.0)),
    )
    change = np.asarray(transitions.next_observations - transitions.observations, np.float64)
    expected = (change - change.mean(0)) / change.std(0)
    np.testing.assert_allclose(Scales.fit(transitions).targets(transitions), expected, atol=1e-4)
