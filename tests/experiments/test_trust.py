"""The numbers of many policies become rows, a ranking and a picture."""

import pytest

from langevin.errors import UsageError
from langevin.experiments.trust import Trust, correlations, distinct_names, picture, policy_row, table


def found(predicted, true, seeds=(0, 1)):
    block = lambda values: {"per_seed": values}
    return {
        "seeds": list(seeds), "predicted": block(predicted), "true": block(true), "left_the_data": [0.25, 1.0],
        "noise_ci95": [[value - 2, value + 3] for value in predicted],
    }  # fmt: skip


def rows(fqe=None):
    values = fqe and {"estimate": {"per_seed": fqe}, "true": {"per_seed": [1.0, 5.0]}}
    judged = {"bad": found([50.0, 10.0], [1.0, 2.0]), "good": found([20.0, 60.0], [8.0, 9.0])}
    return [policy_row(name, block, values, index) for name, block in judged.items() for index in (0, 1)]


def test_the_ranking_is_of_all_policies_together():
    """True 1 2 8 9 against predicted 50 10 20 60: places 3 1 2 4, d^2 = 4 + 1 + 1 + 0."""
    assert correlations(rows())["world model"] == pytest.approx(1 - 6 * 6 / (4 * 15))


def test_policies_that_stay_in_the_data_are_ranked_apart():
    """Each seed 1 leaves the data for certain. Of the three seeds 0 the model has the order exactly wrong."""
    third = [policy_row("fair", found([30.0, 0.0], [5.0, 0.0]), None, 0)]
    ranked = correlations(rows() + third)
    assert ranked["world model, the 3 policies that stay in the data"] == pytest.approx(-1)


def test_two_policies_make_no_ranking():
    assert correlations(rows())["world model, the 2 policies that stay in the data"] is None


def test_runs_are_named_by_what_tells_their_folders_apart(tmp_path):
    runs = tmp_path / "bc" / "hopper", tmp_path / "iql" / "hopper"
    assert list(distinct_names(runs).values()) == ["bc/hopper", "iql/hopper"]
    assert list(distinct_names(runs[:1]).values()) == ["hopper"]


def test_fitted_q_is_ranked_by_the_discounted_return_that_it_estimates():
    ranked = correlations(rows(fqe=[7.0, 3.0]))
    assert ranked["fitted-Q evaluation"] == pytest.approx(-1)


def test_the_table_has_the_best_policy_first():
    lines = table(rows()).splitlines()
    assert lines[2] == "| good, seed 1 | 60.0 [58.0, 63.0] | 9.0 | 100% |"
    assert lines[-1] == "| bad, seed 0 | 50.0 [48.0, 53.0] | 1.0 | 25% |"


def test_one_noise_seed_has_no_interval():
    alone = [row | {"noise_ci95": [None, None]} for row in rows()]
    assert table(alone).splitlines()[2] == "| good, seed 1 | 60.0 | 9.0 | 100% |"
    assert picture(alone).axes[0].collections[0].get_segments() == []


def test_the_picture_has_a_mark_for_every_policy():
    marks = [line for line in picture(rows()).axes[0].lines if line.get_linestyle() == "None"]
    assert [line.get_label() for line in marks] == ["bad", "good"]
    assert sorted(value for line in marks for value in line.get_xdata()) == [1, 2, 8, 9]
    bars = [bar for drawn in picture(rows()).axes[0].collections for bar in drawn.get_segments()]
    assert sorted((float(bar[0][1]), float(bar[1][1])) for bar in bars) == [
        (8, 13),
        (18, 23),
        (48, 53),
        (58, 63),
    ]


def test_without_policies_there_is_nothing_to_judge(tmp_path):
    with pytest.raises(UsageError, match="name at least one run"):
        Trust(tmp_path, ()).run()
