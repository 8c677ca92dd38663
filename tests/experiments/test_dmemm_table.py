"""The table of DMEMM's ablations: equal updates for all, each without one part, and sweeps of the weights."""

import json

import pytest

from langevin.errors import UsageError
from langevin.experiments import dmemm_table
from langevin.experiments.dmemm_table import PARTS, VARIANTS, DMEMMTable
from langevin.training.algorithms.registry import load_settings


def summary(value):
    return {"normalized_score": {"iqm": value, "ci95": [value - 1, value + 1]}}


def test_it_trains_every_variant_alike_and_nothing_twice(tmp_path, monkeypatch):
    asked = []

    def fake(request, progress):
        asked.append((request.dataset, request.seeds, dict(request.overrides)))
        request.out.mkdir(parents=True)
        (request.out / "summary.json").write_text(json.dumps(summary(10.0 + len(asked))))
        return summary(10.0 + len(asked))

    monkeypatch.setattr(dmemm_table, "run", fake)
    job = DMEMMTable(
        steps=5,
        seeds=2,
        transition_weights=(0.5, 1.0),
        reward_weights=(0.2,),
        out=tmp_path,
    )
    job.run()
    assert len(asked) == len(VARIANTS) - 1 + 3 == 10, "plans to a goal have no value to leave out"
    assert all(
        (data, seeds, more["steps"]) == ("pointmaze/umaze-v0", (0, 1), 5) for data, seeds, more in asked
    )
    assert asked[-1][2] == {"planner.reward_weight": 0.2, "steps": 5}
    job.run()
    assert len(asked) == 10, "what is finished is kept"
    lines = (tmp_path / "dmemm.md").read_text().splitlines()
    assert lines[0].startswith("| dataset | Diffuser | DMEMM | without return weights | without L_tr |")
    assert lines[2].startswith("| pointmaze/umaze-v0 | 11.0 [10.0, 12.0] | 12.0 [11.0, 13.0] |")
    assert set(json.loads((tmp_path / "dmemm.json").read_text())) == set(job.columns())


def test_diffuser_is_without_every_part_and_each_ablation_without_one():
    """The settings are real ones, and each changes something."""
    whole = load_settings("dmemm", None, "cpu", "pointmaze/umaze-v0", {})
    for settings in PARTS.values():
        assert load_settings("dmemm", None, "cpu", "pointmaze/umaze-v0", settings) != whole
    plain = load_settings("dmemm", None, "cpu", "pointmaze/umaze-v0", VARIANTS["Diffuser"])
    planner, guidance = plain.planner, plain.guidance
    assert not planner.return_weights
    assert (planner.judged, planner.transition_weight, planner.reward_weight) == (0, 0, 0)
    assert (guidance.transition_weight, guidance.reward_weight) == (0, 0)


@pytest.mark.parametrize(
    ("dataset", "variant"),
    [("hopper/medium-v0", "without transition guidance"), ("pointmaze/umaze-v0", "without value")],
)
def test_a_variant_that_takes_away_what_is_not_there_is_refused(tmp_path, dataset, variant):
    """At the cpu preset robots are not guided by Eq. 13, and plans to a goal are not chosen by value."""
    job = DMEMMTable(datasets=(dataset,), variants=("DMEMM", variant), out=tmp_path)
    with pytest.raises(UsageError, match=f"{variant} is DMEMM itself on {dataset}"):
        job.run()


def test_with_guidance_set_its_ablations_are_variants_again(tmp_path):
    job = DMEMMTable(
        ("hopper/medium-v0",), ("DMEMM", "without transition guidance"), set=("guidance.scale=0.001",)
    )
    job.require_differences()


def test_one_seed_makes_no_interval(tmp_path):
    with pytest.raises(UsageError, match="seeds must be at least 2"):
        DMEMMTable(seeds=1, out=tmp_path).run()


def test_a_variant_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--variants without L_tx is none of them.*without L_tr"):
        DMEMMTable(variants=("DMEMM", "without L_tx"), out=tmp_path).run()


def test_the_variants_asked_for_are_the_columns(tmp_path):
    job = DMEMMTable(variants=("DMEMM", "Diffuser"), transition_weights=(0.5,), out=tmp_path)
    assert list(job.columns()) == ["DMEMM", "Diffuser", "lambda_tr 0.5"]
