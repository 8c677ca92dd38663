import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces

from langevin.data.sources import minari as source
from langevin.data.sources import open_dataset
from langevin.data.sources.minari import list_datasets, save_dataset
from langevin.data.trajectories import Trajectories
from langevin.errors import DatasetError, LangevinError, UsageError

ID = "test/numbers-v0"
ARRAYS = (
    "observations",
    "actions",
    "rewards",
    "terminations",
    "truncations",
    "next_observations",
    "episode_ends",
    "action_low",
    "action_high",
)


@pytest.fixture
def data(fields):
    """Episodes of 3, 1 and 4 rows, the last one ending in a terminal state."""
    fields["terminations"][7], fields["truncations"][7] = True, False
    metadata = {
        "id": ID,
        "task": None,
        "reference_scores": [1.0, 9.0],
        "recipe": {"controller": "count"},
        "seed": 3,
    }
    return Trajectories(**fields, metadata=metadata)


def digest(folder: Path) -> dict[str, str]:
    """Hash of every file under a folder, by its name inside it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def data_file(folder: Path) -> Path:
    return folder / "data" / "main_data.hdf5"


def test_what_is_saved_comes_back_bit_for_bit(data, datasets):
    path = save_dataset(data, ID)
    assert path == datasets / "test" / "numbers-v0"
    for opened in (open_dataset(ID), open_dataset(path), open_dataset(path / "data")):
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(opened, name), getattr(data, name), err_msg=name)
            assert getattr(opened, name).dtype == getattr(data, name).dtype
        assert opened.metadata == data.metadata


def test_minari_reads_it_with_one_more_observation_than_actions_and_the_references(data, datasets):
    save_dataset(data, ID)
    dataset = minari.load_dataset(ID)
    assert (dataset.total_episodes, dataset.total_steps) == (3, 8)
    episode = dataset[2]
    assert len(episode.observations) == len(episode.actions) + 1 == 5
    np.testing.assert_array_equal(episode.observations[-1], data.next_observations[-1])
    assert minari.get_normalized_score(dataset, np.array([5.0])) == pytest.approx(0.5)
    assert list(minari.list_local_datasets()) == [ID]


def test_the_same_trajectories_give_the_same_bytes(data, datasets):
    first = digest(save_dataset(data, ID))
    again = digest(save_dataset(data, ID, overwrite=True))
    assert len(first) == 2
    assert first == again


def test_listing_shows_what_is_there_and_passes_over_what_is_not_a_dataset(data, datasets):
    assert list_datasets() == {}
    save_dataset(data, ID)
    broken = datasets / "test" / "broken-v0" / "data"
    broken.mkdir(parents=True)
    (broken / "metadata.json").write_text("{")
    assert list(list_datasets()) == [ID]
    assert list_datasets()[ID]["total_steps"] == 8


def test_an_id_that_is_taken_is_refused_and_left_as_it_was(data, numbered, datasets):
    before = digest(save_dataset(data, ID))
    with pytest.raises(UsageError, match="already on disk; pass --overwrite"):
        save_dataset(numbered([2]), ID)
    assert digest(datasets / ID) == before


def test_overwriting_replaces_and_leaves_nothing_beside(data, numbered, datasets):
    save_dataset(data, ID)
    save_dataset(numbered([2]), ID, overwrite=True)
    assert open_dataset(ID).transitions == 2
    assert [folder.name for folder in (datasets / "test").iterdir()] == ["numbers-v0"]


def test_a_write_that_fails_half_way_leaves_the_old_dataset_and_no_debris(data, datasets, monkeypatch):
    before = digest(save_dataset(data, ID))

    def fail_half_way(trajectories, dataset_id, folder):
        folder.mkdir()
        (folder / "main_data.hdf5").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source, "_write", fail_half_way)
    with pytest.raises(LangevinError, match=r"could not write dataset test/numbers-v0.*No space left"):
        save_dataset(data, ID, overwrite=True)
    assert [folder.name for folder in (datasets / "test").iterdir()] == ["numbers-v0"]
    assert digest(datasets / ID) == before


def test_a_failing_last_rename_puts_the_old_dataset_back(data, datasets, monkeypatch):
    before = digest(save_dataset(data, ID))
    rename = Path.rename

    def refuse_new(self, target):
        if ".partial" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(LangevinError, match="Input/output error"):
        save_dataset(data, ID, overwrite=True)
    assert digest(datasets / ID) == before


def test_a_run_killed_between_the_renames_has_lost_nothing(data, datasets):
    path = save_dataset(data, ID)
    path.rename(path.with_name(".numbers-v0.previous"))
    assert open_dataset(ID).transitions == 8
    with pytest.raises(UsageError, match="already on disk"):
        save_dataset(data, ID)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_dataset(data, datasets):
    """A process that may write no file of more than 20 kB stands in for the disk."""
    before = digest(save_dataset(data, ID))
    program = f"""
