"""Files in D4RL's layout: where episodes end, what the last successor is, and what is refused."""

import h5py
import numpy as np
import pytest
from d4rl_files import HOPPER, episodes, write

from langevin.data.sources import open_dataset
from langevin.data.sources.d4rl import published, read_d4rl
from langevin.errors import DatasetError

UNTOLD = ("timeouts",)
V0 = ("next_observations",)


def test_a_v2_file_keeps_every_row_and_its_logged_successors(tmp_path):
    arrays = episodes([4, 3, 5], terminal=[1])
    data = open_dataset(write(tmp_path / HOPPER, arrays))
    assert data.episode_ends.tolist() == [4, 7, 12]
    np.testing.assert_array_equal(data.next_observations, arrays["next_observations"])
    np.testing.assert_array_equal(data.rewards, arrays["rewards"])
    assert np.flatnonzero(data.terminations).tolist() == [6]
    assert np.flatnonzero(data.truncations).tolist() == [3, 11]
    assert (data.action_low.tolist(), data.action_high.tolist()) == ([-1] * 3, [1] * 3)


def test_what_d4rl_registers_is_found_by_the_files_name(tmp_path):
    for name in (HOPPER, "hopper-medium-v2.hdf5"):
        metadata = open_dataset(write(tmp_path / name, episodes([4]))).metadata
        assert metadata["id"] == "d4rl:hopper-medium-v2"
        assert (metadata["task"], metadata["physics"]) == ("hopper-d4rl", "d4rl")
        assert metadata["reference_scores"] == [-20.272305, 3234.3]
        assert "notes" not in metadata


def test_the_table_holds_each_robot_at_each_level_with_a_checksum_of_its_own():
    robots = {name: entry for name, entry in published().items() if not name.startswith("maze2d")}
    assert {
        f"{robot}-medium-replay-v{v}" for robot in ("hopper", "walker2d", "halfcheetah") for v in (0, 1, 2)
    } <= set(robots)
    assert all(len(entry.sha256) == 64 for entry in robots.values())
    assert (
        len({entry.sha256 for entry in robots.values()})
        == len({entry.url for entry in robots.values()})
        == len(robots)
    )
    assert {f"maze2d-{maze}-v1" for maze in ("umaze", "medium", "large")} <= set(published())


def test_without_next_observations_a_timeouts_row_goes_and_no_successor_comes_from_a_reset(tmp_path):
    data = open_dataset(write(tmp_path / HOPPER, episodes([4, 3, 5]), without=V0))
    assert data.episode_lengths().tolist() == [3, 2, 4]
    assert (data.next_observations - data.observations == 1).all()
    assert data.truncations.sum() == 3
    assert "3 last rows dropped" in data.metadata["notes"][0]


def test_without_next_observations_a_terminal_row_keeps_its_reward_and_its_end(tmp_path):
    arrays = episodes([4, 3, 5], terminal=[1])
    data = open_dataset(write(tmp_path / HOPPER, arrays, without=V0))
    assert data.episode_lengths().tolist() == [3, 3, 4]
    (row,) = np.flatnonzero(data.terminations)
    assert data.rewards[row] == arrays["rewards"][6]
    np.testing.assert_array_equal(data.next_observations[row], data.observations[row])
    assert "a world model must not learn" in data.metadata["notes"][1]


def test_without_timeouts_episodes_end_after_the_tasks_steps(tmp_path):
    arrays = episodes([1000, 1000, 30], terminal=[2])
    arrays["observations"] = arrays["observations"] % 977
    data = open_dataset(write(tmp_path / HOPPER, arrays, without=UNTOLD + V0))
    assert data.episode_lengths().tolist() == [999, 999, 30]
    assert "after 1000 steps" in data.metadata["notes"][0]


def test_the_clock_starts_anew_after_a_terminal(tmp_path):
    arrays = episodes([400, 1000, 10], terminal=[0])
    data = open_dataset(write(tmp_path / HOPPER, arrays, without=UNTOLD + V0))
    assert data.episode_lengths().tolist() == [400, 999, 9]


