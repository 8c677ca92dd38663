"""Configurations are layered from data files, checked, and survive TOML."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from langevin.errors import UsageError
from langevin.training import presets
from langevin.training.presets import from_toml, load_preset, to_toml


@dataclass(frozen=True)
class BaseConfig:
    alpha: float = 2.5
    widths: tuple[int, ...] = (256, 256)


@dataclass(frozen=True)
class ToyConfig:
    steps: int
    learning_rate: float = 3e-4
    horizon: int | None = None
    filter: Literal["hardmax", "softmax"] = "hardmax"
    clip: bool = False
    bounds: tuple[float, float] = (-1.0, 1.0)
    base: BaseConfig = field(default_factory=lambda: BaseConfig(alpha=1.0))
    share: float | Literal["union"] = 0.5


PRESETS = """
[cpu]
steps = 1000
base.widths = [32]
[cpu."pointmaze/*"]
steps = 2000
learning_rate = 1e-3
[cpu."pointmaze/umaze-v0"]
steps = 3000
base.alpha = 4
[paper]
steps = 1000000
horizon = 100
"""


@pytest.fixture(autouse=True)
def preset_file(tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "toy.toml").write_text(PRESETS)
    monkeypatch.setattr(presets.importlib.resources, "files", lambda package: tmp_path)


def load(preset="cpu", dataset="other-v0", overrides=None):
    return load_preset(ToyConfig, "toy", preset, dataset, overrides)


def test_each_layer_lies_over_the_one_below():
    assert load() == ToyConfig(steps=1000, base=BaseConfig(alpha=1.0, widths=(32,)))
    assert load(dataset="pointmaze/large-v0").steps == 2000
    umaze = load(dataset="pointmaze/umaze-v0", overrides={"base.alpha": 5.0, "clip": True})
    expected = ToyConfig(3000, 1e-3, clip=True, base=BaseConfig(alpha=5.0, widths=(32,)))
    assert umaze == expected
    assert load("paper").horizon == 100
    assert load("paper", overrides={"horizon": None}).horizon is None


def test_a_configuration_survives_toml():
    config = ToyConfig(5, 1e-5, None, "softmax", True, (-2.0, 3.0), BaseConfig(0.0, (8,)))
    assert from_toml(ToyConfig, to_toml(config)) == config
    text = to_toml(ToyConfig(5, horizon=7))
    assert from_toml(ToyConfig, text).horizon == 7


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"learning_rte": 1e-3}, ["unknown key 'learning_rte'", "nearest: learning_rate", "overrides"]),
        ({"base.alpa": 1}, ["unknown key 'base.alpa'", "nearest: alpha"]),
        ({"steps": 1.5}, ["steps must be int, got 1.5 (float)"]),
        ({"steps": True}, ["steps must be int, got True (bool)"]),
        ({"learning_rate": "fast"}, ["learning_rate must be float, got 'fast' (str)"]),
        ({"horizon": "long"}, ["horizon must be int or none, got 'long'"]),
        ({"filter": "max"}, ["filter must be one of hardmax, softmax, got 'max'"]),
        ({"share": "most"}, ["share must be float or union, got 'most'"]),
        ({"bounds": [1.0]}, ["bounds must be tuple[float, float], got [1.0]"]),
        ({"base.widths": [1, "2"]}, ["base.widths[1] must be int, got '2'"]),
        ({"base": 3}, ["base must be a table, got 3"]),
    ],
)
def test_errors_name_the_key_and_what_was_expected(overrides, parts):
    with pytest.raises(UsageError) as raised:
        load(overrides=overrides)
    for part in parts:
        assert part in str(raised.value)


def test_unknown_presets_and_algorithms_are_named():
    with pytest.raises(UsageError, match="no preset 'papr'; nearest: paper"):
        load("papr")
    with pytest.raises(UsageError, match="no presets for algorithm 'toi'"):
        load_preset(ToyConfig, "toi", "cpu", "other-v0")


def test_a_malformed_file_and_a_missing_key_are_usage_errors(tmp_path):
    (tmp_path / "presets" / "toy.toml").write_text("[cpu\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        load()
    with pytest.raises(UsageError, match="'steps' is missing"):
        from_toml(ToyConfig, "learning_rate = 1.0")
