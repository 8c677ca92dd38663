"""Tables of logged steps: the same log in four formats, and what is understood of its columns."""

import csv

import h5py
import numpy as np
import pyarrow as pa
import pytest
from d4rl_files import HOPPER, episodes, write
from pyarrow import parquet

from langevin.data.sources.table_files import column_names, read_columns
from langevin.data.sources.tabular import ColumnChoice, pick, read_log
from langevin.errors import LangevinError, UsageError

CHOICE = ColumnChoice(observations="x*", actions="u0,u1", reward="r", episode="id")


def log(lengths=(4, 3, 5), **changes) -> dict:
    """Columns of a log: x0 is 100 times the episode plus the step, r counts the rows."""
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    rows = len(step)
    columns = {
        "id": episode,
        "x0": 100.0 * episode + step,
        "x1": -1.0 * step,
        "u0": np.linspace(-1, 1, rows),
        "u1": np.linspace(0, 2, rows),
        "r": np.arange(rows, dtype=float),
    }
    return {name: values for name, values in {**columns, **changes}.items() if values is not None}


def write_csv(path, columns, delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_hdf5(path, columns):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return path


WRITERS = {
    "csv": write_csv,
    "tsv": lambda path, columns: write_csv(path, columns, "\t"),
    "txt": lambda path, columns: write_csv(path, columns, ";"),
    "parquet": lambda path, columns: parquet.write_table(pa.table(columns), path) or path,
    "hdf5": write_hdf5,
    "npz": lambda path, columns: np.savez(path, **columns) or path,
}


@pytest.fixture(params=WRITERS)
def saved(request, tmp_path):
    return lambda columns: WRITERS[request.param](tmp_path / f"log.{request.param}", columns)


def test_every_format_gives_the_same_trajectories(saved):
    understood = read_log(saved(log()), CHOICE)
    data = understood.imported.trajectories
    assert data.episode_ends.tolist() == [3, 5, 9]
    assert data.observations.tolist() == [
        [0, 0], [1, -1], [2, -2], [100, 0], [101, -1], [200, 0], [201, -1], [202, -2], [203, -3],
    ]  # fmt: skip
    assert (data.next_observations - data.observations == [1, -1]).all()
    assert data.rewards.tolist() == [0, 1, 2, 4, 5, 7, 8, 9, 10]
    assert data.truncations.sum() == 3
    assert understood.imported.rows == 12
    assert "3 last rows dropped" in understood.imported.notes[0]
    assert dict(understood.columns)["observations"] == ("x0", "x1")


def test_bounds_are_the_datas_unless_given(saved):
    path = saved(log())
    found = read_log(path, CHOICE).imported.trajectories
    kept = np.linspace(-1, 1, 12, dtype=np.float32)[[0, 10]]
    np.testing.assert_array_equal([found.action_low[0], found.action_high[0]], kept)
    given = read_log(path, CHOICE, (np.array([-2.0]), np.array([2.0, 3.0]))).imported.trajectories
    assert (given.action_low.tolist(), given.action_high.tolist()) == ([-2, -2], [2, 3])


def test_next_observations_keep_the_last_row(saved):
    columns = log(next_x0=log()["x0"] + 1, next_x1=log()["x1"] - 1)
    choice = ColumnChoice("x*", "u*", "r", next_observations="next_x0,next_x1", episode="id")
    data = read_log(saved(columns), choice).imported.trajectories
    assert data.episode_lengths().tolist() == [4, 3, 5]
    assert data.next_observations[3].tolist() == [4, -4]


def test_ends_can_be_told_by_terminals_and_timeouts_alone(saved):
    ended = np.zeros(12, int)
    ended[[6]] = 1
    clock = np.zeros(12, int)
    clock[[3, 11]] = 1
    choice = ColumnChoice("x*", "u*", "r", terminal="ended", timeout="clock")
    imported = read_log(saved(log(id=None, ended=ended, clock=clock)), choice).imported
    data = imported.trajectories
    assert data.episode_lengths().tolist() == [3, 3, 4]
    assert np.flatnonzero(data.terminations).tolist() == [5]
    assert data.rewards[5] == 6
    assert "1 terminal row kept" in imported.notes[1]


def test_a_whole_file_can_be_one_episode(saved):
    choice = ColumnChoice("x1", "u*", "r", one_episode=True)
    assert read_log(saved(log()), choice).imported.trajectories.episode_ends.tolist() == [11]


def test_the_last_rows_action_and_reward_may_be_missing(saved):
    """A logger that writes the final state has no action to go with it."""
    columns = log()
    last = np.array([3, 6, 11])
    for name in ("u0", "u1", "r"):
        columns[name][last] = np.nan
    assert read_log(saved(columns), CHOICE).imported.trajectories.transitions == 9


def test_vectors_in_one_column_become_dimensions(tmp_path):
    columns = log()
    states = np.stack([columns["x0"], columns["x1"]], axis=1)
    table = {
        "id": columns["id"],
        "x": states,
        "u": np.stack([columns["u0"], columns["u1"]], 1),
        "r": columns["r"],
    }
    choice = ColumnChoice("x", "u", "r", episode="id")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(states.ravel()), 2)
    lists = {**table, "x": fixed, "u": list(table["u"])}
    paths = [
        write_hdf5(tmp_path / "log.h5", table),
        WRITERS["parquet"](tmp_path / "log.parquet", lists),
        WRITERS["npz"](tmp_path / "log.npz", table),
    ]
    expected = read_log(WRITERS["npz"](tmp_path / "flat.npz", columns), CHOICE).imported.trajectories
    for path in paths:
        understood = read_log(path, choice)
        np.testing.assert_array_equal(understood.imported.trajectories.observations, expected.observations)
        np.testing.assert_array_equal(understood.imported.trajectories.actions, expected.actions)
        assert dict(understood.columns)["observations"] == ("x[0]", "x[1]")


