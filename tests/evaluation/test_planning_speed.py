"""Other samplers in a planner's place: every level takes them, guides stay, and what is beaten is said to be."""

import jax.numpy as jnp
import pytest

from langevin.diffusion.chain_sampler import ChainSampling
from langevin.errors import UsageError
from langevin.evaluation.planning_speed import deciding, first_windows, renews, resampled, trials
from langevin.planners.hierarchical import HierarchicalPlanner
from langevin.planners.receding import RecedingPlanner
from langevin.policies.base import Policy
from langevin.report.planning import near_the_full_chain, pareto, planning_figure
from tests.planners.test_hierarchical import (
    ACTION,
    BOUNDS,
    CHAIN,
    FILL,
    JUMP,
    ROWS,
    SAMPLER,
    SIZE,
    Ahead,
    level,
)


def up(mean, clean, variance, time):
    return mean + variance


def planner():
    high = level(Ahead(SIZE + JUMP * ACTION, 0), ROWS, JUMP, JUMP * ACTION)
    guided = ChainSampling("ancestral", 6).sampler(CHAIN.ddpm().schedule, up)
    return HierarchicalPlanner(RecedingPlanner(high, guided, *BOUNDS, replan_every=2), FILL)


def test_every_level_draws_by_the_new_sampler_and_what_guided_goes_on_guiding():
    changed = resampled(planner(), ChainSampling("ddim", 3, renewed_steps=2))
    for sampler in (changed.high.sampler, changed.fill.sampler):
        assert (sampler.method, sampler.levels.times.tolist(), sampler.renewed_steps) == (
            "ddim",
            [5, 2, 0],
            2,
        )
    assert changed.high.sampler.guide is up
    assert changed.fill.sampler.guide is SAMPLER.guide


def test_a_chain_shorter_than_asked_for_is_stepped_through_whole():
    assert resampled(planner(), ChainSampling("ddim", 40)).fill.sampler.levels.times.size == 6


def test_the_full_chain_comes_first_and_only_shorter_ways_after_it():
    ways = trials(6, (10, 6, 3, 1), renews=True)
    assert [(way.label, way.calls) for way in ways[:2]] == [("DDPM", 6), ("DDPM", 3)]
    assert {way.calls for way in ways[1:]} == {3, 1}
    warm = next(way for way in ways if way.label == "DDPM, warm")
    assert (warm.sampling.steps, warm.sampling.renewed_steps) == (6, 3)
    assert "DDPM, warm" not in {way.label for way in trials(6, (3,), renews=False)}
    assert not renews(planner()), "a hierarchy's low level fills in anew, by all its calls"


def test_a_program_decides_for_every_system_anew():
    program = deciding(planner(), jnp.zeros((3, SIZE)))
    program.run()
    assert program.units == 30


class Standing(Policy):
    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return observations, memory


def test_a_policy_without_a_chain_is_refused():
    with pytest.raises(
        UsageError, match="a Standing draws no plans by a DDPM chain; measure a run of diffuser"
    ):
        first_windows(Standing())
    assert first_windows(planner()).horizon == ROWS


def way(method, calls, speed, score):
    return {
        "method": method, "calls": calls, "single_decisions_per_second": speed, "batch_decisions_per_second": speed,
        "normalized_score": {"iqm": score, "mean": score, "ci95": [None, None], "per_seed": [score]},
    }  # fmt: skip


WAYS = [
    way("DDPM", 20, 5.0, 80.0),
    way("DDIM", 5, 20.0, 79.0),
    way("DDIM", 1, 90.0, 30.0),
    way("DDPM", 5, 19.0, 60.0),
]


def test_the_front_holds_what_nothing_beats_and_the_fastest_good_way_is_found():
    assert pareto(WAYS) == WAYS[:3]
    result = {"ways": WAYS, "algorithm": "diffuser", "task": "hopper", "batch": 64}
    assert near_the_full_chain(result) == WAYS[1]
    labels = {line.get_label() for line in planning_figure(result).axes[0].get_lines()}
    assert {"DDPM", "DDIM"} <= labels
    assert not planning_figure(result).axes[0].collections, "one seed has no interval to draw"
    wide = WAYS[1] | {"normalized_score": WAYS[1]["normalized_score"] | {"ci95": [61.0, 97.0]}}
    drawn = planning_figure(result | {"ways": [WAYS[0], wide]}).axes[0]
    (bar,) = drawn.collections[0].get_segments()
    assert bar.tolist() == [[20.0, 61.0], [20.0, 97.0]]
    unscored = [{key: value for key, value in row.items() if key != "normalized_score"} for row in WAYS]
    assert near_the_full_chain({"ways": unscored}) is None
    assert planning_figure(result | {"ways": unscored}).axes[0].get_xlabel() == "network calls of a plan"
