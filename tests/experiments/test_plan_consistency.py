"""Plans replayed step by step: what the simulator did has no error, what it would not do has as much as it is off."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.diffusion.chain_sampler import ChainSampling
from langevin.diffusion.constraints import unconstrained
from langevin.diffusion.ddpm import cosine_schedule
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.errors import UsageError
from langevin.evaluation.fidelity import simulate
from langevin.experiments.plan_consistency import (
    PlanConsistency,
    consistency_figure,
    line_label,
    stopped_after,
    transition_errors,
)


@pytest.mark.parametrize("name", ["hopper", "pointmaze/umaze"])
def test_what_the_simulator_did_is_consistent_and_what_is_off_is_so_by_as_much(name):
    task = get_task(name)
    starts = make_simulator(task, 3).reset(np.random.default_rng(0))
    actions = np.random.default_rng(1).uniform(-0.3, 0.3, (3, 6, task.action_size)).astype(np.float32)
    states = np.asarray(simulate(task, starts, actions))
    scale = np.full(states.shape[-1], 0.5)
    np.testing.assert_allclose(transition_errors(task, states, actions, scale), 0, atol=2e-3)
    states[:, -1] += 0.25
    errors = transition_errors(task, states, actions, scale)
    np.testing.assert_allclose(errors[:-1], 0, atol=2e-3)
    np.testing.assert_allclose(errors[-1], 0.5, rtol=0.02)


def test_a_sampler_that_stops_early_gives_the_clean_estimate_it_had_then():
    """A denoiser that answers with the step it is asked at: after the third of five calls, that call's step."""
    sampler = ChainSampling("ddim", 5).sampler(cosine_schedule(9))
    free = unconstrained(2, 2)
    answer = lambda noisy, step: jnp.full((2, 2), step, jnp.float32)
    found = stopped_after(sampler, 3).draw(answer, free, key=jax.random.key(0))
    np.testing.assert_allclose(found, float(sampler.levels.times[2]))


def test_the_picture_has_a_line_for_every_run_in_both_panels():
    rows = [
        {"label": label, "by_row": [0.5, 0.6, 0.8], "by_call": {"1": 2.0, "2": 0.7}}
        for label in ("one", "other")
    ]
    for ax in consistency_figure(rows).axes:
        assert {"one", "other"} <= {line.get_label() for line in ax.get_lines()}


def test_a_fine_tuned_planner_has_another_name_than_the_one_it_began_as():
    assert line_label("diffuser", "hopper/medium-v0", None) == "diffuser, hopper/medium-v0"
    tuned = line_label("diffuser", "hopper/medium-v0", "hopper/leg_size/target-v0")
    assert tuned == "diffuser, hopper/medium-v0 to hopper/leg_size/target-v0"


def test_what_was_measured_before_a_stop_is_kept(tmp_path, monkeypatch):
    def measured(self, folder):
        if folder.name == "second":
            raise KeyboardInterrupt
        return {"label": folder.name, "by_row": [0.5], "by_call": {"1": 2.0}}

    monkeypatch.setattr(PlanConsistency, "measured", measured)
    with pytest.raises(KeyboardInterrupt):
        PlanConsistency((Path("first"), Path("second")), out=tmp_path).run()
    assert [row["label"] for row in json.loads((tmp_path / "consistency.json").read_text())] == ["first"]
    assert (tmp_path / "consistency.png").read_bytes().startswith(b"\x89PNG")


def test_no_runs_are_refused():
    with pytest.raises(UsageError, match="name at least one finished run"):
        PlanConsistency(()).run()
    with pytest.raises(UsageError, match="plans must be at least 1, got 0"):
        PlanConsistency((), plans=0).run()
