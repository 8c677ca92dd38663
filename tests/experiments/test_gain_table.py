"""The share of the oracle's gain that a world model gets, and the table of a folder."""

import json

import numpy as np
import pytest

from langevin.experiments.gain_table import oracle_shares, write_gains


def results(**per_seed):
    return {name: {"normalized_score": {"per_seed": scores}} for name, scores in per_seed.items()}


def test_a_share_is_the_gain_over_the_base_in_units_of_the_oracles():
    """(60 - 10) / (110 - 10); scores that do not vary have an interval of no width."""
    shares = oracle_shares(results(base=[10.0, 10], oracle=[110.0, 110], ensemble=[60.0, 60]))
    assert shares == {"ensemble": {"share": 0.5, "ci95": (0.5, 0.5)}}


def test_shares_are_of_means_also_when_variants_have_different_numbers_of_seeds():
    found = oracle_shares(results(base=[0.0, 20], oracle=[100.0, 120, 110], worse=[-40.0, -40, -40, -40]))
    assert found["worse"]["share"] == pytest.approx((-40 - 10) / (110 - 10))
    low, high = found["worse"]["ci95"]
    assert low < -0.5 < high


def test_the_interval_covers_the_spread_of_all_three():
    """Of 100 gains drawn with a known spread, about 95 intervals of 10 seeds hold the true share of 0.5."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        drawn = {
            name: rng.normal(mean, 5, 10).tolist()
            for name, mean in (("base", 0), ("oracle", 100), ("own", 50))
        }
        low, high = oracle_shares(results(**drawn))["own"]["ci95"]
        held += low <= 0.5 <= high
    assert held >= 33


def test_without_base_or_oracle_there_is_no_share():
    assert oracle_shares(results(base=[1.0, 2], ensemble=[3.0, 4])) == {}
    assert oracle_shares(results(oracle=[1.0, 2], ensemble=[3.0, 4])) == {}
    assert oracle_shares(results(base=[1.0, 2], oracle=[3.0, 4])) == {}


def test_the_table_is_of_all_that_is_finished_in_the_folder_references_first(tmp_path, capsys):
    for name, value in {"adept": 60.0, "oracle": 110.0, "base": 10.0}.items():
        (tmp_path / name).mkdir()
        score = {"iqm": value, "ci95": [value, value], "per_seed": [value, value]}
        (tmp_path / name / "summary.json").write_text(json.dumps({"normalized_score": score}))
    (tmp_path / "unfinished").mkdir()
    assert list(write_gains(tmp_path, {})) == ["base", "oracle", "adept"]
    assert (
        json.loads((tmp_path / "gain.json").read_text())["share_of_the_oracles_gain"]["adept"]["share"] == 0.5
    )
    assert "adept              iqm   60.0 [60.0, 60.0] seeds 60 60; share" in capsys.readouterr().out
