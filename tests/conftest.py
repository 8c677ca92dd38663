"""Shapes are checked at run time in the tests, and compiled programs are kept between runs."""

import os
from pathlib import Path

from jaxtyping import install_import_hook

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
install_import_hook("langevin", "beartype.beartype")
