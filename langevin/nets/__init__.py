"""Networks: plain Equinox modules that take one example; `jax.vmap` adds the batch, then the seeds."""
