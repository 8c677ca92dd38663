"""Beam search against every sequence of a model that is a table."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import UsageError
from langevin.planners.beam_search import BeamSearch, SequenceModel, draw_likely

STATES, ACTIONS, HORIZON, DISCOUNT = 3, 4, 4, 0.9
RNG = np.random.default_rng(0)
NEXT = RNG.integers(0, STATES, (STATES, ACTIONS))
REWARDS = RNG.normal(size=(STATES, ACTIONS, 4)).astype(np.float32)
CENTERS = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [-1, 0.5, 2, 4], [-1, 0.5, 2, 4]], np.float32)
"""Numbers of the bins of a state, an action, a reward and a return-to-go; a state of 3 never is."""


class Table(SequenceModel):
    """Knows the last state and action; rewards and returns-to-go are spread over their bins."""

    returns: jax.Array

    def logits(self, reading, kind):
        state, action = reading["state"], reading["action"]
        after = jnp.where(jnp.arange(4) == jnp.asarray(NEXT)[state, action], 0.0, -50.0)
        free = jnp.zeros(ACTIONS)
        return jnp.stack([after, free, jnp.asarray(REWARDS)[state, action], self.returns[state, action]])[
            kind
        ]

    def extend(self, reading, token, kind, slot):
        return {
            "state": jnp.where(kind == 0, token, reading["state"]),
            "action": jnp.where(kind == 1, token, reading["action"]),
            "slots": reading["slots"].at[slot].add(1),
        }


def means(logits):
    """Expected reward of each state and action."""
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return shares @ CENTERS[2]


def empty():
    return {"state": jnp.int32(0), "action": jnp.int32(0), "slots": jnp.zeros(3 + 4 * HORIZON, jnp.int32)}


def value_of(actions, returns):
    """Discounted rewards on the way and the return-to-go of the last step."""
    state, total = 1, 0.0
    for step, action in enumerate(actions):
        last = step == HORIZON - 1
        table = returns if last else means(REWARDS)
        total += DISCOUNT**step * table[state, action]
        state = NEXT[state, action]
    return total


def search(model, **settings):
    plan = jax.jit(
        lambda key: BeamSearch(horizon=HORIZON, discount=DISCOUNT, top_actions=ACTIONS, **settings).plan(
            model, empty(), 3, jnp.array([1]), jnp.asarray(CENTERS), key=key
        )
    )
    tokens, value = plan(jax.random.key(0))
    return np.asarray(tokens), float(value)


def test_a_search_wide_enough_finds_the_best_of_all_sequences():
    logits = np.random.default_rng(1).normal(size=REWARDS.shape).astype(np.float32)
    tokens, value = search(Table(jnp.asarray(logits)), width=3000, expand=1)
    ranked = sorted(
        itertools.product(range(ACTIONS), repeat=HORIZON), key=lambda a: value_of(a, means(logits))
    )
    np.testing.assert_array_equal(tokens[:, 1], ranked[-1])
    assert value == pytest.approx(value_of(ranked[-1], means(logits)), rel=1e-5)
    assert value_of(ranked[-2], means(logits)) < value - 1e-3


def test_the_tokens_of_the_plan_are_those_of_one_way_through_the_table():
    """The first state is the one observed, and what is likeliest of rewards and states follows from the actions."""
    tokens, _ = search(Table(jnp.asarray(REWARDS)), width=50, expand=2)
    state = 1
    for row in tokens:
        assert row[0] == state
        assert row[2] == row[3] == REWARDS[state, row[1]].argmax()
        state = NEXT[state, row[1]]


def test_returns_to_go_lead_a_narrow_beam_past_a_bait():
    """With rewards alone the bait of the first step is taken; a value that knows what follows sees past it."""
    baited = means(REWARDS)[1].argmax()
    wise = (baited + 1) % ACTIONS
    seeing = np.full(REWARDS.shape, -50.0, np.float32)
    seeing[..., 1] = 0
    seeing[1, wise] = [-50, -50, -50, 0]  # 4 is still to be earned that way
    first_of = lambda logits: search(Table(jnp.asarray(logits)), width=1, expand=40)[0][0, 1]
    assert first_of(seeing) == wise
    # A value that is the reward itself, wherever one is: nothing but the next reward counts.
    assert first_of(REWARDS) == baited


def test_every_token_is_read_once_and_in_its_own_slot():
    class Counting(Table):
        """Gives a return-to-go that counts the slots it has filled."""

        def logits(self, reading, kind):
            once = (reading["slots"][3:] <= 1).all() & (reading["slots"][:3] == 0).all()
            filled = reading["slots"].sum() % 4 == 3
            right = jnp.where(once & filled, jnp.array([-50.0, -50, -50, 0]), jnp.array([0.0, -50, -50, -50]))
            return jnp.where(kind == 3, right, Table.logits(self, reading, kind))

    tokens, _ = search(Counting(jnp.asarray(REWARDS)), width=2, expand=2)
    np.testing.assert_array_equal(tokens[:, 3], 3)


def test_only_the_likeliest_are_drawn_and_by_their_probabilities():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.4, 0.05, 0.2, 0.25])), (20_000, 5))
    tokens = np.asarray(draw_likely(logits, jnp.int32(3), 4, key=jax.random.key(0)))
    shares = np.bincount(tokens, minlength=5) / len(tokens)
    np.testing.assert_allclose(shares, np.array([0, 0.4, 0, 0.2, 0.25]) / 0.85, atol=0.015)
    np.testing.assert_array_equal(draw_likely(logits, jnp.int32(1), 4, key=jax.random.key(1)), 1)


@pytest.mark.parametrize(
    "settings", [{"horizon": 0}, {"width": 0}, {"expand": 0}, {"top_actions": 0}, {"top_observations": 0}]
)
def test_bad_settings_are_refused_by_name(settings):
    with pytest.raises(UsageError, match=f"{next(iter(settings))} must be at least 1"):
        BeamSearch(**settings)


def test_a_discount_above_one_is_refused():
    with pytest.raises(UsageError, match="discount must lie between 0 and 1"):
        BeamSearch(discount=1.01)
