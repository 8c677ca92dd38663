"""The planner to a goal: its endpoints, what its loss counts, and a policy that follows its plans."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.data.normalize import MinMaxNormalizer
from langevin.data.sampling import WindowBatch, Windows
from langevin.diffusion.edm import EDM
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError
from langevin.nets.contextual_unet import ContextualUNet
from langevin.planners import window_diffusion
from langevin.planners.goal_planner import (
    PACE_MARGIN,
    GoalPlanner,
    PlannerPolicy,
    PlannerState,
    finish_planner,
    greatest_displacement,
    init_planner,
    update_planner,
)
from langevin.planners.inverse import InverseTraining
from langevin.planners.known_ends import endpoints
from langevin.planners.window_diffusion import Scale, WindowDiffusion, WindowState, WindowTraining
from langevin.training.programs import COMPILE_QUICKLY

HORIZON, SIZE, ACTION = 16, 4, 2
CHANNELS, CONDITIONS = SIZE + ACTION, SIZE + 2 + 3
OBSERVATIONS = MinMaxNormalizer(jnp.array([-2.0, -2.0, -5.0, -5.0]), jnp.array([2.0, 3.0, 5.0, 5.0]))
FORCES = MinMaxNormalizer(-jnp.ones(2), jnp.ones(2))
SCALE = Scale(OBSERVATIONS, FORCES, -jnp.ones(CHANNELS), jnp.ones(CHANNELS))
SAMPLER = Sampler("heun", KarrasSchedule(steps=4, highest=10.0))
INVERSE_TRAINING = InverseTraining(width=8, depth=1)
INVERSE = INVERSE_TRAINING.init(SIZE, 2, ACTION, key=jax.random.key(0))


@pytest.fixture(scope="module")
def network():
    make = eqx.filter_jit(
        lambda key: ContextualUNet(CHANNELS + CONDITIONS, CHANNELS, 0, 8, (1,), key=key),
        compiler_options=COMPILE_QUICKLY,
    )
    return make(jax.random.key(0))


def test_the_endpoints_are_held_and_nothing_else():
    start, goal = jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([0.8, -0.9])
    constraint, _ = endpoints(start, goal, jnp.int32(5), 8, CHANNELS)
    held = np.zeros((8, CHANNELS), bool)
    held[0, :4] = True
    held[5, :2] = True
    np.testing.assert_array_equal(constraint.held, held)
    applied = np.asarray(constraint.apply(jnp.full((8, CHANNELS), 7.0)))
    np.testing.assert_allclose(applied[0], [0.1, 0.2, 0.3, 0.4, 7, 7])
    np.testing.assert_allclose(applied[5], [0.8, -0.9, 7, 7, 7, 7])
    assert (np.delete(applied, [0, 5], axis=0) == 7).all()


def test_every_row_is_told_start_goal_and_how_far_along_it_is():
    start, goal = jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([0.8, -0.9])
    _, condition = endpoints(start, goal, jnp.int32(4), 8, CHANNELS)
    condition = np.asarray(condition)
    np.testing.assert_allclose(condition[:, :6], np.tile([0.1, 0.2, 0.3, 0.4, 0.8, -0.9], (8, 1)))
    assert condition[:, 6].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    np.testing.assert_allclose(condition[:, 7], [0, 0.25, 0.5, 0.75, 1, 1, 1, 1])


def planner(network, fastest=jnp.inf, stride=1, kind=GoalPlanner):
    windows = WindowDiffusion(network, EDM(), SCALE, HORIZON, stride, True)
    return kind(windows, INVERSE.controller, jnp.array(fastest), 2)


@pytest.fixture(scope="module")
def plan(network):
    model = planner(network)
    return eqx.filter_jit(
        lambda observation, goal, row, seed: model.plan(
            observation, goal, row, SAMPLER, key=jax.random.key(seed)
        )
    )


@pytest.mark.parametrize("goal_row", [HORIZON - 1, 7])
def test_a_plan_starts_where_the_system_is_and_is_at_the_goal_when_it_should(plan, goal_row):
    """Also of a network that has learned nothing, in raw units, each row inside the data's range."""
    observation, goal = jnp.array([0.4, -0.3, 1.0, 2.0]), jnp.array([-1.5, 2.5])
    observations, actions = plan(observation, goal, jnp.int32(goal_row), 0)
    np.testing.assert_array_equal(observations[0], observation)
    np.testing.assert_allclose(observations[goal_row, :2], goal, atol=1e-5)
    assert np.all((observations >= OBSERVATIONS.low - 1e-5) & (observations <= OBSERVATIONS.high + 1e-5))
    assert np.all(np.abs(actions) <= 1 + 1e-6)
    again, _ = plan(observation, goal, jnp.int32(goal_row), 1)
    assert not np.allclose(again[1:goal_row], observations[1:goal_row]), "another key, another plan"