def test_episodes_may_be_called_by_words(saved):
    names = ["monday"] * 4 + ["tuesday"] * 3 + ["wednesday"] * 5
    assert read_log(saved(log(id=names)), CHOICE).imported.trajectories.episode_ends.tolist() == [3, 5, 9]


@pytest.mark.parametrize(
    "words", [("true", "false"), ("True", "False"), ("1", "0"), ("1.0", "0.0"), ("yes", "no")]
)
def test_true_and_false_may_be_written_as_people_write_them(words, tmp_path):
    ends = [words[0] if row in (3, 6, 11) else words[1] for row in range(12)]
    path = write_csv(tmp_path / "log.csv", log(done=ends))
    choice = ColumnChoice("x*", "u*", "r", terminal="done")
    assert read_log(path, choice).imported.trajectories.terminations.sum() == 3


def test_whole_numbers_that_turn_into_fractions_late_are_read(tmp_path):
    """Readers that guess a column's type from its beginning stumble here."""
    rows = 200_000
    path = tmp_path / "log.csv"
    values = ["0"] * (rows - 1) + ["0.5"]
    path.write_text("x,u,r\n" + "".join(f"{row},{row % 2},{value}\n" for row, value in enumerate(values)))
    data = read_log(path, ColumnChoice("x", "u", "r", timeout="", one_episode=True)).imported.trajectories
    assert data.transitions == rows - 1


def test_a_byte_order_mark_and_spaces_in_the_header_are_no_part_of_the_names(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("\ufeffx0, x1,u\n1,2,3\n", "utf-8")
    assert column_names(path) == ["x0", "x1", "u"]
    assert read_columns(path, ["x0", "u"])["u"].tolist() == [3]


def test_hdf5_columns_are_in_the_order_of_their_numbers(tmp_path):
    path = write_hdf5(tmp_path / "log.h5", {f"x{i}": np.zeros(2) for i in range(12)} | {"a/b": np.zeros(2)})
    assert column_names(path) == ["a/b", *[f"x{i}" for i in range(12)]]


def test_globs_take_the_files_order_and_lists_their_own(tmp_path):
    names = ["x1", "x0", "y[0]", "y"]
    assert pick("x*", names, "observations", tmp_path) == ["x1", "x0"]
    assert pick("x0, x1", names, "observations", tmp_path) == ["x0", "x1"]
    assert pick("y[0]", names, "observations", tmp_path) == ["y[0]"]
    with pytest.raises(UsageError, match="twice"):
        pick("x*,x0", names, "observations", tmp_path)


def test_d4rls_layout_needs_no_columns_named(tmp_path):
    arrays = episodes([4, 3, 5], terminal=[1])
    for path in (write(tmp_path / HOPPER, arrays), WRITERS["npz"](tmp_path / "hopper_medium-v2.npz", arrays)):
        understood = read_log(path, ColumnChoice(), metadata={"id": "hopper/d4rl-v0"})
        data = understood.imported.trajectories
        assert data.episode_ends.tolist() == [4, 7, 12]
        assert data.metadata["id"] == "hopper/d4rl-v0"


def test_the_recipe_says_which_columns_became_what(tmp_path):
    data = read_log(
        write_csv(tmp_path / "log.csv", log()), CHOICE, metadata={"id": "tank/plant-v0"}
    ).imported.trajectories
    assert data.metadata["recipe"]["columns"]["actions"] == ["u0", "u1"]
    assert data.metadata["recipe"]["file"] == "log.csv"
    assert data.metadata["task"] is None


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_is_refused_in_one_sentence_or_read(seed, saved):
    """Bytes changed, removed or cut off at random: whatever happens is a sentence, not a fault of the program."""
    path = saved(log())
    whole, rng, said = path.read_bytes(), np.random.default_rng(seed), []
    for _ in range(15):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(whole) // 2, len(whole) + 1)])
        try:
            assert read_log(path, CHOICE).imported.trajectories.transitions > 0
        except LangevinError as error:
            said.append(str(error))
    assert said
    assert all(str(path) in sentence and "\n" not in sentence for sentence in said)
