"""Hierarchical Diffuser: what each level learns from, and plans whose jumps are filled in."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import WindowBatch, Windows, sample_windows
from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.training import DiffusionOptimizer
from langevin.nets.contextual_unet import ContextualUNet
from langevin.planners.goal_planner import GoalPlanner, PlannerPolicy
from langevin.planners.hierarchical import HierarchicalPlanner, HierarchyTraining
from langevin.planners.receding import RecedingPlanner
from langevin.planners.segments import SegmentFiller, dense_segments, sparse_rows
from langevin.planners.window_diffusion import Chain, Scale, WindowDiffusion, WindowTraining
from langevin.training.programs import COMPILE_QUICKLY

SIZE, ACTION, JUMP, ROWS = 4, 2, 3, 5
CHAIN = Chain(6, predicts="clean")


@pytest.fixture(scope="module")
def batch():
    """Two windows of 12 steps that count their steps, the second of 8 real ones."""
    steps = np.arange(12.0)[None] + np.array([[0.0], [100.0]])
    mask = np.ones((2, 12), bool)
    mask[1, 8:] = False
    return WindowBatch(
        jnp.asarray(steps[..., None] + np.arange(SIZE) / 10, jnp.float32),
        jnp.asarray(steps[..., None] + np.arange(ACTION) / 10, jnp.float32),
        jnp.asarray(steps, jnp.float32),
        jnp.asarray(mask),
    )


def test_a_sparse_row_is_a_state_with_all_actions_to_the_next_and_their_rewards(batch):
    sparse = sparse_rows(batch, JUMP)
    np.testing.assert_allclose(sparse.observations[0, :, 0], [0, 3, 6, 9])
    np.testing.assert_allclose(sparse.actions[0, 1], [3, 3.1, 4, 4.1, 5, 5.1], rtol=1e-6)
    np.testing.assert_allclose(sparse.rewards[0], [0 + 1 + 2, 3 + 4 + 5, 6 + 7 + 8, 9 + 10 + 11])
    assert sparse.mask.tolist() == [[True] * 4, [True, True, False, False]], (
        "rows of which every step is real"
    )


def test_segments_are_consecutive_steps_from_anywhere_real(batch):
    many = jax.tree.map(lambda rows: jnp.repeat(rows, 2000, axis=0), batch)
    segments = dense_segments(many, JUMP, key=jax.random.key(0))
    assert segments.mask.all(), "there is room for a whole one in 8 real steps"
    starts = np.asarray(segments.observations[:, 0, 0])
    np.testing.assert_allclose(np.diff(segments.observations[..., 0], axis=1), 1.0)
    whole, cut = starts[:2000], starts[2000:] - 100
    np.testing.assert_allclose(np.bincount(whole.astype(int)) / 2000, np.full(9, 1 / 9), atol=0.03)
    np.testing.assert_allclose(np.bincount(cut.astype(int)) / 2000, np.full(5, 1 / 5), atol=0.04)


class Straight(ContextualUNet):
    """In place of a network of a level with goals: the clean rows lie straight between start and goal, and an action
    is the goal's first number. Reads them in the condition beside the noisy rows."""

    channels: int = eqx.field(static=True)
    goal: int = eqx.field(static=True)

    def __init__(self, channels, goal):
        self.unet, self.embeddings = None, ()  # pyright: ignore[reportAttributeAccessIssue]
        self.channels, self.goal = channels, goal

    def told(self, values, present):
        def network(rows, noise):
            start = rows[:, self.channels : self.channels + SIZE]
            goal = rows[:, self.channels + SIZE : self.channels + SIZE + self.goal]
            clock = rows[:, -2:-1]
            wanted = jnp.pad(goal, ((0, 0), (0, SIZE - self.goal)))
            states = start + clock * (wanted - start)
            return jnp.concatenate([states, jnp.repeat(goal[:, :1], self.channels - SIZE, axis=1)], axis=1)

        return network


class Ahead(Straight):
    """In place of the network of a high level without goals: every row is one unit further in every dimension."""

    def told(self, values, present):
        def network(rows, noise):
            start = rows[:, self.channels : self.channels + SIZE]
            states = start + jnp.arange(ROWS)[:, None]
            return jnp.concatenate([states, jnp.zeros((ROWS, self.channels - SIZE))], axis=1)

        return network


def level(network, horizon, stride, actions):
    scale = Scale(
        GaussianNormalizer(jnp.zeros(SIZE), jnp.ones(SIZE)),
        GaussianNormalizer(jnp.zeros(actions), jnp.ones(actions)),
        jnp.full(SIZE + actions, -50.0), jnp.full(SIZE + actions, 50.0),
    )  # fmt: skip
    return WindowDiffusion(network, CHAIN.ddpm(), scale, horizon, stride, True)