class Straight(GoalPlanner):
    """Plans straight to the goal at a constant pace; its actions are the goal's row and the row, in hundredths."""

    def plan(self, observation, goal, goal_row, sampler, *, key):
        rows = jnp.arange(HORIZON)
        share = jnp.clip(rows / goal_row, 0, 1)[:, None]
        positions = observation[:2] + share * (goal - observation[:2])
        planned = jnp.concatenate([positions, jnp.zeros_like(positions)], axis=1)
        return planned, jnp.stack([jnp.broadcast_to(goal_row, rows.shape), rows], axis=1) / 100


@pytest.fixture(scope="module")
def make_policy(network):
    def make(controller="actions", arrivals=1, replan_every=0, shortest=4, fastest=jnp.inf, stride=1):
        model = planner(network, fastest, stride, Straight)
        goal = jnp.array([1.0, 2.0])
        return PlannerPolicy(
            model,
            goal,
            -jnp.ones(2),
            jnp.ones(2),
            SAMPLER,
            controller,
            arrivals,
            replan_every,
            shortest,
        )

    return make


@eqx.filter_jit
def act(policy, observations, memory):
    return policy.act(observations, memory, key=jax.random.key(0))


def follow(policy, steps):
    """Actions and plans over some steps, of two systems that are somewhere else at every step."""
    memory, actions, memories = policy.start(2), [], []
    for step in range(steps):
        observations = jnp.array([[0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]) + 0.01 * step
        action, memory = act(policy, observations, memory)
        actions.append(np.asarray(action))
        memories.append(memory)
    return np.stack(actions), memories


def test_without_replanning_one_plan_is_followed_row_by_row_to_its_end(make_policy):
    actions, memories = follow(make_policy(), HORIZON + 3)
    rows = np.minimum(np.arange(HORIZON + 3), HORIZON - 1)
    np.testing.assert_allclose(actions[:, 0, 0], (HORIZON - 1) / 100, rtol=1e-6)
    np.testing.assert_allclose(actions[:, 1, 1], rows / 100, rtol=1e-6)
    for memory in memories[1:]:
        np.testing.assert_array_equal(memory.observations, memories[0].observations)
    np.testing.assert_allclose(memories[0].observations[:, 0, :2], [[0, 0], [1, -1]])


def test_a_new_plan_is_drawn_every_so_many_steps_from_where_the_system_is(make_policy):
    """It has the rest of the first plan's time to reach the goal, but never fewer rows than the shortest."""
    actions, memories = follow(make_policy(replan_every=5, shortest=4), 2 * HORIZON)
    steps = np.arange(2 * HORIZON)
    last_plan = steps // 5 * 5
    goal_rows = np.maximum(HORIZON - 1 - last_plan, 4)
    np.testing.assert_allclose(actions[:, 0, 0], goal_rows / 100, rtol=1e-6)
    np.testing.assert_allclose(actions[:, 0, 1], (steps - last_plan) / 100, rtol=1e-6)
    starts = np.stack([memory.observations[:, 0, 0] for memory in memories])
    np.testing.assert_allclose(starts[:, 0], 0.01 * last_plan, atol=1e-6)


def test_a_plan_arrives_as_early_as_the_pace_of_the_data_allows(make_policy):
    """From (0, 0) and (1, -1) the goal at (1, 2) is sqrt(5) and 3 away. Straight plans that arrive by row g move 8/g of
    that in 8 rows (all of it before row 8, where no pace is measured): rows 8, 12 and 15 are tried."""
    fastest = np.sqrt(5) * 8 / 11.5 / PACE_MARGIN
    _, memories = follow(make_policy(arrivals=3, shortest=8, fastest=fastest), 1)
    assert memories[0].goal_row.tolist() == [12, 15]
    _, memories = follow(make_policy(arrivals=3, shortest=8, fastest=3 / PACE_MARGIN + 0.01), 1)
    assert memories[0].goal_row.tolist() == [8, 8], "both within reach at once"
    _, memories = follow(make_policy(arrivals=3, shortest=8, fastest=0.01), 1)
    assert memories[0].goal_row.tolist() == [HORIZON - 1] * 2, (
        "out of reach: the last row is the best there is"
    )


def test_a_plan_that_jumps_to_its_goal_does_not_reach_it(network):
    model = planner(network, 1.0)
    walk = jnp.zeros((HORIZON, SIZE)).at[:, 0].set(jnp.arange(HORIZON) / 8)
    assert model.reaches(walk, jnp.int32(12))
    jump = walk.at[12, 0].add(0.5)
    assert not model.reaches(jump, jnp.int32(12))
    assert model.reaches(jump, jnp.int32(11)), "what comes after the goal's row is not asked about"


def test_the_fastest_pace_is_that_of_the_data_inside_their_windows():
    """Two episodes of one window each: the jump from one to the other is nobody's pace."""
    positions = np.concatenate([np.arange(16) ** 2 / 100, 50 + np.arange(16) / 10]).astype(np.float32)
    observations = jnp.zeros((32, SIZE)).at[:, 1].set(positions)
    windows = Windows(
        observations, jnp.zeros((32, ACTION)), jnp.zeros(32), jnp.array([0, 16], jnp.int32),
        jnp.array([16, 12], jnp.int32), 16,
    )  # fmt: skip
    np.testing.assert_allclose(greatest_displacement(windows, 2, 8), (15**2 - 7**2) / 100, rtol=1e-5)


def test_a_controller_that_holds_the_goal_keeps_its_plan(make_policy):
    """Renewed every 5 steps, the third plan is at the goal in its row 5, which is when the fourth would be due."""
    _, memories = follow(make_policy("waypoint", arrivals=1, replan_every=5), 2 * HORIZON)
    assert [int(memory.goal_row[0]) for memory in memories] == [15] * 5 + [10] * 5 + [5] * (2 * HORIZON - 10)
    rows = [*range(1, 6), *range(1, 6), *range(1, HORIZON), *[HORIZON - 1] * HORIZON]
    assert [int(memory.row[0]) for memory in memories] == rows[: 2 * HORIZON]


def test_a_plan_with_a_row_every_few_steps_is_followed_step_by_step(make_policy):
    """Straight to (1, 2) over 15 rows of 3 steps: after t steps the plan is t/45 of the way, and at rest from 45 on."""
    policy = make_policy("waypoint", stride=3)
    _, memories = follow(policy, 1)
    planned = np.asarray(memories[0].observations)
    assert planned.shape == (2, 46, SIZE)
    share = np.arange(46)[:, None] / 45
    np.testing.assert_allclose(planned[0, :, :2], share * [1, 2], atol=1e-6)
    np.testing.assert_allclose(planned[1, :, :2], [1, -1] + share * [0, 3], atol=1e-6)
    assert memories[0].goal_row.tolist() == [45, 45]


def test_a_planner_with_a_stride_learns_from_every_so_many_th_row(network, monkeypatch):
    seen = {}

    def listen(process, network, examples, contexts, present, *, key):
        seen.update(clean=examples.clean, valid=examples.valid)
        return jnp.zeros(examples.clean.shape)

    monkeypatch.setattr(window_diffusion, "denoising_errors", listen)
    rows = jnp.arange(46.0)[:, None] / 100 * jnp.ones(SIZE)
    windows = Windows(
        rows, jnp.zeros((46, ACTION)), jnp.zeros(46), jnp.array([0, 0], jnp.int32),
        jnp.array([46, 40], jnp.int32), 46,
    )  # fmt: skip
    training = WindowTraining(horizon=HORIZON, goal_size=2, stride=3, shortest=4, width=8, multipliers=(1,))
    scale = eqx.tree_at(lambda s: s.observation, SCALE, MinMaxNormalizer(jnp.zeros(SIZE), jnp.ones(SIZE)))
    state = PlannerState(WindowState(training.optimizer.init(network), scale), INVERSE, jnp.array(1.0))
    update_planner(training, INVERSE_TRAINING, state, windows, step=jnp.int32(0), key=jax.random.key(0))
    assert seen["clean"].shape[1:] == (HORIZON, CHANNELS)
    positions = (np.asarray(seen["clean"])[..., 0] + 1) / 2 * 100
    whole = np.asarray(seen["valid"]).all(axis=1)
    assert whole.any()
    assert not whole.all()
    np.testing.assert_allclose(positions[whole], np.tile(np.arange(0, 46, 3), (whole.sum(), 1)), atol=1e-4)
    assert (np.asarray(seen["valid"])[~whole].sum(axis=1) == 14).all(), "rows 0, 3, … 39 of 40"


def test_waypoints_are_followed_by_the_law_within_the_bounds(make_policy):
    """The first target of system 0 is a fifteenth of the way to (1, 2): 10/15 and, bounded, 1."""
    actions, _ = follow(make_policy("waypoint"), 1)
    np.testing.assert_allclose(actions[0, 0], [10 / 15, 1.0], rtol=1e-5)
    np.testing.assert_allclose(actions[0, 1], [0.0, 1.0], atol=1e-5)


TRAINING = WindowTraining(horizon=HORIZON, goal_size=2, shortest=HORIZON - 1, width=8, multipliers=(1,))


@pytest.fixture(scope="module")
def batch():
    """Two windows, the second padded after five rows."""
    rng = np.random.default_rng(0)
    mask = np.ones((2, HORIZON), bool)
    mask[1, 5:] = False
    return WindowBatch(
        observations=jnp.asarray(rng.uniform(-1.5, 1.5, (2, HORIZON, SIZE)), jnp.float32),
        actions=jnp.asarray(rng.uniform(-1, 1, (2, HORIZON, ACTION)), jnp.float32),
        rewards=jnp.zeros((2, HORIZON)),
        mask=jnp.asarray(mask),
    )


@pytest.fixture(scope="module")
def loss(network):
    """The loss as a function of the batch, of a network that says the same at every row."""
    last = network.unet.last.weight
    constant = eqx.tree_at(lambda n: n.unet.last.weight, network, jnp.zeros_like(last))
    return eqx.filter_jit(lambda batch: TRAINING.loss(constant, SCALE, batch, key=jax.random.key(2)))


@pytest.mark.parametrize(
    ("field", "rows", "counts"),
    [
        ("observations", (1, slice(5, None)), False),
        ("actions", (1, slice(5, None)), False),
        ("observations", (slice(None), 0), False),
        ("observations", (0, HORIZON - 1, slice(0, 2)), False),
        ("observations", (1, 4, slice(0, 2)), False),
        ("observations", (1, 4, slice(2, 4)), True),
        ("observations", (0, 4, slice(0, 2)), True),
        ("actions", (slice(None), 0), True),
        ("actions", (0, HORIZON - 1), True),
    ],
    ids=str,
)
def test_only_what_is_neither_padding_nor_an_endpoint_enters_the_loss(loss, batch, field, rows, counts):
    """The goal of the padded window is its last real row, 4."""
    spoiled = eqx.tree_at(lambda b: getattr(b, field), batch, getattr(batch, field).at[rows].set(0.77))
    assert (float(loss(spoiled)) != float(loss(batch))) == counts


def test_half_the_windows_have_the_goal_last_and_half_anywhere_from_the_shortest_on(network, monkeypatch):
    """What the loss is handed as known: the goal's row, and that the goal is where the window is at that row."""
    handed = {}

    def listen(process, network, examples, contexts, present, *, key):
        handed.update(clean=np.asarray(examples.clean), conditions=np.asarray(examples.conditions))
        return jnp.zeros(examples.clean.shape)

    monkeypatch.setattr(window_diffusion, "denoising_errors", listen)
    windows, lengths = 4000, np.where(np.arange(4000) % 2, HORIZON, 10)
    batch = WindowBatch(
        jax.random.uniform(jax.random.key(1), (windows, HORIZON, SIZE), minval=-1.5, maxval=1.5),
        jnp.zeros((windows, HORIZON, ACTION)), jnp.zeros((windows, HORIZON)),
        jnp.arange(HORIZON) < jnp.asarray(lengths)[:, None],
    )  # fmt: skip
    training = WindowTraining(horizon=HORIZON, goal_size=2, shortest=4, width=8, multipliers=(1,))
    training.loss(network, SCALE, batch, key=jax.random.key(3))
    start, goal, mark = np.split(handed["conditions"][:, :, : SIZE + 3], [SIZE, SIZE + 2], axis=-1)
    assert (mark.sum(axis=1) == 1).all()
    rows = mark[..., 0].argmax(axis=1)
    np.testing.assert_array_equal(goal[:, 0], handed["clean"][np.arange(windows), rows, :2])
    np.testing.assert_array_equal(start[:, 3], handed["clean"][:, 0, :SIZE])
    for length in (HORIZON, 10):
        found = rows[lengths == length]
        shares = np.bincount(found, minlength=HORIZON) / len(found)
        expected = np.where(
            (np.arange(HORIZON) >= 4) & (np.arange(HORIZON) < length), 0.5 / (length - 4), 0.0
        )
        expected[length - 1] += 0.5
        assert np.all(np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(found)))


