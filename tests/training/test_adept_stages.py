"""ADEPT end to end on a small log: its stages, what is kept on disk, its resume and what it has to say of itself."""

from pathlib import Path

import equinox as eqx
import numpy as np
import pytest

from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import logged_task
from langevin.errors import UsageError
from langevin.policies.bear import BEAR
from langevin.policies.diffusion_ql import DiffusionQL
from langevin.policies.iql import IQL
from langevin.policies.sac import SAC
from langevin.policies.td3bc import TD3BC
from langevin.training.algorithms.adept import is_squashed, remarks
from langevin.training.algorithms.registry import ALGORITHMS, label_of, load_settings
from langevin.training.algorithms.system import System
from langevin.training.checkpoint import Checkpoints, read_progress
from langevin.training.loop import train
from langevin.training.metrics import FirstWarning, read_metrics
from langevin.training.results import load_results

ADEPT = ALGORITHMS["adept"]
ID = "hopper/medium-v0"
SMALL = {
    "steps": 30, "epoch_steps": 10, "world_model_steps": 20, "behaviour_steps": 10, "rollouts": 4, "rollout_steps": 3,
    "capacity": 40, "refit_steps": 2, "refit_batch_size": 8, "batch_size": 16, "learner.width": 8, "learner.depth": 1,
    "world_model.width": 8, "world_model.depth": 1, "world_model.diffusion_steps": 3, "world_model.batch_size": 8,
    "behaviour.width": 8, "behaviour.depth": 1,
}  # fmt: skip


def settings(base=None, preset="cpu", **more):
    return load_settings("adept", base, preset, ID, SMALL | more)


@pytest.fixture(scope="module")
def log():
    """Two episodes of s' = s + 0.1 a, paid the position; the first one ends by a fall."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, 1)).astype(np.float32)
    after = np.cumsum(0.1 * actions, axis=0).astype(np.float32)
    states = np.concatenate([np.zeros((1, 1), np.float32), after[:-1]])
    rows = np.arange(60)
    return Trajectories(
        observations=states, actions=actions, rewards=states[:, 0], next_observations=after,
        terminations=rows == 29, truncations=rows == 59, episode_ends=np.array([30, 60]),
        action_low=-np.ones(1, np.float32), action_high=np.ones(1, np.float32), metadata={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def system():
    low, high = -np.ones(1, np.float32), np.ones(1, np.float32)
    return System(logged_task(1, low, high), 1, 1, low, high)


def run(config, log, system, folder, **more):
    return train(
        ADEPT.stages(config, system), ADEPT.prepare(config, log), [0, 1], folder, chunk_steps=10, **more
    )


@pytest.fixture(scope="module")
def never_stopped(log, system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adept") / "run"
    return folder, run(settings(), log, system, folder, evaluate=lambda *_: [{}, {}], evaluate_every=10)


def test_its_stages_are_trained_and_its_policy_comes_back_from_disk(never_stopped, system):
    folder, trained = never_stopped
    stages = ADEPT.stages(settings(), system)
    assert [stage.name for stage in stages] == ["world_model", "behaviour", "policy"]
    blank = ADEPT.prepare(settings(), system.blank_data(1_000))
    again = load_results(folder, stages, blank, [0, 1])
    assert eqx.tree_equal(again.states, trained.states)
    state = trained.states["policy"]
    assert (np.asarray(state.buffer.filled) > 4).all(), "something was imagined"
    np.testing.assert_array_equal(state.world.updates, [26, 26])
    before, after = (
        np.asarray(world.diffusion.network.outcome.layers[0].weight)
        for world in (trained.states["world_model"], state.world)
    )
    assert (before != after).any(), "refits go on with the world model's training"


def test_what_it_measures(never_stopped):
    records = read_metrics(never_stopped[0] / "metrics.jsonl")
    rounds = [record for record in records if "imagination/reward" in record]
    assert [record["step"] for record in rounds] == [0, 0, 10, 10, 20, 20]
    for record in rounds:
        assert 0 < record["importance/effective_share"] <= 1
        assert 1 <= record["imagination/length"] <= 3
        assert record["world_model/change_error"] > 0
        assert record["importance/borrowed_density"] == 0
    assert {"world_model", "behaviour", "policy"} == {record["stage"] for record in records}


class StoppedError(Exception):
    pass


def states(folder: Path):
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("checkpoints/*/state.eqx"))}


def test_a_run_stopped_between_two_epochs_resumes_bit_identical(never_stopped, log, system, tmp_path):
    """Stopped behind a checkpoint in the midst of the policy's stage: buffer, world model and its Adam come back."""
    folder = tmp_path / "stopped"
    times = []

    def evaluate(policies, stage, step):
        times.append(step)
        if len(times) == 2:
            raise StoppedError
        return [{}, {}]

    with pytest.raises(StoppedError):
        run(settings(), log, system, folder, evaluate=evaluate, evaluate_every=10, checkpoint_seconds=0.0)
    assert times == [10, 20]
    newest = Checkpoints(folder).newest()
    assert newest is not None
    progress = read_progress(newest)
    assert (progress.stage, progress.step, progress.finished) == ("policy", 10, False)
    run(settings(), log, system, folder, evaluate=lambda *_: [{}, {}], evaluate_every=10, resume=True)
    assert states(folder) == states(never_stopped[0])


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"refit_steps": 0}, ["world_model", "policy"]),
        ({"importance_sampling": False}, ["world_model", "policy"]),
        ({}, ["world_model", "behaviour", "policy"]),
    ],
)
def test_who_made_the_data_is_asked_only_where_it_matters(more, names, system):
    assert [stage.name for stage in ADEPT.stages(settings(**more), system)] == names


