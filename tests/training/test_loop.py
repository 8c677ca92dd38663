"""Seeds do not see one another, chunks compile once, and things happen at the steps they should."""

import equinox as eqx
import jax
import numpy as np
import pytest
from counting_stage import begin_epoch, counting, counting_data, update
from toy_stages import toy_data, toy_stages

from langevin.errors import DivergedError, LangevinError, UsageError
from langevin.training.loop import train
from langevin.training.metrics import MetricsWriter, read_metrics
from langevin.training.stage import Stage


class Kept(MetricsWriter):
    """Keeps records in memory."""

    def __init__(self):
        self.records = []

    def write(self, record):
        self.records.append(record)

    def flush(self):
        pass

    def close(self):
        pass


def of_seed(states, place):
    return jax.tree.map(lambda leaf: leaf[place] if eqx.is_array(leaf) else leaf, states)


def test_a_seed_is_bit_equal_whatever_runs_beside_it_and_alone_to_tolerance():
    beside = train(toy_stages(20), toy_data(), [0, 1, 2], chunk_steps=10).states
    others = train(toy_stages(20), toy_data(), [7, 2, 5], chunk_steps=10).states
    assert eqx.tree_equal(of_seed(beside, 2), of_seed(others, 1))
    assert not eqx.tree_equal(of_seed(beside, 0), of_seed(beside, 1))
    alone = train(toy_stages(20), toy_data(), [2], chunk_steps=10).states
    assert eqx.tree_equal(of_seed(beside, 2), of_seed(alone, 0), rtol=1e-4, atol=1e-6)


def test_chunk_lengths_and_saving_do_not_change_the_numbers(tmp_path):
    one = train([counting()], counting_data(), [0, 1], chunk_steps=60).states
    many = train(
        [counting()], counting_data(), [0, 1], tmp_path, chunk_steps=7, checkpoint_seconds=0.0
    ).states
    assert eqx.tree_equal(one, many)


def test_update_is_traced_as_often_for_six_chunks_as_for_one():
    def traces(steps):
        seen = []

        def counted(*arguments, **named):
            seen.append(None)
            return update(*arguments, **named)

        stage = Stage("count", steps, counting().init, counted, epoch_steps=10, begin_epoch=begin_epoch)
        train([stage], counting_data(), [0, 1], chunk_steps=10)
        return len(seen)

    assert traces(60) == traces(10)


def test_a_branch_on_the_step_stays_a_branch_under_seeds():
    calls = []

    def branching(state, data, results, *, step, key):
        jax.lax.cond(step % 5 == 0, lambda: jax.debug.callback(lambda: calls.append(None)), lambda: None)
        return state, {}

    train([Stage("branch", 20, counting().init, branching)], counting_data(), [0, 1, 2], chunk_steps=20)
    jax.effects_barrier()
    assert len(calls) in (4, 12)  # 4 of the 20 steps, once or once a seed; a select would call at every step


def test_the_data_is_an_argument_of_the_compiled_chunk_not_a_constant_in_it():
    from langevin.training.programs import StagePrograms

    data = counting_data() | {"rows": np.zeros((1000, 100), np.float32)}
    data = jax.tree.map(jax.numpy.asarray, data)
    programs = StagePrograms(counting(), 0, data, {}, [0, 1])
    shared = (*programs._shared, jax.numpy.int32(0))
    jaxpr, *_ = eqx.filter_make_jaxpr(programs._advance_seeds)(shared, programs.init(), 10)
    assert sum(np.size(constant) for constant in jaxpr.consts) < 100
    assert (1000, 100) in [variable.aval.shape for variable in jaxpr.jaxpr.invars]


def test_metrics_are_means_over_the_chunk_and_noise_differs_by_step_and_seed():
    kept = Kept()
    train([counting(steps=30)], counting_data(), [4, 9], chunk_steps=10, writers=[kept])
    where = [(record["step"], record["seed"]) for record in kept.records]
    assert where == [(10, 4), (10, 9), (20, 4), (20, 9), (30, 4), (30, 9)]
    assert [record["toy/count"] for record in kept.records[::2]] == [5.5, 15.5, 25.5]
    assert len({record["toy/noise"] for record in kept.records}) == 6


def test_a_diverged_seed_keeps_its_last_good_state_and_the_others_go_on(tmp_path):
    clean = train([counting()], counting_data(), [0, 1, 2], chunk_steps=10).states["count"]
    poisoned, said = counting_data(clean.draw[1]), []
    after = counting("after", steps=10)
    result = train(
        [counting(), after], poisoned, [0, 1, 2], tmp_path / "run", chunk_steps=10, report=said.append
    )
    assert result.states["count"].count.tolist() == [60, 20, 60]
    assert result.states["after"].count.tolist() == [10, 0, 10]
    assert eqx.tree_equal(of_seed(result.states["count"], 2), of_seed(clean, 2))
    assert result.stopped == {1: {"stage": "count", "step": 30, "reason": "toy/count is not finite"}}
    assert len(said) == 1
    assert "seed 1 stopped in stage count by step 30: toy/count is not finite" in said[0]
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [r["step"] for r in records if r["seed"] == 1 and r["stage"] == "count"] == [10, 20, 30]
    assert [r["event"] for r in records if "event" in r] == ["stopped"]
    assert not [r for r in records if r["seed"] == 1 and r["stage"] == "after"]


