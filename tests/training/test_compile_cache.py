"""Compiled programs are kept in the user's cache folder unless the environment says where."""

from pathlib import Path

import jax
import pytest

from langevin.training.compile_cache import enable_compile_cache


@pytest.fixture(autouse=True)
def keep_configuration():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_environment_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    assert enable_compile_cache() == tmp_path / "mine"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_the_default_lies_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert enable_compile_cache() == tmp_path / "langevin" / "jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert enable_compile_cache() == Path.home() / ".cache" / "langevin" / "jax"
