"""Shapes are checked at run time in the tests; compiled programs are made quickly and kept between runs."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
install_import_hook("langevin", "beartype.beartype")


QUICKLY = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",  # the older ones compile a fused loop in half the time
)


def pytest_configure(config: pytest.Config) -> None:
    """Compile quickly, except for the slow tests: a tiny network takes longer to optimise than to run.

    XLA reads its flags when it first compiles, in each worker.
    """
    if config.option.markexpr != "slow":
        os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *QUICKLY)).strip()


MOST_MAPS = 20_000
"""Memory maps of a worker at the end of a module. Linux allows 65,530: there is room for any one module more."""


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Drop compiled programs once they take many memory maps: a worker that kept the whole suite's would crash."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        import jax  # reads the environment above when it is first imported

        jax.clear_caches()
        gc.collect()
