"""DyDiff and ADEPT over every learner they are published with, and runs that are killed at any of their checkpoints."""

import gc
from contextlib import contextmanager

import equinox as eqx
import jax
import numpy as np
import pytest

from langevin.progress import AbstractProgress
from langevin.training.algorithms.registry import ALGORITHMS, load_settings
from langevin.training.checkpoint import Checkpoints
from langevin.training.loop import train
from tests.training.small_log import small_log, small_system

DATASET = "halfcheetah/medium-v0"
LEARNER = {
    "td3bc": {"learner.width": 8, "learner.depth": 1},
    "iql": {"learner.width": 8, "learner.depth": 1},
    "sac": {"learner.width": 8, "learner.depth": 1},
    "cql": {"learner.base.width": 8, "learner.base.depth": 1, "learner.samples": 2},
    "diffusion_ql": {
        "learner.width": 8,
        "learner.depth": 1,
        "learner.diffusion_steps": 2,
        "learner.candidates": 2,
    },
}
SHARED = {"steps": 20, "epoch_steps": 10, "batch_size": 16, "rollouts": 4, "capacity": 200}
MODELS = {
    "dydiff": {
        "horizon": 6, "dynamics_steps": 20, "reward_steps": 10, "world_model_steps": 20, "inverse_steps": 10,
        "dynamics.width": 8, "dynamics.depth": 1, "dynamics.members": 2, "dynamics.elites": 1, "reward.width": 8,
        "reward.depth": 1, "world_model.width": 8, "world_model.multipliers": (1,), "world_model.batch_size": 4,
        "schedule.steps": 2, "iterations": 2, "halt": False,
    },
    "adept": {
        "rollout_steps": 3, "world_model_steps": 20, "behaviour_steps": 10, "refit_steps": 2, "refit_batch_size": 8,
        "world_model.width": 8, "world_model.depth": 1, "world_model.diffusion_steps": 2, "world_model.batch_size": 8,
        "behaviour.width": 8, "behaviour.depth": 1,
    },
    "policy_guided": {
        "horizon": 6, "world_model_steps": 20, "world_model.width": 8, "world_model.multipliers": (1,),
        "world_model.batch_size": 4, "schedule.steps": 2,
    },
}  # fmt: skip


def run(name, base, folder=None, steps=20, **more):
    """One seed of the smallest run, saved at every chunk."""
    algorithm = ALGORITHMS[name]
    settings = SHARED | MODELS[name] | LEARNER[base] | {"steps": steps}
    config = load_settings(name, base, "cpu", DATASET, settings)
    log = small_log()
    return train(
        algorithm.stages(config, small_system()), algorithm.prepare(config, log), [0], folder, chunk_steps=10,
        checkpoint_seconds=0.0, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("dydiff", "cql"), ("dydiff", "diffusion_ql"), pytest.param("dydiff", "iql", marks=pytest.mark.slow),
        ("adept", "sac"), pytest.param("adept", "diffusion_ql", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_learner_imagines_and_learns_from_it(name, base):
    state = run(name, base).states["policy"]
    assert int(state.buffer.filled[0]) > 0
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[0, : int(state.buffer.filled[0])], state.buffer.rows)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rows))
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(state.learner, eqx.is_inexact_array))
    )


class HeldByChunk(AbstractProgress):
    """Counts what JAX holds whenever a chunk of the policy's stage is done."""

    def __init__(self):
        self.arrays = []

    @contextmanager
    def track(self, total, label):
        def advance(amount=1, note=""):
            if label == "policy" and amount:
                gc.collect()
                self.arrays.append(sorted((array.shape, str(array.dtype)) for array in jax.live_arrays()))

        yield advance


@pytest.mark.parametrize(("name", "base"), [("dydiff", "td3bc"), ("adept", "iql")])
def test_memory_stays_flat_over_epochs(name, base, tmp_path):
    """The buffer of 200 rows is full after ten or seventeen of thirty epochs; not an array more is held at the end."""
    held = HeldByChunk()
    trained = run(name, base, tmp_path, progress=held, steps=300)
    assert int(trained.states["policy"].buffer.filled[0]) == 200
    assert len(held.arrays) == 30
    assert all(arrays == held.arrays[1] for arrays in held.arrays[2:])


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "base"),
    [("dydiff", "td3bc"), pytest.param("policy_guided", "sac", marks=pytest.mark.slow)],
)
def test_a_run_killed_at_any_of_its_checkpoints_ends_as_one_that_was_not(name, base, tmp_path, monkeypatch):
    """In every stage, at its middle and at its end: models, optimisers, synthetic buffer and keys come back."""
    expected = run(name, base, tmp_path / "whole").states
    save, written = Checkpoints.save, []

    def save_and_die(self, *arguments, **more):
        save(self, *arguments, **more)
        written.append(arguments[0])
        raise KilledError

    places = []
    for attempt in range(50):
        monkeypatch.setattr(Checkpoints, "save", save_and_die)
        try:
            found = run(name, base, tmp_path / "killed", resume=attempt > 0).states
            break
        except KilledError:
            places.append((written[-1].stage, written[-1].step, written[-1].finished))
    assert len(set(places)) == len(places) >= 6, "it was killed at every one of them"
    assert {stage for stage, *_ in places} == set(expected)
    assert eqx.tree_equal(found, expected)