def test_without_timeouts_episodes_end_where_next_observations_do_not_continue(tmp_path):
    for name in (HOPPER, "mine.hdf5"):
        data = open_dataset(write(tmp_path / name, episodes([4, 3, 5], terminal=[1]), without=UNTOLD))
        assert data.episode_lengths().tolist() == [4, 3, 5]
        assert "next observations do not continue" in data.metadata["notes"][0]


def test_a_stitch_that_no_timeout_marks_is_cut(tmp_path):
    arrays = episodes([6, 6])
    arrays["timeouts"][5] = False
    data = open_dataset(write(tmp_path / HOPPER, arrays))
    assert data.episode_lengths().tolist() == [6, 6]
    assert (
        "1 episode cut where the next observation is not the next row's (first at row 5)"
        in data.metadata["notes"]
    )


def test_next_observations_that_differ_by_rounding_are_joined(tmp_path):
    arrays = episodes([6])
    arrays["next_observations"] = arrays["next_observations"].astype(np.float64) * (1 + 3e-7)
    assert open_dataset(write(tmp_path / HOPPER, arrays)).episodes == 1


def test_an_episode_of_one_row_without_successor_is_left_out_and_told(tmp_path):
    data = open_dataset(write(tmp_path / HOPPER, episodes([4, 1, 5]), without=V0))
    assert data.episode_lengths().tolist() == [3, 4]
    assert "1 episode of a single row held no transition" in data.metadata["notes"]


def test_maze2d_ends_only_in_timeouts_and_keeps_its_goal(tmp_path):
    arrays = episodes([4, 3, 5], terminal=[1], width=4, actions=2)
    path = write(tmp_path / "maze2d-umaze-sparse-v1.hdf5", arrays, without=V0)
    data = open_dataset(path)
    assert not data.terminations.any()
    assert data.episode_lengths().tolist() == [3, 2, 4]
    assert (data.metadata["task"], data.metadata["goal"]) == ("maze2d/umaze", [1, 1])
    assert data.metadata["reference_scores"] == [23.85, 161.86]


def test_columns_of_one_are_read_as_numbers(tmp_path):
    arrays = episodes([4])
    for name in ("rewards", "terminals", "timeouts"):
        arrays[name] = arrays[name][:, None]
    assert open_dataset(write(tmp_path / HOPPER, arrays)).rewards.tolist() == [0, 1, 2, 3]


def change(**changes):
    """Arrays of two episodes with some replaced; None takes one away."""
    arrays = {**episodes([4, 5]), **changes}
    return {name: values for name, values in arrays.items() if values is not None}


def spoil(name, row, column=None, value=np.nan):
    values = episodes([4, 5])[name].astype(np.float64)
    values[row if column is None else (row, column)] = value
    return change(**{name: values})


