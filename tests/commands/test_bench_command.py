"""`langevin bench`: arguments, result, errors; how long anything takes is never asserted."""

import json

import pytest
import tyro

from langevin.commands import bench
from langevin.commands.bench import Bench
from langevin.errors import UsageError
from langevin.evaluation.speed import Program
from langevin.evaluation.workloads import WORKLOADS, Workload

FIELDS = {
    "label", "unit", "units_per_second", "repeats", "compile_seconds", "warm_up_seconds", "flops_per_unit",
    "gflops_per_second", "share_of_peak",
}  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """Workloads that do nothing, and the numbers of seeds they were built for."""
    built = []

    def build(seeds):
        built.append(seeds)
        return Program(lambda: None, units=10, flops=2e9)

    for name, workload in WORKLOADS.items():
        monkeypatch.setitem(WORKLOADS, name, Workload(workload.label, workload.unit, build))
    monkeypatch.setattr(bench, "matmul_peak", lambda seconds: 100.0)
    return built


def test_everything_is_measured_by_default_and_said_in_a_table(quick, capsys):
    result = Bench(seconds=1e-6, seeds=4).run()
    assert list(result["measurements"]) == list(WORKLOADS)
    assert quick == [4] * len(WORKLOADS)
    said = capsys.readouterr().out
    assert "Peak: 100 GFLOP/s" in said


def test_a_measurement_holds_speed_work_share_and_the_time_it_leaves_out(quick):
    result = Bench(only=("unet", "unet"), seconds=1e-6).run()
    assert list(result["measurements"]) == ["unet"]
    measured = result["measurements"]["unet"]
    assert set(measured) == FIELDS
    assert measured["flops_per_unit"] == 2e8
    assert measured["gflops_per_second"] == pytest.approx(0.2 * measured["units_per_second"])
    assert measured["share_of_peak"] == pytest.approx(measured["gflops_per_second"] / 100)
    assert result["machine"]["cores"] >= 1


def test_json_prints_one_object_and_nothing_else(quick, capsys):
    result = Bench(only=("td3bc",), seconds=1e-6, json=True).run()
    assert json.loads(capsys.readouterr().out) == result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ("td3",)}, "--only td3 is nothing that can be measured; did you mean td3bc"),
        ({"only": ("",)}, "nothing that can be measured; choose one of"),
        ({"seconds": 0.0}, "--seconds must be a positive number, got 0.0"),
        ({"seconds": -1.0}, "--seconds must be a positive number"),
        ({"seconds": float("nan")}, "--seconds must be a positive number, got nan"),
        ({"seconds": float("inf")}, "--seconds must be a positive number, got inf"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_anything_is_built(options, message, quick):
    with pytest.raises(UsageError, match=message) as refusal:
        Bench(**options).run()
    assert "\n" not in str(refusal.value)
    assert quick == []


def test_the_command_line_reads_every_option():
    parsed = tyro.cli(Bench, args=["--only", "td3bc", "unet", "--seconds", "2", "--seeds", "5", "--json"])
    assert parsed == Bench(only=("td3bc", "unet"), seconds=2.0, seeds=5, json=True)
