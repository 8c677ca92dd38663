"""Keep compiled programs between runs, so that each is compiled once on a machine."""

import os
from pathlib import Path

import jax


def enable_compile_cache() -> Path:
    """Turn on JAX's persistent cache, and say where it is.

    The folder is the environment's JAX_COMPILATION_CACHE_DIR if set, else ``langevin/jax`` in the user's
    cache folder (XDG_CACHE_HOME, or ``~/.cache``).
    """
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or Path(user_cache) / "langevin" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return Path(folder)
