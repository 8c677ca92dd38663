"""One tiny run of every algorithm, made once through the command line."""

from pathlib import Path

import pytest
from tiny_runs import ID, SETTINGS, train_arguments

from langevin.cli import run


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """The folder of datasets, with a small one in it."""
    folder = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        assert run(["data", "make", ID, "--transitions", "3000"]) == 0
    return folder


@pytest.fixture(scope="session")
def target_data(dataset) -> None:
    """Another maze's data beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(dataset))
        assert run(["data", "make", "pointmaze/medium-v0", "--transitions", "1000"]) == 0


@pytest.fixture(scope="session")
def workshop(dataset, tmp_path_factory) -> Path:
    """The folder of runs, one of every algorithm."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(dataset))
        for algorithm in SETTINGS:
            assert run(train_arguments(algorithm, root / algorithm)) == 0
    return root


@pytest.fixture
def at_work(dataset, tmp_path, monkeypatch) -> Path:
    """An empty working directory, with the small dataset at hand."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(dataset))
    monkeypatch.chdir(tmp_path)
    return tmp_path
