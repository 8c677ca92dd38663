"""Checkpoints are whole, bit-equal, and say what is wrong with them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from langevin.errors import LangevinError
from langevin.training import files
from langevin.training.checkpoint import Checkpoints, Progress, load_state, read_progress

PLAN = {"seeds": [0, 1], "stages": [["model", 10, None], ["policy", 10, None]]}


class State(eqx.Module):
    online: eqx.nn.Linear
    average: list
    count: int


def state(value=1.0):
    return State(
        eqx.nn.Linear(2, 3, key=jax.random.key(0)),
        [jnp.full((4,), value), jnp.asarray([1.5, jnp.inf], jnp.bfloat16), jnp.arange(3, dtype=jnp.int32)],
        3,
    )


def progress(step, stage="model", index=0, finished=False):
    return Progress(
        stage, index, step, finished, PLAN, {"1": {"stage": stage, "step": 5, "reason": "nan"}}, 1.5
    )


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path)


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_a_state_comes_back_bit_equal_with_its_progress(checkpoints):
    checkpoints.save(progress(7), state())
    newest = checkpoints.newest()
    assert read_progress(newest) == progress(7)
    assert eqx.tree_equal(load_state(newest, state(0.0)), state())
    shapes = eqx.filter_eval_shape(lambda: state(0.0))
    assert eqx.tree_equal(load_state(newest, shapes), state())


def test_the_last_two_are_kept_until_the_stage_is_finished(checkpoints):
    for step in (3, 5, 9):
        checkpoints.save(progress(step), state())
    assert names(checkpoints) == ["00-model-000000005", "00-model-000000009"]
    checkpoints.save(progress(10, finished=True), state())
    assert names(checkpoints) == ["00-model"]
    checkpoints.save(progress(4, "policy", 1), state())
    assert checkpoints.newest().name == "01-policy-000000004"
    assert checkpoints.finished(0, "model").is_dir()
    checkpoints.save(progress(10, "policy", 1, finished=True), state())
    assert names(checkpoints) == ["00-model", "01-policy"]
    assert read_progress(checkpoints.newest()).over
    assert not read_progress(checkpoints.finished(0, "model")).over


def test_a_disk_that_fills_leaves_the_checkpoint_before(checkpoints, monkeypatch):
    checkpoints.save(progress(3), state())

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("langevin.training.checkpoint.sync", full)
    with pytest.raises(LangevinError, match=r"00-model-000000005: No space left on device.*untouched"):
        checkpoints.save(progress(5), state())
    assert names(checkpoints) == ["00-model-000000003"]


def test_what_a_killed_save_left_is_ignored_and_swept(checkpoints):
    checkpoints.save(progress(3), state())
    half = checkpoints.folder / f"{files._UNFINISHED}99-00-model-000000005"
    half.mkdir()
    (half / "state.eqx").write_bytes(b"half")
    assert checkpoints.newest().name == "00-model-000000003"
    assert names(checkpoints) == ["00-model-000000003"]


@pytest.mark.parametrize("kept", [0, 40, 200, -1])
def test_a_truncated_state_is_a_clear_error(checkpoints, kept):
    checkpoints.save(progress(3), state())
    path = checkpoints.newest() / "state.eqx"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        LangevinError, match=r"is damaged: state\.eqx is cut short or foreign at .*delete that"
    ):
        load_state(checkpoints.newest(), state())


def test_foreign_files_and_pickles_are_refused(checkpoints, tmp_path):
    checkpoints.save(progress(3), state())
    path = checkpoints.newest() / "state.eqx"
    whole = path.read_bytes()
    path.write_bytes(whole + b"more")
    with pytest.raises(LangevinError, match="longer than"):
        load_state(checkpoints.newest(), state())

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.save(tmp_path / "trap.npy", np.array([Trap()], object), allow_pickle=True)
    (tmp_path / "sprung").unlink(missing_ok=True)
    path.write_bytes((tmp_path / "trap.npy").read_bytes())
    with pytest.raises(LangevinError, match="cut short or foreign"):
        load_state(checkpoints.newest(), state())
    assert not (tmp_path / "sprung").exists()
    path.unlink()
    with pytest.raises(LangevinError, match="cannot be read"):
        load_state(checkpoints.newest(), state())
    (checkpoints.newest() / "progress.json").write_text("{}")
    with pytest.raises(LangevinError, match=r"progress\.json cannot be read"):
        read_progress(checkpoints.newest())


def test_a_state_of_another_form_names_the_leaf(checkpoints):
    checkpoints.save(progress(3), state())
    other = eqx.tree_at(lambda tree: tree.average[0], state(), jnp.zeros(5))
    with pytest.raises(
        LangevinError, match=r"\.average\[0\] is float32\[4\] in the checkpoint, float32\[5\] in"
    ):
        load_state(checkpoints.newest(), other)
    fewer = eqx.tree_at(lambda tree: tree.online.bias, state(), None)
    with pytest.raises(
        LangevinError, match=r"\.online\.bias is float32\[3\] in the checkpoint, missing in the"
    ):
        load_state(checkpoints.newest(), fewer)