@pytest.mark.parametrize(
    ("learner", "squashed"),
    [(SAC(), True), (IQL(), False), (TD3BC(), False), (BEAR(), False), (DiffusionQL(), False)],
)
def test_pi_d_has_the_form_of_the_policys_density(learner, squashed, system):
    assert is_squashed(learner, system) == squashed


def test_a_learner_without_a_density_is_weighed_all_the_same(log, system, tmp_path):
    run(settings("td3bc"), log, system, tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    late = [record for record in records if "importance/effective_share" in record and record["step"] > 0]
    assert late
    assert all(record["importance/effective_share"] < 1 for record in late)
    (sentence,) = [sentence for sentence in remarks(records) if "no density" in sentence]
    assert "Gaussian of standard deviation 0.2" in sentence


def test_a_collapse_of_the_weights_is_said_once():
    share = lambda value: {"importance/effective_share": value, "importance/borrowed_density": 0.0}
    assert remarks([{"critic/loss": 1.0}, share(1.0), share(0.06)]) == []
    (sentence,) = remarks([share(1.0), share(0.049), share(0.012)])
    assert "collapsed in 2 of 3 rounds (effective sample size down to 1.2% of the batch)" in sentence


def test_a_collapse_is_told_when_it_first_happens():
    said = []
    watch = FirstWarning(ADEPT.warning, said.append)
    for step, share in enumerate((1.0, 0.06, 0.04, 0.01)):
        watch.write({"stage": "policy", "step": 1_000 * step, "seed": 1, "importance/effective_share": share})
    watch.write({"stage": "policy", "step": 5_000, "seed": 0, "critic/loss": 1.0})
    (sentence,) = said
    assert sentence.startswith("seed 1, step 2,000: the importance weights have collapsed")
    assert "(effective sample size 4.0% of the batch)" in sentence


def test_its_name_in_tables():
    assert label_of("adept", None) == "IQL + ADEPT"
    assert label_of("adept", "td3bc") == "TD3+BC + ADEPT"
    assert not ADEPT.imagines, "it learns when an episode ends"


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("base", ["iql", "sac"])
def test_its_presets_hold_together(base, preset, system):
    config = load_settings("adept", base, preset, ID, {})
    assert len(ADEPT.stages(config, system)) == 3


def test_the_learner_and_its_rewards_are_those_of_the_bases_own_preset():
    mine, alone = (
        load_settings(name, base, "cpu", ID, {}) for name, base in (("adept", "iql"), ("iql", None))
    )
    assert mine.learner == alone.learner
    assert mine.rewards == alone.rewards
    assert mine.rewards.return_range == 1000.0
    assert load_settings("adept", "sac", "cpu", ID, {}).rewards.return_range is None


def test_rewards_are_scaled_for_the_learner_alone(log):
    config = settings(**{"rewards.return_range": 10.0})
    data = ADEPT.prepare(config, log)
    returns = log.episode_returns()
    np.testing.assert_allclose(data.reward_factor, 10 / (returns.max() - returns.min()), rtol=1e-6)
    np.testing.assert_array_equal(data.transitions.rewards, log.rewards)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"capacity": 11}, "capacity must be at least the 12 rows that an epoch imagines, got 11"),
        ({"least_weight": 2.0}, "must enclose 1"),
        ({"world_model.target": "state"}, "target must be one of next_state, change, got 'state'"),
        ({"world_model.diffusion_steps": 0}, "diffusion_steps must be at least 1, got 0"),
        ({"horizon": 5}, "unknown key 'horizon'"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_trained(bad, words, system):
    with pytest.raises(UsageError, match=words):
        ADEPT.stages(settings(**bad), system)


def test_an_unknown_base_is_refused():
    with pytest.raises(UsageError, match="--base ppo is not a learner"):
        load_settings("adept", "ppo", "cpu", ID, {})
