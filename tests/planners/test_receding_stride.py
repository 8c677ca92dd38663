"""Plans whose rows are several steps apart: how they are read in between, and what an inverse model is asked."""

import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.dynamics.inverse import InverseModel
from langevin.nets.contextual_unet import ContextualUNet
from langevin.nets.mlp import MLP
from langevin.planners.receding import RecedingPlanner, moved_on
from langevin.planners.window_diffusion import Chain, Scale, WindowDiffusion

STRIDE, HORIZON = 3, 4
RAW = GaussianNormalizer(jnp.zeros(1), jnp.ones(1))
SCALE = Scale(RAW, RAW, jnp.full(2, -9.0), jnp.full(2, 9.0))


class Unasked(ContextualUNet):
    """No plan is drawn here."""

    def __init__(self):
        self.unet, self.embeddings = None, ()  # pyright: ignore[reportAttributeAccessIssue]


class ThirdOfTheWay(MLP):
    """The law of s' = s + a under one action for three steps: a third of the difference."""

    def __init__(self):
        self.layers, self.activation, self.dropout = (), jnp.tanh, 0.0

    def __call__(self, x, *, key=None):
        return x[1:] / 3


INVERSE = InverseModel(ThirdOfTheWay(), RAW, RAW, jnp.full(1, -9.0), jnp.full(1, 9.0))


def planner(plans_actions, inverse):
    chain = Chain(4).ddpm()
    windows = WindowDiffusion(Unasked(), chain, SCALE, HORIZON, STRIDE, plans_actions)
    return RecedingPlanner(
        windows, ChainSampling(steps=4).sampler(chain.schedule), jnp.full(1, -9.0), jnp.full(1, 9.0),
        inverse=inverse, replan_every=99,
    )  # fmt: skip


@pytest.mark.parametrize("step", range(7))
def test_at_every_step_the_action_leads_to_where_the_plan_is_a_row_of_steps_later(step):
    """A plan that goes 0.1 a step, 0.3 a row, on which the system is: at every step the action is 0.1."""
    rows = 0.3 * jnp.arange(HORIZON, dtype=jnp.float32)[:, None]
    action = planner(False, INVERSE).action(jnp.full(1, 0.1 * step), rows, jnp.int32(step))
    np.testing.assert_allclose(action, 0.1, atol=1e-6)


def test_planned_actions_are_read_between_their_rows():
    rows = jnp.array([[0.0, 1.0], [0.0, 4.0], [0.0, -2.0], [0.0, 0.0]])
    acted = [float(planner(True, None).action(jnp.zeros(1), rows, jnp.int32(step))[0]) for step in range(7)]
    np.testing.assert_allclose(acted, [1, 2, 3, 4, 2, 0, -2], atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "expected"), [(0.0, [0, 1, 4, 9]), (1.0, [1, 4, 9, 9]), (1.5, [2.5, 6.5, 9, 9]), (7.0, [9] * 4)]
)
def test_what_is_left_of_a_plan_repeats_its_last_row(rows, expected):
    plan = jnp.arange(4.0)[:, None] ** 2
    np.testing.assert_allclose(moved_on(plan, jnp.float32(rows))[:, 0], expected)