def test_a_parameter_that_turns_infinite_stops_the_seed_though_its_loss_is_finite():
    def overflowing(state, data, results, *, step, key):
        state, _ = update(state, data, results, step=step, key=key)
        grown = state.count * jax.numpy.where(state.draw == data["poisoned"], 1e38, 1.0)
        return eqx.tree_at(lambda state: state.count, state, grown), {"toy/loss": 0.0}

    clean = train([counting(steps=0)], counting_data(), [0, 1]).states["count"]
    stage = Stage("count", 4, counting().init, overflowing)
    with pytest.warns(UserWarning, match=r"seed 0 stopped .* a parameter is not finite"):
        result = train([stage], counting_data(clean.draw[0]), [0, 1], chunk_steps=2)
    assert result.states["count"].count.tolist() == [0, 4]


def test_when_every_seed_diverged_the_state_is_saved_and_the_run_fails(tmp_path):
    def broken(state, data, results, *, step, key):
        return state, {"toy/loss": jax.numpy.where(step < 15, 1.0, jax.numpy.nan)}

    stages = [Stage("count", 40, counting().init, broken)]
    for resume in (False, True):
        with pytest.raises(DivergedError, match=r"every seed diverged .*toy/loss is not finite"):
            train(
                stages,
                counting_data(),
                [0, 1],
                tmp_path,
                chunk_steps=10,
                resume=resume,
                report=lambda text: None,
            )
    assert [path.name for path in tmp_path.glob("checkpoints/*")] == ["00-count-000000020"]


def test_a_stage_ends_when_every_seed_is_done_and_each_is_frozen_where_it_was():
    fast = train([counting(steps=0)], counting_data(), [0, 1]).states["count"].draw

    def done(state):
        return state.count >= jax.numpy.where(state.draw == fast[0], 10, 25)

    kept = Kept()
    result = train([counting(done=done)], counting_data(), [0, 1], chunk_steps=10, writers=[kept])
    assert result.states["count"].count.tolist() == [10, 30]
    assert [record["step"] for record in kept.records if record["seed"] == 0] == [10]
    assert [record["step"] for record in kept.records if record["seed"] == 1] == [10, 20, 30]
    alone = train([counting(done=done)], counting_data(), [0], chunk_steps=10)
    assert eqx.tree_equal(of_seed(alone.states, 0), of_seed(result.states, 0))


def test_epochs_begin_at_their_steps_whatever_the_chunks():
    for chunk_steps in (7, 100):
        kept = Kept()
        stage = counting(steps=50, epoch_steps=20, begin_epoch=begin_epoch)
        result = train([stage], counting_data(), [0], chunk_steps=chunk_steps, writers=[kept])
        begun = [(r["step"], r["toy/epoch_step"]) for r in kept.records if "toy/epoch_step" in r]
        assert begun == [(0, 0), (20, 20), (40, 40)]
        assert result.states["count"].epochs.tolist() == [3]
        assert result.states["count"].count.tolist() == [50]


def test_evaluations_fall_on_their_steps_and_at_the_end():
    calls = []

    def evaluate(policies, stage, step):
        calls.append((stage, step, policies.tolist()))
        return [{"evaluation/return": 1.0}, {"evaluation/return": 2.0}]

    stages = [
        counting("model", steps=20),
        counting("policy", steps=50, policy=lambda state, results: state.count + results["model"].count),
    ]
    kept = Kept()
    settings = {"chunk_steps": 15, "evaluate": evaluate, "writers": [kept]}
    train(stages, counting_data(), [0, 1], evaluate_every=20, **settings)
    assert calls == [("policy", 20, [40, 40]), ("policy", 40, [60, 60]), ("policy", 50, [70, 70])]
    scores = [
        (r["step"], r["seed"], r["evaluation/return"]) for r in kept.records if "evaluation/return" in r
    ]
    assert scores[:2] == [(20, 0, 1.0), (20, 1, 2.0)]
    calls.clear()
    train(stages, counting_data(), [0, 1], **settings)
    assert [call[:2] for call in calls] == [("policy", 50)]


def test_what_finish_returns_is_what_later_stages_and_the_caller_see():
    def halved(state, data, results):
        return {"half": state.count / 2}

    def from_half(data, results, *, key):
        return results["model"]["half"]

    def keep(state, data, results, *, step, key):
        return state + 1, {}

    stages = [counting("model", steps=10, finish=halved), Stage("policy", 5, from_half, keep)]
    states = train(stages, counting_data(), [0, 1]).states
    assert states["model"]["half"].tolist() == [5, 5]
    assert states["policy"].tolist() == [10, 10]


def test_a_state_that_changes_its_form_is_named():
    def growing(state, data, results, *, step, key):
        return eqx.tree_at(lambda state: state.count, state, jax.numpy.zeros(3)), {}

    with pytest.raises(LangevinError, match=r"\.count was float32\[\], became float32\[3\]"):
        train([Stage("count", 5, counting().init, growing)], counting_data(), [0])


@pytest.mark.parametrize(
    ("seeds", "words"),
    [([], "at least one seed"), ([1, 1], "must differ"), ([-1], "must lie in"), ([2**32], "lie in")],
)
def test_bad_seeds_are_usage_errors(seeds, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        train([counting()], counting_data(), seeds, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_stages_are_usage_errors():
    with pytest.raises(UsageError, match="differ from one another"):
        train([counting(), counting()], counting_data(), [0])
    with pytest.raises(UsageError, match="lower-case identifier"):
        counting("Has-Dash")
    with pytest.raises(UsageError, match="epoch_steps must be 1 or more"):
        counting(begin_epoch=begin_epoch)
    with pytest.raises(UsageError, match="chunk_steps"):
        train([counting()], counting_data(), [0], chunk_steps=0)