def test_training_starts_from_normalisers_of_the_data_and_finishes_with_the_average():
    rng = np.random.default_rng(2)
    observations = rng.uniform(-3, 2, (64, SIZE)).astype(np.float32)
    windows = Windows(
        jnp.asarray(observations), jnp.asarray(rng.uniform(-1, 0.5, (64, ACTION)), jnp.float32), jnp.zeros(64),
        jnp.arange(4, dtype=jnp.int32) * 16, jnp.full(4, 16, jnp.int32), HORIZON,
    )  # fmt: skip
    make = eqx.filter_jit(
        lambda windows, key: init_planner(TRAINING, INVERSE_TRAINING, windows, key=key),
        compiler_options=COMPILE_QUICKLY,
    )
    state = make(windows, jax.random.key(0))
    np.testing.assert_array_equal(state.windows.scale.observation.low, observations.min(0))
    np.testing.assert_array_equal(state.windows.scale.observation.high, observations.max(0))
    bias = lambda tree: tree.windows.diffusion.average.unet.last.bias
    model = finish_planner(TRAINING, eqx.tree_at(bias, state, jnp.full(CHANNELS, 3.0)))
    assert (np.asarray(model.windows.network.unet.last.bias) == 3.0).all()
    assert (model.windows.horizon, model.goal_size) == (HORIZON, 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizon": 1}, "horizon must be at least 2, got 1"),
        ({"width": 12}, "width must be a multiple of 8"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        WindowTraining(**settings)