SAMPLER = ChainSampling("ddim", 6).sampler(CHAIN.ddpm().schedule)
FILL = SegmentFiller(level(Straight(SIZE + ACTION, SIZE), JUMP + 1, 1, ACTION), SAMPLER)
BOUNDS = (-jnp.ones(ACTION), jnp.ones(ACTION))


def test_a_filled_plan_has_a_row_for_every_step_and_meets_every_state():
    states = jnp.array([[0.0, 0, 0, 0], [3.0, 0, 0, 3], [3.0, 6, 0, 0]])
    observations, actions = FILL.between(states, key=jax.random.key(0))
    expected = [
        [0, 0, 0, 0],
        [1, 0, 0, 1],
        [2, 0, 0, 2],
        [3, 0, 0, 3],
        [3, 2, 0, 2],
        [3, 4, 0, 1],
        [3, 6, 0, 0],
    ]
    np.testing.assert_allclose(observations, expected, atol=1e-5)
    assert actions.shape == (7, ACTION)
    np.testing.assert_allclose(actions[:-1], 3.0, atol=1e-5)


def test_in_a_maze_the_policy_follows_the_filled_plan_to_its_goal():
    high = level(Straight(SIZE + JUMP * ACTION, 2), ROWS, JUMP, JUMP * ACTION)
    planner = GoalPlanner(high, None, jnp.array(jnp.inf), 2, FILL)
    policy = PlannerPolicy(planner, jnp.array([4.0, 8.0]), *BOUNDS, SAMPLER, "waypoint", 1, 0, ROWS - 1)
    _, memory = policy.act(jnp.zeros((2, SIZE)), policy.start(2), key=jax.random.key(0))
    share = np.arange((ROWS - 1) * JUMP + 1)[:, None] / ((ROWS - 1) * JUMP)
    np.testing.assert_allclose(memory.observations[1, :, :2], share * [4, 8], atol=1e-4)
    assert memory.goal_row.tolist() == [12, 12]


def test_without_a_goal_the_first_jump_is_filled_and_followed_until_the_next_plan():
    """The high level wants one unit more in every dimension, so a segment's action is where the system was plus 1."""
    high = level(Ahead(SIZE + JUMP * ACTION, 0), ROWS, JUMP, JUMP * ACTION)
    policy = HierarchicalPlanner(RecedingPlanner(high, SAMPLER, *BOUNDS, replan_every=2), FILL)
    memory, taken = policy.start(1), []
    for step in range(5):
        actions, memory = policy.act(jnp.full((1, SIZE), 0.1 * step - 1), memory, key=jax.random.key(step))
        taken.append(float(actions[0, 0]))
    np.testing.assert_allclose(taken, [0, 0, 0.2, 0.2, 0.4], atol=1e-5)


def test_one_update_trains_both_levels_on_rows_of_their_own_kind():
    small = {"process": "ddpm", "chain": CHAIN, "width": 8, "multipliers": (1,), "batch_size": 4}
    small["optimizer"] = DiffusionOptimizer(warmup_steps=0)
    training = HierarchyTraining(
        WindowTraining(horizon=4, stride=JUMP, goal_size=2, shortest=3, **small),
        WindowTraining(horizon=JUMP + 1, goal_size=SIZE, shortest=JUMP, **small), JUMP,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    windows = Windows(
        jnp.asarray(rng.normal(size=(60, SIZE)), jnp.float32), jnp.asarray(rng.normal(size=(60, ACTION)), jnp.float32),
        jnp.zeros(60), jnp.arange(40, dtype=jnp.int32), jnp.full(40, 12, jnp.int32), training.steps,
    )  # fmt: skip
    make = eqx.filter_jit(training.init, compiler_options=COMPILE_QUICKLY)
    state = make(windows, key=jax.random.key(0))
    batch = sample_windows(windows, 4, key=jax.random.key(2))
    new, metrics = eqx.filter_jit(training.update)(state, batch, step=jnp.int32(0), key=jax.random.key(1))
    for name in ("high", "low"):
        before, after = (getattr(s, name).diffusion.network.unet.last.bias for s in (state, new))
        assert np.abs(after - before).max() > 0
        assert np.isfinite(metrics[f"{name}/loss"])
    assert state.high.scale.action_size == JUMP * ACTION
    assert state.low.scale.action_size == ACTION
    assert float(state.fastest) > 0
