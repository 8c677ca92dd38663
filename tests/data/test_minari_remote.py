"""Minari's server, played by a function that does with the folder what Minari's client does."""

import os
from pathlib import Path

import minari
import pytest

from langevin.data.sources import open_dataset
from langevin.data.sources.minari import save_dataset
from langevin.errors import DatasetError, LangevinError, UsageError

ID = "mujoco/hopper/medium-v0"


@pytest.fixture
def server(numbered, datasets, monkeypatch):
    """Calls of the client; it writes the dataset below the folder that Minari is told of."""
    calls = []

    def fetch(dataset_id):
        calls.append(dataset_id)
        folder = Path(os.environ["MINARI_DATASETS_PATH"])
        (folder / ".cache").mkdir(parents=True, exist_ok=True)
        if not (folder / dataset_id).exists():
            save_dataset(numbered([3, 5]), dataset_id)

    monkeypatch.setattr(minari, "download_dataset", fetch)
    return calls


def test_a_remote_dataset_is_fetched_once_to_where_minari_keeps_it(server, datasets):
    for _ in range(2):
        assert open_dataset(f"minari:{ID}").episode_lengths().tolist() == [3, 5]
    assert open_dataset(ID).transitions == 8
    assert server == [ID]
    assert sorted(os.listdir(datasets)) == ["mujoco"]
    assert os.environ["MINARI_DATASETS_PATH"] == str(datasets)


def test_what_a_broken_download_left_is_not_taken_for_the_dataset(server, datasets):
    (datasets / ".downloads" / ID / "data").mkdir(parents=True)
    assert open_dataset(f"minari:{ID}").transitions == 8


@pytest.mark.parametrize("already_there", [True, False])
def test_minari_is_told_its_own_folder_again_after_a_failure(already_there, datasets, monkeypatch):
    if not already_there:
        monkeypatch.delenv("MINARI_DATASETS_PATH")
        monkeypatch.setenv("HOME", str(datasets.parent))
    before = os.environ.get("MINARI_DATASETS_PATH")

    def fail(*arguments, **named):
        raise ConnectionError("[Errno -2] Name or service\nnot known")

    monkeypatch.setattr(minari, "download_dataset", fail)
    with pytest.raises(LangevinError, match=r"Name or service not known.*download it elsewhere") as refusal:
        open_dataset(f"minari:{ID}")
    assert "\n" not in str(refusal.value)
    assert os.environ.get("MINARI_DATASETS_PATH") == before
    assert not (datasets / "mujoco").exists()


def test_without_the_hubs_client_the_error_says_what_to_install(datasets, monkeypatch):
    def fail(*arguments, **named):
        raise ImportError("huggingface_hub is not installed")

    monkeypatch.setattr(minari, "download_dataset", fail)
    with pytest.raises(LangevinError, match=r"pip install 'langevin\[remote\]'"):
        open_dataset(f"minari:{ID}")


@pytest.mark.parametrize("name", ["hopper", "../x-v0", "a b-v0", "hf://elsewhere/x-v0"])
def test_a_malformed_remote_id_is_refused_before_anything_is_asked(name, server, datasets):
    with pytest.raises(UsageError, match="must read like"):
        open_dataset(f"minari:{name}")
    assert server == []
    assert not datasets.exists()


def test_an_id_of_minaris_server_that_is_not_on_disk_says_how_to_fetch_it(datasets):
    with pytest.raises(DatasetError, match=f"is not on disk .*`minari:{ID}` fetches it"):
        open_dataset(ID)
