"""The demo's pieces: what it compares, and data it makes once."""

from pathlib import Path

from langevin.data.sources import open_dataset
from langevin.experiments import demo
from langevin.progress import SilentProgress
from langevin.training.algorithms.registry import ALGORITHMS, load_settings

ID = "pointmaze/umaze-v0"


def test_every_algorithm_is_compared_on_the_same_data_in_a_folder_of_its_own(tmp_path):
    requests = demo.requests(ID, tmp_path, 7)
    assert [request.algorithm for request in requests] == ["bc", "td3bc", "dydiff", "diffuser"]
    assert {request.dataset for request in requests} == {ID}
    assert {request.episodes for request in requests} == {7}
    assert len({request.out for request in requests}) == 4
    assert all(request.out.parent == tmp_path for request in requests)
    for request in requests:
        assert request.algorithm in ALGORITHMS
        load_settings(request.algorithm, request.base, request.preset, request.dataset, request.overrides)


def test_dydiff_and_its_base_have_the_same_learner_steps_and_seeds(tmp_path):
    """Or the difference between the two would not be DyDiff's."""
    by_name = {request.algorithm: request for request in demo.requests(ID, tmp_path, 7)}
    base, dydiff = (
        load_settings(name, by_name[name].base, "cpu", ID, by_name[name].overrides)
        for name in ("td3bc", "dydiff")
    )
    assert by_name["dydiff"].base == "td3bc"
    assert dydiff.learner == base.learner
    assert (dydiff.steps, dydiff.batch_size) == (base.steps, base.batch_size)
    assert by_name["dydiff"].seeds == by_name["td3bc"].seeds


def test_a_run_that_was_begun_is_gone_on_with_and_no_other(tmp_path):
    (tmp_path / "td3bc").mkdir()
    assert {request.algorithm for request in demo.requests(ID, tmp_path, 7) if request.resume} == {"td3bc"}


def test_data_are_made_once_and_then_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(demo, "TRANSITIONS", 700)
    said: list[str] = []
    first = demo.demo_data(ID, SilentProgress(), said.append)
    assert first.transitions == open_dataset(ID).transitions == 700
    assert said == ["making pointmaze/umaze-v0: 700 transitions in the simulator"]
    files = {path: path.stat().st_mtime_ns for path in Path(tmp_path).rglob("*") if path.is_file()}
    demo.demo_data(ID, SilentProgress(), said.append)
    assert len(said) == 1
    assert {path: path.stat().st_mtime_ns for path in files} == files