import resource, signal, sys
import numpy as np
from langevin.data.sources.minari import save_dataset
from langevin.data.trajectories import Trajectories
from langevin.errors import LangevinError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_dataset(Trajectories.blank(50, 1, np.array([-1]), np.array([1]), 10_000), {ID!r}, overwrite=True)
except LangevinError as error:
    print(error)
    sys.exit(1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("could not write dataset test/numbers-v0")
    assert digest(datasets / ID) == before
    assert [folder.name for folder in (datasets / "test").iterdir()] == ["numbers-v0"]


@pytest.mark.parametrize("lengths", [[1] * 50, [300] * 20, [5000]])
def test_the_room_asked_of_the_disk_is_enough_and_not_absurd(lengths, numbered, datasets):
    data = numbered(lengths)
    written = data_file(save_dataset(data, ID)).stat().st_size
    assert written <= source._file_size(data) <= 2 * written


def test_a_disk_that_may_not_be_written_is_one_sentence(data, datasets):
    datasets.parent.mkdir(exist_ok=True)
    datasets.write_text("a file where the folder should be")
    with pytest.raises(LangevinError, match="could not write dataset"):
        save_dataset(data, ID)


@pytest.mark.parametrize(
    "dataset_id", ["", "numbers", "numbers-v", "../numbers-v0", "/tmp/x-v0", "a//b-v0", "a b-v0"]
)
def test_a_malformed_id_is_refused_before_anything_is_written(dataset_id, data, datasets):
    with pytest.raises(UsageError, match="must read like pointmaze/umaze-v0"):
        save_dataset(data, dataset_id)
    assert not datasets.exists()


def cut_in_half(path):
    whole = data_file(path).read_bytes()
    data_file(path).write_bytes(whole[: len(whole) // 2])


def break_json(path):
    (path / "data" / "metadata.json").write_text('{"total_steps": 8,')


def edit_metadata(**changes):
    def change(path):
        file = path / "data" / "metadata.json"
        metadata = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))

    return change


def write_rows(name, rows):
    def change(path):
        with h5py.File(data_file(path), "a") as file:
            del file[f"episode_1/{name}"]
            file[f"episode_1/{name}"] = rows

    return change


SHORT = r"observations of episode 1 must have shape \(2, 3\), got \(1, 3\)"
WIDE = r"observations of episode 1 must have shape \(2, 3\), got \(2, 5\)"
DISCRETE = json.dumps({"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"})
DAMAGE = [
    (cut_in_half, "cannot be read"),
    (lambda path: data_file(path).unlink(), "cannot be read"),
    (lambda path: data_file(path).write_bytes(b""), "cannot be read"),
    (break_json, "is not readable JSON"),
    (lambda path: (path / "data" / "metadata.json").write_text("[]"), "it is not a Minari dataset"),
    (lambda path: (path / "data" / "metadata.json").unlink(), "is not on disk"),
    (edit_metadata(observation_space=None), "has no 'observation_space'"),
    (edit_metadata(observation_space="{"), "cannot be read"),
    (edit_metadata(total_episodes=4), "cannot be read"),
    (edit_metadata(total_episodes=0), "holds no episodes"),
    (edit_metadata(total_episodes="three"), "cannot be read"),
    (edit_metadata(data_format="pickle"), "cannot be read"),
    (edit_metadata(action_space=DISCRETE), "actions must be vectors of numbers"),
    (write_rows("rewards", [np.nan]), "rewards row 3 is nan"),
    (write_rows("rewards", [1.0, 2.0]), "must have shape"),
    (write_rows("observations", np.zeros((1, 3))), SHORT),
    (write_rows("observations", np.zeros((2, 5))), WIDE),
    (write_rows("actions", np.zeros((1, 3))), r"actions of episode 1 must have shape \(1, 2\), got \(1, 3\)"),
    (write_rows("actions", np.full((1, 2), 2.0)), r"actions row 3, column 0 is 2\.0, outside"),
    (write_rows("truncations", [False]), "episode 1 ends there with neither"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_dataset_is_refused_in_one_sentence_and_left_as_it_is(damage, message, data, datasets):
    path = save_dataset(data, ID)
    damage(path)
    before = digest(path)
    with pytest.raises(DatasetError, match=message) as refusal:
        open_dataset(ID)
    assert "\n" not in str(refusal.value)
    assert digest(path) == before


def test_a_dataset_that_is_not_there_says_where_it_looked_and_what_to_do(datasets):
    with pytest.raises(
        DatasetError, match=r"test/numbers-v0 is not on disk .*metadata\.json.*langevin data list"
    ):
        open_dataset(ID)
    with pytest.raises(UsageError, match="must read like pointmaze/umaze-v0"):
        open_dataset("somewhere/else")


@pytest.fixture
def dictionary_dataset(datasets):
    """One episode of two steps whose observations are a dictionary, as gymnasium-robotics logs them."""
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    folder = datasets / "goals" / "two-v0" / "data"
    folder.mkdir(parents=True)
    box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    storage = MinariStorage.new(
        folder,
        observation_space=spaces.Dict({"observation": box, "goal": box}),
        action_space=spaces.Box(-1, 1, (1,), np.float32),
    )
    storage.update_metadata({"dataset_id": "goals/two-v0", "minari_version": minari.__version__})
    storage.update_episodes(
        [
            EpisodeBuffer(
                observations={"observation": np.arange(6.0).reshape(3, 2), "goal": np.full((3, 2), 9.0)},
                actions=np.zeros((2, 1), np.float32),
                rewards=np.zeros(2),
                terminations=np.array([False, False]),
                truncations=np.array([False, True]),
            )
        ]
    )
    return "goals/two-v0"


def test_dictionary_observations_are_laid_side_by_side_in_the_order_asked_for(dictionary_dataset):
    data = open_dataset(dictionary_dataset, ("goal", "observation"))
    assert data.observations.tolist() == [[9, 9, 0, 1], [9, 9, 2, 3]]
    assert data.next_observations[-1].tolist() == [9, 9, 4, 5]


def test_dictionary_observations_need_keys_that_they_have(dictionary_dataset, data):
    with pytest.raises(DatasetError, match="a dictionary of goal, observation; say which"):
        open_dataset(dictionary_dataset)
    with pytest.raises(DatasetError, match="no key 'achieved'; they hold goal, observation"):
        open_dataset(dictionary_dataset, ("observation", "achieved"))
    save_dataset(data, ID)
    with pytest.raises(DatasetError, match="plain vectors, but the keys goal were asked for"):
        open_dataset(ID, ("goal",))
