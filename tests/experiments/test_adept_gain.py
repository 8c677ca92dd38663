"""ADEPT beside its references: what the variants share, and in what they differ."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest

from langevin.envs.tasks import get_task
from langevin.errors import DivergedError, UsageError
from langevin.experiments import adept_gain
from langevin.experiments.adept_gain import ABLATIONS, VARIANTS, ADEPTGain
from langevin.training.algorithms import adept
from langevin.training.algorithms.system import System

SYSTEM = System(get_task("halfcheetah"), 17, 6, np.full(6, -1, np.float32), np.full(6, 1, np.float32))
GAIN = ADEPTGain("halfcheetah/random-v0", set=("epoch_steps=1000", "learner.width=8"))


def stages(variant):
    return GAIN.stages(variant, GAIN.config(variant), SYSTEM)


def test_each_variant_learns_the_world_that_its_name_says():
    models = {name: [stage.name for stage in stages(name)] for name in VARIANTS}
    assert models == {
        "base": ["policy"],
        "oracle": ["policy"],
        "ensemble": ["dynamics", "reward", "policy"],
        "adept": ["world_model", "behaviour", "policy"],
        "unweighted": ["world_model", "policy"],
        "fixed": ["world_model", "policy"],
        "unclipped": ["world_model", "behaviour", "policy"],
    }
    assert not GAIN.config("unclipped").world_model.clip
    assert GAIN.config("unweighted").refit_steps == GAIN.config("adept").refit_steps > 0


def first_states(variant):
    """The shapes that the learner's stage begins with; the models before it are as they are first made."""
    data = adept.prepare(GAIN.config(variant), SYSTEM.blank_data(1_000))

    def begin(key):
        results = {}
        for stage in stages(variant):
            results[stage.name] = stage.init(data, results, key=key)
        return results["policy"]

    return eqx.filter_eval_shape(begin, jax.random.key(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_learner_is_the_same_everywhere_and_so_is_what_it_keeps_of_what_it_imagined(variant):
    [*_, stage], state, adepts = stages(variant), first_states(variant), first_states("adept")
    assert (stage.steps, stage.epoch_steps) == (50_000, 1_000)
    assert eqx.tree_equal(state.learner, adepts.learner)
    assert state.buffer.rows.observations.shape == ((1, 17) if variant == "base" else (250_000, 17))


def test_a_variant_of_another_budget_is_not_taken_for_this_one(tmp_path):
    gain = ADEPTGain("halfcheetah/random-v0", out=tmp_path)
    assert not gain.finished("adept")
    (tmp_path / "adept").mkdir()
    held = {"settings": gain.settings(), "normalized_score": {}}
    (tmp_path / "adept" / "summary.json").write_text(json.dumps(held))
    assert gain.finished("adept")
    held["settings"]["seeds"] = 2
    (tmp_path / "adept" / "summary.json").write_text(json.dumps(held))
    with pytest.raises(UsageError, match=r"adept was run with .*'seeds': 2.* choose another --out"):
        gain.finished("adept")


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"seeds": 1}, "seeds must be at least 2"), ({"variants": ("adpt",)}, "adpt is none of them.* adept")],
)
def test_what_makes_no_comparison_is_refused_before_any_data_are_read(bad, words):
    with pytest.raises(UsageError, match=words):
        ADEPTGain("nowhere-v0", **bad).run()


def test_logs_of_a_system_that_nobody_can_simulate_are_refused(monkeypatch):
    monkeypatch.setattr(adept_gain, "open_dataset", lambda name: SYSTEM.blank_data(1_000))
    with pytest.raises(UsageError, match="plant/logs-v0 is of a system without a simulator here"):
        ADEPTGain("plant/logs-v0").run()


def test_every_part_that_is_left_out_is_a_setting_of_adept():
    for name in ABLATIONS:
        assert GAIN.config(name) != GAIN.config("adept") or name == "adept"


def test_a_variant_that_diverged_is_said_and_does_not_cost_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(adept_gain, "open_dataset", lambda name: SYSTEM.blank_data(10))
    monkeypatch.setattr(adept_gain, "task_of", lambda data, name: SYSTEM.task)
    monkeypatch.setattr(adept_gain, "system_of", lambda task, data: SYSTEM)

    def fill(self, variant, trajectories, system):
        if variant == "unclipped":
            raise DivergedError("every seed diverged (seed 0: critic/loss)")
        (self.out / variant).mkdir()
        scores = {"normalized_score": {"iqm": 5.0, "ci95": [4.0, 6.0], "per_seed": [4.0, 6.0]}}
        (self.out / variant / "summary.json").write_text(json.dumps(scores))

    monkeypatch.setattr(ADEPTGain, "fill", fill)
    found = ADEPTGain("halfcheetah/random-v0", out=tmp_path, variants=("unclipped", "adept")).run()
    assert list(found) == ["adept"]
    assert json.loads((tmp_path / "gain.json").read_text())["diverged"] == {
        "unclipped": "every seed diverged (seed 0: critic/loss)"
    }
    assert "every seed diverged (seed 0: critic/loss)" in capsys.readouterr().out
