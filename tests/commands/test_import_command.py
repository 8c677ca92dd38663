"""`langevin data import`: what is explained, what is written, and sixty things that are not."""

import csv
import json
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import tyro
from pyarrow import parquet

from langevin.cli import run
from langevin.commands.data_import import Import
from langevin.commands.train import default_folder
from langevin.data.sources import open_dataset

ID = "tank/plant-v0"
MAPPING = ["--observations", "x0,x1", "--actions", "u", "--reward", "r"]
BY_ID = [*MAPPING, "--episode", "id"]


def taking(observations, actions="u", reward="r"):
    return ["--observations", observations, "--actions", actions, "--reward", reward]


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """An empty working directory and an empty folder of datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def table(**changes):
    """Three episodes of 4, 3 and 5 rows; a change replaces a column, or single cells given as {row: value}."""
    columns = {
        "id": [0] * 4 + [1] * 3 + [2] * 5,
        "x0": [float(row) for row in range(12)],
        "x1": [float(-row) for row in range(12)],
        "u": [round(-1 + row / 6, 3) for row in range(12)],
        "r": [1.0] * 6 + [2.0] * 6,
    }
    for name, change in changes.items():
        if isinstance(change, dict):
            columns[name] = [change.get(row, value) for row, value in enumerate(columns[name])]
        else:
            columns[name] = change
    return {name: values for name, values in columns.items() if values is not None}


def saved_csv(columns, name="log.csv", delimiter=","):
    with open(name, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def saved_npz(name="log.npz", **changes):
    np.savez(name, **{column: np.array(values) for column, values in table(**changes).items()})


def saved_hdf5(arrays, name="log.h5"):
    with h5py.File(name, "w") as file:
        for column, values in arrays.items():
            file[column] = values


def d4rl(rows=9, **changes):
    arrays = {
        "observations": np.arange(4.0 * rows).reshape(rows, 4),
        "actions": np.zeros((rows, 2)),
        "rewards": np.ones(rows),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) == rows - 1,
    }
    return {name: values for name, values in {**arrays, **changes}.items() if values is not None}


def imported(*arguments):
    """The explanation of an import that must succeed."""
    return tyro.cli(Import, args=["log.csv", "--as", ID, *arguments]).run()


def test_the_explanation_holds_what_was_understood(capsys):
    saved_csv(table())
    told = imported(*BY_ID)
    assert told["columns"] == {
        "observations": ["x0", "x1"],
        "actions": ["u"],
        "reward": ["r"],
        "episode": ["id"],
    }
    assert (told["rows"], told["transitions"], told["episodes"]) == (12, 9, 3)
    assert told["episode_length"] == {"min": 2, "median": 3.0, "max": 4}
    assert told["return"] == {"min": 2.0, "mean": pytest.approx(13 / 3), "max": 8.0}
    assert told["bounds_from"] == "the lowest and highest logged action"
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "Understood of log.csv",
        "│ observations │ 0 │ x0 │ 0 │ 10 │",
        "│ │ 1 │ x1 │ -10 │ 0 │",
        "12, of which 9 become transitions",
        f"Wrote {ID} to",
    ):
        assert words in said
    data = open_dataset(ID)
    assert (data.transitions, data.episodes) == (9, 3)
    assert data.metadata["recipe"]["columns"]["reward"] == ["r"]


def test_a_dry_run_explains_and_writes_nothing(desk, capsys):
    saved_csv(table())
    told = imported(*BY_ID, "--dry-run")
    assert not told["written"]
    assert told["transitions"] == 9
    assert "Nothing written (--dry-run)" in capsys.readouterr().out
    assert not (desk / "datasets").exists()


def test_json_is_one_object(capsys):
    saved_csv(table())
    told = imported(*BY_ID, "--json")
    assert json.loads(capsys.readouterr().out) == told


def test_an_id_that_is_taken_stays_unless_overwrite_is_given():
    saved_csv(table())
    imported(*BY_ID)
    saved_csv(table(r=[5.0] * 12))
    assert run(["data", "import", "log.csv", "--as", ID, *BY_ID]) == 2
    assert open_dataset(ID).rewards.max() == 2
    imported(*BY_ID, "--overwrite")
    assert open_dataset(ID).rewards.max() == 5


def test_a_log_of_a_known_task_takes_its_bounds_and_references():
    columns = table()
    saved_csv({**columns, "v": columns["x1"], "w": columns["x1"], "u2": columns["u"]})
    mapping = ["--observations", "x0,x1,v,w", "--actions", "u,u2", "--reward", "r", "--episode", "id"]
    for chosen in (["--as", "pointmaze/umaze-mine-v0"], ["--as", ID, "--task", "pointmaze/umaze"]):
        told = tyro.cli(Import, args=["log.csv", *mapping, *chosen]).run()
        assert (told["task"], told["action_low"]) == ("pointmaze/umaze", [-1, -1])
        assert told["bounds_from"] == "the task pointmaze/umaze"
        assert open_dataset(told["id"]).metadata["reference_scores"] == [23.85, 161.86]


def test_a_d4rl_file_is_imported_without_naming_columns():
    saved_hdf5(d4rl(), "mine.hdf5")
    told = tyro.cli(Import, args=["mine.hdf5", "--as", "mine/d4rl-v0"]).run()
    assert (told["transitions"], told["bounds_from"]) == (8, "D4RL's layout")
    assert open_dataset("mine/d4rl-v0").action_high.tolist() == [1, 1]


def test_many_dimensions_are_explained_in_part(capsys):
    saved_hdf5(d4rl(observations=np.arange(270.0).reshape(9, 30)), "mine.hdf5")
    assert run(["data", "import", "mine.hdf5", "--as", "mine/wide-v0", "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "observations[11]" in said
    assert "observations[12]" not in said
    assert "to 29 │ … observations[29]" in said


def test_info_and_check_read_a_d4rl_file_by_its_path_and_tell_what_was_done(capsys):
    saved_hdf5(d4rl(), "mine.hdf5")
    assert run(["data", "info", "mine.hdf5"]) == 0
    assert "1 last row dropped" in " ".join(capsys.readouterr().out.split())
    assert run(["data", "check", "mine.hdf5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["well_formed"]


def test_the_run_folder_of_a_named_dataset_is_a_plain_name():
    assert default_folder("td3bc", None, "d4rl:hopper-medium-v2") == Path("runs/td3bc-d4rl-hopper-medium-v2")


def test_bounds_may_be_negative_numbers_on_the_command_line():
    saved_csv(table())
    told = imported(*BY_ID, "--action-low", "-2", "--action-high", "3")
    assert (told["action_low"], told["action_high"]) == ([-2], [3])


def truncated_parquet():
    parquet.write_table(pa.table(table()), "log.parquet")
    with open("log.parquet", "r+b") as file:
        file.truncate(300)


def truncated_npz():
    saved_npz()
    with open("log.npz", "r+b") as file:
        file.truncate(700)


def truncated_hdf5():
    saved_hdf5({"observations": np.zeros((9000, 4))})
    with open("log.h5", "r+b") as file:
        file.truncate(5000)


def pickled_npz():
    np.savez(
        "log.npz", x0=np.array([{"a": 1}, None], dtype=object), u=np.zeros(2), r=np.zeros(2), x1=np.zeros(2)
    )


def ragged_parquet():
    columns = table(x0=[[1.0, 2.0]] * 11 + [[1.0]])
    parquet.write_table(pa.table(columns), "log.parquet")


def text(content, name="log.csv"):
    return lambda: Path(name).write_text(content)


def cells(**changes):
    return lambda: saved_csv(table(**changes))


def arrays(**changes):
    return lambda: saved_hdf5(d4rl(**changes))


CSV, NPZ, HDF5, PARQUET = "log.csv", "log.npz", "log.h5", "log.parquet"
NAN, INF = float("nan"), float("inf")
EARLY = [0] * 4 + [1] * 3 + [0] * 5
BAD = {
    # what the data hold
    "a nan observation": (cells(x1={5: NAN}), CSV, BY_ID, r"log.csv: column 'x1' \(observations\), line 7 is nan"),
    "an empty cell": (cells(x0={2: ""}), CSV, BY_ID, r"column 'x0' \(observations\), line 4 is nan"),
    "an infinite reward": (cells(r={0: INF}), CSV, BY_ID, r"column 'r' \(rewards\), line 2 is inf"),
    "a nan action": (cells(u={9: NAN}), CSV, BY_ID, r"column 'u' \(actions\), line 11 is nan"),
    "a number too large": (cells(x0={1: 1e39}), CSV, BY_ID, "line 3 is 1e.39, not a finite number of single"),
    "a word": (cells(x0={3: "high"}), CSV, BY_ID, "column 'x0', line 5 is 'high', not a number"),
    "a decimal comma": (lambda: saved_csv(table(x0={3: "0,5"}), CSV, ";"), CSV, BY_ID, "write decimals with a point"),
    "a nan in npz": (
        lambda: saved_npz(x1={5: NAN}), NPZ, BY_ID, r"log.npz: column 'x1' \(observations\), row 5 is nan",
    ),
    "words in npz": (lambda: saved_npz(u=["left"] * 12), NPZ, BY_ID, "column 'u' must hold numbers, got text"),
    "dates": (lambda: saved_npz(x0=["2024-01-01"] * 12), NPZ, BY_ID, "column 'x0' must hold numbers, got text"),
    "an action out of bounds": (
        cells(), CSV, [*BY_ID, "--action-low", "-0.5", "--action-high", "0.5"],
        r"column 'u' \(actions\), line 2 is -1, outside \[-0.5, 0.5\]",
    ),
    "an action outside its task's": (
        cells(u={4: 1.5}, w=[0.0] * 12), CSV,
        [*taking("x0,x1,id,r", "u,w"), "--one-episode", "--task", "pointmaze/umaze"],
        r"column 'u' \(actions\), line 6 is 1.5, outside \[-1, 1\]",
    ),
    "an action that never changes": (cells(u=[0.25] * 12), CSV, BY_ID, "column 'u' .* always 0.25.*--action-low"),
    # episodes
    "no word on episodes": (cells(), CSV, MAPPING, "where do the episodes of log.csv end.*--one-episode"),
    "an episode of one row": (
        cells(id=[0] * 4 + [1] + [2] * 7), CSV, BY_ID, r"1 episode of a single row \(first at line 6\)",
    ),
    "nothing but single rows": (cells(id=list(range(12))), CSV, BY_ID, "12 episodes of a single row"),
    "an episode that comes back": (cells(id=EARLY), CSV, BY_ID, "line 9: episode 0 comes again.*sort the rows"),
    "an episode without a name": (cells(id={3: ""}), CSV, BY_ID, r"column 'id' \(episode\), line 5 is empty"),
    "a terminal inside an episode": (
        cells(done=[0, 1] + [0] * 10), CSV, [*BY_ID, "--terminal", "done"], "line 3 is terminal, but its",
    ),
    "a timeout inside an episode": (
        cells(late=[0] * 8 + [1] + [0] * 3), CSV, [*BY_ID, "--timeout", "late"], "column 'late', line 10 is true, but",
    ),
    "a terminal that is maybe": (
        cells(done=["no"] * 11 + ["maybe"]), CSV, [*MAPPING, "--terminal", "done"],
        "column 'done', line 13 is 'maybe', neither true nor false",
    ),
    "a terminal of two": (
        cells(done=[0] * 11 + [2]), CSV, [*MAPPING, "--terminal", "done"], "line 13 is '2', neither true nor false",
    ),
    "a terminal that is missing": (
        cells(done=[0] * 5 + [""] + [1] * 6), CSV, [*MAPPING, "--terminal", "done"], "line 7 is empty, neither",
    ),
    "an episode column and one episode": (cells(), CSV, [*BY_ID, "--one-episode"], "contradict each other"),
    "one row alone": (
        lambda: saved_csv({name: values[:1] for name, values in table().items()}), CSV, [*MAPPING, "--one-episode"],
        "1 episode of a single row",
    ),
    "successors of other rows": (
        cells(n0=[5.5] * 12, n1=[0.0] * 12), CSV, [*BY_ID, "--next-observations", "n*"],
        "next observations are not those of the next row in 9 of 12 rows .*order of time",
    ),
    # columns
    "no observations": (cells(), CSV, ["--actions", "u", "--reward", "r"], "--observations is missing.*id, x0, x1"),
    "no actions": (cells(), CSV, ["--observations", "x0", "--reward", "r"], "--actions is missing"),
    "no reward": (cells(), CSV, ["--observations", "x0", "--actions", "u"], "--reward is missing"),
    "a misspelt column": (
        cells(reward=[1.0] * 12), CSV, taking("x0", reward="rewrad"),
        "--reward: log.csv has no column 'rewrad'; did you mean reward",
    ),
    "a glob that fits nothing": (
        cells(), CSV, taking("state*"),
        r"no column 'state\*'; there are id, x0, x1, u, r",
    ),
    "a comma too many": (
        cells(), CSV, taking("x0,"), "no column ''; there are",
    ),
    "a column named twice": (
        cells(), CSV, taking("x*,x1"), "names column 'x1' of log.csv twice",
    ),
    "an action among the observations": (
        cells(), CSV, taking("*"),
        "column 'u' of log.csv is taken by --observations and by --actions",
    ),
    "two rewards": (
        cells(), CSV, taking("x0", reward="r,x1"), "--reward must be one column, got r, x1",
    ),
    "two episode columns": (cells(), CSV, [*MAPPING, "--episode", "id,x*"], "must be one column"),
    "fewer successors than observations": (
        cells(n0=[5.5] * 12), CSV, [*BY_ID, "--next-observations", "n0"], "have 1 columns, observations 2",
    ),
    "columns of different lengths": (
        lambda: saved_npz(r=[1.0] * 11), NPZ, BY_ID, "log.npz: column 'r' has 11 rows, column 'x0' 12",
    ),
    "a column of vectors as episode": (
        lambda: saved_npz(id=np.zeros((12, 2))), NPZ, BY_ID, "column 'id' .* must hold one value a row",
    ),
    "a column of matrices": (
        lambda: saved_npz(x0=np.zeros((12, 2, 2))), NPZ, BY_ID, "column 'x0' must hold numbers, got .* of shape",
    ),
    "a single number": (lambda: saved_npz(r=np.array(1.0)), NPZ, BY_ID, "column 'r' has 0 rows"),
    "vectors of different lengths": (ragged_parquet, PARQUET, BY_ID, "column 'x0', row 11 holds 1 numbers, row 0 2"),
    # bounds and tasks
    "one bound of two": (cells(), CSV, [*BY_ID, "--action-low", "-1"], "--action-low and --action-high go together"),
    "bounds the wrong way round": (
        cells(), CSV, [*BY_ID, "--action-low", "1", "--action-high", "-1"], "must lie below .* got 1 and -1",
    ),
    "too many bounds": (
        cells(), CSV, [*BY_ID, "--action-low", "-1", "-1", "--action-high", "1", "1"],
        "must be one number, or one for each of the 1 actions, got 2",
    ),
    "a bound without end": (
        cells(), CSV, [*BY_ID, "--action-low", "-1", "--action-high", "inf"], "--action-high must be finite, got inf",
    ),
    "an unknown task": (cells(), CSV, [*BY_ID, "--task", "pointmaze/umase"], "did you mean pointmaze/umaze"),
    "another task's data": (
        cells(), CSV, [*BY_ID, "--task", "pointmaze/umaze", "--action-low", "-1", "--action-high", "1"],
        "log.csv: the dataset's observation_size is 2, but task pointmaze/umaze has 4",
    ),
    "another task's id": (
        cells(), CSV, [*BY_ID, "--as", "pointmaze/umaze-mine-v0", "--action-low", "-1", "--action-high", "1"],
        "observation_size is 2, but task pointmaze/umaze has 4.*an --as that does not begin with pointmaze/umaze",
    ),
    # files
    "no file": (lambda: None, "nothing.csv", BY_ID, "there is no file nothing.csv"),
    "a folder": (lambda: None, ".", BY_ID, "is a folder; name a file in it"),
    "an unknown kind": (text("x", "log.xlsx"), "log.xlsx", BY_ID, "its name must end in .csv"),
    "an empty file": (text(""), CSV, BY_ID, "log.csv is empty"),
    "a header alone": (text("id,x0,x1,u,r\n"), CSV, BY_ID, "log.csv holds no rows"),
    "no header": (text("1,2,3\n4,5,6\n"), CSV, BY_ID, "log.csv has no line of column names"),
    "a column's name twice": (text("id,x0,x0,u,r\n1,2,3,4,5\n"), CSV, BY_ID, "two columns called 'x0'"),
    "a row that is too short": (text("id,x0,x1,u,r\n0,1,2,3,4\n0,1,2\n"), CSV, BY_ID, "cannot be read .*Expected 5"),
    "not text": (lambda: Path(CSV).write_bytes(b"\xff\xfe\x00x"), CSV, BY_ID, "cannot be read as UTF-8 text"),
    "parquet that is none": (text("id,x0", PARQUET), PARQUET, BY_ID, "log.parquet cannot be read"),
    "parquet cut off": (truncated_parquet, PARQUET, BY_ID, "log.parquet cannot be read .*cut off"),
    "npz cut off": (truncated_npz, NPZ, BY_ID, "log.npz cannot be read .*cut off"),
    "npz of pickles": (pickled_npz, NPZ, [*MAPPING, "--one-episode"], "log.npz holds pickled objects"),
    "npz of nothing": (lambda: zipfile.ZipFile("log.npz", "w").close(), NPZ, BY_ID, "log.npz holds no columns"),
    "hdf5 cut off": (truncated_hdf5, HDF5, BY_ID, "log.h5 cannot be read .*cut off"),
    "hdf5 that is none": (text("hello", HDF5), HDF5, BY_ID, "log.h5 cannot be read"),
    # D4RL's layout
    "no terminals": (arrays(terminals=None), HDF5, [], "log.h5 has no 'terminals'"),
    "no ends": (arrays(timeouts=None), HDF5, [], "neither 'timeouts' nor 'next_observations'"),
    "a nan in D4RL's layout": (arrays(rewards=np.full(9, NAN)), HDF5, [], "rewards column 0 .* row 0 is nan"),
    "actions beyond D4RL's": (arrays(actions=np.full((9, 2), 2.0)), HDF5, [], "row 0 is 2, beyond D4RL's bounds"),
    "too few rewards": (arrays(rewards=np.ones(8)), HDF5, [], "rewards have 8 rows, observations 9"),
    "D4RL's data as another task's": (
        arrays(observations=np.zeros((9, 3))), HDF5, ["--as", "pointmaze/umaze-d4rl-v0"], "observation_size is 3",
    ),
    # ids
    "an id without a version": (cells(), CSV, [*BY_ID, "--as", "tank/plant"], "must read like pointmaze/umaze-v0"),
    "an id that climbs": (cells(), CSV, [*BY_ID, "--as", "../plant-v0"], "must read like pointmaze/umaze-v0"),
    "an empty id": (cells(), CSV, [*BY_ID, "--as", ""], "must read like pointmaze/umaze-v0"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_imported_is_one_sentence_exit_code_two_and_nothing_written(bad, desk, capsys):
    make, name, arguments, words = BAD[bad]
    make()
    before = {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()}
    chosen = arguments if "--as" in arguments else ["--as", ID, *arguments]
    assert run(["data", "import", name, *chosen]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("langevin: ")
    assert printed.err.count("\n") == 1
    assert re.search(words, printed.err), printed.err
    assert {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()} == before
    assert not (desk / "datasets").exists()


def test_a_full_disk_is_exit_code_one_and_leaves_the_old_dataset(monkeypatch, capsys):
    saved_csv(table())
    imported(*BY_ID)

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("langevin.data.sources.minari._reserve", refuse)
    saved_csv(table(r=[5.0] * 12))
    assert run(["data", "import", "log.csv", "--as", ID, *BY_ID, "--overwrite"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert open_dataset(ID).rewards.max() == 2