PLAIN = episodes([4, 5])
BAD = {
    "a nan": (spoil("observations", 3, 2), "observations column 2 .*row 3 is nan"),
    "an infinite successor": (spoil("next_observations", 4, 1, np.inf), "next_observations column 1 .*row 4 is inf"),
    "a nan action": (spoil("actions", 2, 0), "actions column 0 .*row 2 is nan"),
    "a nan reward": (spoil("rewards", 8), "rewards column 0 .*row 8 is nan"),
    "a reward beyond single precision": (spoil("rewards", 1, value=1e300), "row 1 is 1e\\+300"),
    "an action out of bounds": (spoil("actions", 5, 1, 1.5), r"actions column 1 .*row 5 is 1.5, outside \[-1, 1\]"),
    "no terminals": (change(terminals=None), "has no 'terminals'; a file in D4RL's layout needs"),
    "no rewards": (change(rewards=None), "has no 'rewards'"),
    "no actions": (change(actions=None), "has no 'actions'"),
    "no observations": (change(observations=None), "has no 'observations'"),
    "no rows": (change(**{name: values[:0] for name, values in PLAIN.items()}), "holds no rows"),
    "short rewards": (change(rewards=PLAIN["rewards"][:-1]), "rewards have 8 rows, observations 9"),
    "short actions": (change(actions=PLAIN["actions"][:-2]), "actions have 7 rows, observations 9"),
    "short terminals": (change(terminals=PLAIN["terminals"][:-1], timeouts=None), "terminals have 8 rows"),
    "short timeouts": (change(timeouts=PLAIN["timeouts"][:-1]), "timeouts have 8 rows, observations 9"),
    "short successors": (change(next_observations=PLAIN["next_observations"][1:]), "next_observations have 8 rows"),
    "narrow successors": (change(next_observations=PLAIN["next_observations"][:, :5]), "5 columns, observations 11"),
    "flat observations": (change(observations=PLAIN["observations"][:, 0]), r"shape \(rows, size\), got \(9,\)"),
    "pictures": (change(observations=np.zeros((9, 4, 4))), r"shape \(rows, size\), got \(9, 4, 4\)"),
    "rewards of two columns": (change(rewards=np.zeros((9, 2))), r"shape \(rows,\), got \(9, 2\)"),
    "words for actions": (change(actions=np.full((9, 3), b"left")), "actions must hold numbers, got"),
    "words for terminals": (change(terminals=np.full(9, b"no")), "terminals must be true or false"),
    "half a terminal": (change(terminals=np.full(9, 0.5)), "terminals, row 0 is 0.5, neither 0 nor 1"),
    "terminals of two columns": (change(terminals=np.zeros((9, 2))), r"terminals must have the shape \(rows,\)"),
    "shuffled rows": (change(observations=PLAIN["observations"][::-1]), "bring the rows into the order of time"),
    "another robot's data": (episodes([4, 5], width=17), "observations have 17 columns, but hopper-medium-v2 has 11"),
    "another robot's actions": (episodes([4, 5], actions=6), "actions have 6 columns, but hopper-medium-v2 has 3"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_malformed_file_is_refused_in_one_sentence_that_names_it(bad, tmp_path):
    arrays, words = BAD[bad]
    path = write(tmp_path / HOPPER, arrays)
    before = path.read_bytes()
    with pytest.raises(DatasetError, match=words) as refusal:
        open_dataset(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == before


def test_maze2d_without_timeouts_is_refused(tmp_path):
    path = write(
        tmp_path / "maze2d-large-sparse-v1.hdf5", episodes([4, 5], width=4, actions=2), without=UNTOLD
    )
    with pytest.raises(DatasetError, match="no 'timeouts', and only they say where maze2d's episodes end"):
        open_dataset(path)


def test_a_strangers_file_that_does_not_say_where_episodes_end_is_refused(tmp_path):
    path = write(tmp_path / "mine.hdf5", episodes([4, 5]), without=UNTOLD + V0)
    with pytest.raises(DatasetError, match="neither 'timeouts' nor 'next_observations'"):
        open_dataset(path)


def test_a_strangers_actions_beyond_one_need_bounds(tmp_path):
    arrays = episodes([4, 5])
    arrays["actions"] *= 3
    with pytest.raises(DatasetError, match=r"row 0 is -3, beyond D4RL's bounds .* `langevin data import`"):
        open_dataset(write(tmp_path / "mine.hdf5", arrays))


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(keep, tmp_path):
    path = write(tmp_path / HOPPER, episodes([400, 500]))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(DatasetError, match=r"cannot be read as HDF5 .* damaged or cut off"):
        read_d4rl(path)


def test_what_is_no_hdf5_or_not_there_is_refused(tmp_path):
    (tmp_path / "page.hdf5").write_text("<html>404 Not Found</html>")
    with pytest.raises(DatasetError, match="cannot be read as HDF5"):
        open_dataset(tmp_path / "page.hdf5")
    with pytest.raises(DatasetError, match="there is no file"):
        open_dataset(tmp_path / "nothing.hdf5")


def test_a_group_where_an_array_should_be_is_missing(tmp_path):
    path = write(tmp_path / HOPPER, episodes([4, 5]), without=["rewards"])
    with h5py.File(path, "a") as file:
        file["rewards/first"] = np.zeros(9)
    with pytest.raises(DatasetError, match="has no 'rewards'"):
        open_dataset(path)


def test_keys_of_observations_are_refused(tmp_path):
    path = write(tmp_path / HOPPER, episodes([4]))
    with pytest.raises(DatasetError, match="plain vectors, but the keys goal were asked for"):
        open_dataset(path, ("goal",))
