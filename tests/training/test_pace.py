"""Whose learning rate falls over a training, and whose does not."""

import jax.numpy as jnp
import pytest

from langevin.diffusion.training import DiffusionOptimizer
from langevin.dynamics.ensemble_training import EnsembleTraining
from langevin.planners.trajectory_transformer import TrajectoryTransformer
from langevin.policies.diffusion_ql import DiffusionQL
from langevin.policies.iql import IQL
from langevin.policies.td3bc import TD3BC
from langevin.training.algorithms.pace import paced


@pytest.mark.parametrize(
    "kind", [IQL, DiffusionQL, TrajectoryTransformer, EnsembleTraining, DiffusionOptimizer]
)
def test_it_falls_over_the_trainings_updates_unless_it_says_otherwise(kind):
    assert paced(kind(), 70).decay_steps == 70
    assert paced(kind(decay_steps=30), 70).decay_steps == 30
    assert paced(kind(decay_steps=0), 70).decay_steps == 0


def test_one_without_such_a_setting_stays_as_it_is():
    learner = TD3BC()
    assert paced(learner, 70) is learner


@pytest.mark.parametrize("decay_steps", [None, 0])
def test_used_alone_and_at_zero_a_rate_stays(decay_steps):
    """Adam's step under a constant gradient has the learning rate's size, the hundredth as the first."""
    optimizer = IQL(learning_rate=0.01, decay_steps=decay_steps).actor_optimizer
    state = optimizer.init(jnp.zeros(()))
    for _ in range(100):
        move, state = optimizer.update(jnp.ones(()), state)
    assert float(move) == pytest.approx(-0.01, rel=1e-3)
