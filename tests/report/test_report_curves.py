"""Learning curves show the mean and the extremes over seeds, and nothing else."""

import numpy as np
import pytest
from fake_runs import fake_run

from langevin.report.curves import curve_of, imagined_and_true_reward, learning_curves
from langevin.report.runs import Run, read_run


def record(step: int, seed: int, value: float, stage: str = "policy") -> dict:
    return {
        "stage": stage,
        "step": step,
        "seed": seed,
        "seconds": step / 10,
        "evaluation/normalized_score": value,
    }


def run_of(metrics: list[dict], label: str = "TD3+BC") -> Run:
    from pathlib import Path

    scores = {"mean": 1.0, "iqm": 1.0, "ci95": [None, None], "per_seed": [1.0]}
    summary = {
        "algorithm": "td3bc",
        "label": label,
        "dataset": "d",
        "normalized_score": scores,
        "return": scores,
    }
    return Run(folder=Path("run"), summary=summary, metrics=metrics)


def test_a_curve_is_mean_and_range_over_seeds_in_order_of_steps():
    metrics = [record(20, 0, 30.0), record(10, 0, 10.0), record(10, 1, 20.0), record(20, 1, 60.0)]
    curve = curve_of(metrics, "evaluation/normalized_score")
    np.testing.assert_array_equal(curve.steps, [10, 20])
    np.testing.assert_array_equal(curve.seconds, [1, 2])
    np.testing.assert_array_equal(curve.mean, [15, 45])
    np.testing.assert_array_equal(curve.low, [10, 30])
    np.testing.assert_array_equal(curve.high, [20, 60])
    assert curve.seeds == 2


def test_a_diverged_seed_is_left_out_and_a_gap_stays_a_gap():
    metrics = [record(10, 0, 10.0), record(10, 1, float("nan")), record(20, 0, float("inf"))]
    curve = curve_of(metrics, "evaluation/normalized_score")
    assert curve.mean[0] == 10.0
    assert np.isnan(curve.mean[1])


def test_stages_are_not_mixed():
    metrics = [record(10, 0, 1.0, "model"), record(10, 0, 5.0, "policy")]
    assert curve_of(metrics, "evaluation/normalized_score").mean == [5.0]
    assert curve_of(metrics, "evaluation/normalized_score", "model").mean == [1.0]
    assert curve_of(metrics, "evaluation/normalized_score", "other") is None
    assert curve_of(metrics, "critic/loss") is None


def test_the_figure_draws_the_logged_scores_in_steps_and_in_minutes():
    run = run_of([record(600, 0, 10.0), record(1200, 0, 50.0)])
    for against, x in (("steps", [600, 1200]), ("seconds", [1, 2])):
        ax = learning_curves([run], against=against).axes[0]
        line = next(line for line in ax.lines if line.get_label() == "TD3+BC")
        np.testing.assert_allclose(line.get_xdata(), x)
        np.testing.assert_allclose(line.get_ydata(), [10, 50])


def test_a_long_curve_is_thinned_but_keeps_its_last_point():
    run = run_of([record(step, 0, float(step)) for step in range(1, 3002)])
    line = learning_curves([run]).axes[0].lines[0]
    assert len(line.get_xdata()) <= 400
    assert line.get_xdata()[-1] == 3001


def test_a_run_without_evaluations_has_no_figure(tmp_path):
    assert learning_curves([run_of([])]) is None
    assert imagined_and_true_reward(read_run(fake_run(tmp_path / "run", "td3bc", points=2))) is None


def test_a_label_with_dollars_is_drawn_as_it_is():
    figure = learning_curves([run_of([record(1, 0, 1.0)], label="costs $5 and $6")])
    figure.canvas.draw()
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "costs $5 and $6"


def test_imagined_reward_stands_against_true_reward(tmp_path):
    run = read_run(fake_run(tmp_path / "run", "dydiff", points=5))
    lines = {line.get_label(): line for line in imagined_and_true_reward(run).axes[0].lines}
    true = np.mean(
        [r["evaluation/reward_per_step"] for r in run.metrics if "evaluation/reward_per_step" in r][-3:]
    )
    assert lines["paid by the simulator"].get_ydata()[-1] == pytest.approx(true)
    assert lines["imagined by the model"].get_ydata()[-1] > true
