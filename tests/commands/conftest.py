"""One tiny run of every algorithm, made once through the command line."""

from pathlib import Path

import pytest
from tiny_runs import ID, SETTINGS, Workshop, train_arguments

from langevin.cli import run


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("workshop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "datasets"))
        assert run(["data", "make", ID, "--transitions", "3000"]) == 0
        for algorithm in SETTINGS:
            assert run(train_arguments(algorithm, root / "runs" / algorithm)) == 0
    return Workshop(root / "datasets", root / "runs")


@pytest.fixture
def at_work(workshop, tmp_path, monkeypatch) -> Path:
    """An empty working directory, beside the workshop's dataset."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(workshop.datasets))
    monkeypatch.chdir(tmp_path)
    return tmp_path
