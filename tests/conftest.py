"""Shapes are checked at run time in the tests, and compiled programs are kept between runs."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
install_import_hook("langevin", "beartype.beartype")


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Drop a module's compiled programs when it is done.

    Each takes memory maps, and Linux gives a process 65,530: a worker that kept the whole suite's would crash.
    """
    yield
    import jax  # reads the environment above when it is first imported

    jax.clear_caches()
    gc.collect()
