"""The oracle's world is the simulator itself."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task


@pytest.fixture(scope="module")
def imagined(tmp_path_factory):
    out = tmp_path_factory.mktemp("oracle") / "found.npz"
    program = Path(__file__).parent / "oracle_program.py"
    subprocess.run([sys.executable, str(program), str(out)], check=True, timeout=300)
    return dict(np.load(out))


def test_rollouts_of_every_seed_are_the_simulators_step_by_step(imagined):
    """One policy a seed, mapped side by side, against the simulator stepped on its own."""
    task = get_task("pointmaze/umaze")
    seeds, rollouts, horizon, _ = imagined["observations"].shape
    for seed in range(seeds):
        simulator = make_simulator(task, rollouts)
        states = imagined["starts"]
        for step in range(horizon):
            np.testing.assert_allclose(imagined["observations"][seed, :, step], states, atol=1e-5)
            actions = np.clip(3 * (imagined["points"][seed] - states[:, :2]), -1, 1)
            np.testing.assert_allclose(imagined["actions"][seed, :, step], actions, atol=1e-4)
            states, _ = simulator.advance(states, imagined["actions"][seed, :, step])


def test_rewards_and_ends_are_the_tasks(imagined):
    task = get_task("pointmaze/umaze")
    after = imagined["observations"][:, :, 1:]
    near = np.linalg.norm(after[..., :2] - task.maze.goal, axis=-1) <= 0.5
    np.testing.assert_array_equal(imagined["rewards"], near)
    assert near.any()
    assert not near.all()
    assert not imagined["terminations"].any()
