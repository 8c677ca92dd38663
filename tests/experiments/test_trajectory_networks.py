"""The comparison of trajectory networks: what is held out, and what the clock counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.sampling import Windows
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError
from langevin.experiments.trajectory_networks import CHUNK, Racer, measure, split_windows, table
from langevin.imagination.trajectory_model import MixerForm, TrajectoryModelTraining


def windows_of_rows(rows, horizon, width=4):
    """One episode whose observations count its rows."""
    count = rows - horizon + 1
    numbers = jnp.arange(rows, dtype=jnp.float32)[:, None] * jnp.ones(width)
    return Windows(
        numbers, jnp.zeros((rows, 2)).at[0].set(1.0), jnp.zeros(rows), jnp.arange(count, dtype=jnp.int32),
        jnp.full(count, horizon, jnp.int32), horizon,
    )  # fmt: skip


def test_no_row_is_both_trained_on_and_held_out():
    training, held_out = split_windows(windows_of_rows(109, 10))
    last_trained = int(training.starts.max()) + 10 - 1
    assert last_trained == int(held_out.starts.min()) - 1
    assert held_out.size == 10
    assert training.observations.shape == held_out.observations.shape


def test_too_few_windows_to_hold_any_out():
    with pytest.raises(UsageError, match="3 windows are too few to hold a tenth of them out"):
        split_windows(windows_of_rows(12, 10))


def test_a_racer_starts_afresh_after_compiling_and_counts_what_it_does():
    training = TrajectoryModelTraining(batch_size=4, mixer=MixerForm(width=8, layers=1))
    windows = windows_of_rows(60, 8)
    racer = Racer("mixer", training, windows, 0)
    assert (racer.updates, racer.seconds) == (0, 0.0)
    fresh = racer.training.init(windows, key=jax.random.key(0))
    np.testing.assert_allclose(
        racer.state.diffusion.network.first.weight, fresh.diffusion.network.first.weight
    )
    racer.chunk()
    record = racer.record()
    assert record["updates"] == CHUNK
    assert record["seconds"] > 0
    assert np.abs(racer.state.diffusion.network.first.weight - fresh.diffusion.network.first.weight).max() > 0
    row = measure(
        racer.training, racer.state, windows, Sampler("ddim", KarrasSchedule(steps=2, highest=10.0)), 16
    )
    assert row["loss"] > 0
    assert row["error"] > 0
    line = table([{"network": "mixer", "mark": 15.0, **record, **row}]).splitlines()[-1]
    assert line.startswith("| 15 | mixer | 0.00M | 25 |")
