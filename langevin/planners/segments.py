"""What happens between two states of a plan that are several steps apart: a low level that fills it in."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from langevin.data.sampling import WindowBatch
from langevin.diffusion.chain_sampler import ChainSampler
from langevin.diffusion.samplers import Sampler
from langevin.planners.window_diffusion import WindowDiffusion


class SegmentFiller(eqx.Module):
    """A diffusion of windows one step a row, both of whose end states are known (HD, low level)."""

    windows: WindowDiffusion
    sampler: Sampler | ChainSampler

    @property
    def jump(self) -> int:
        """Steps from one end to the other."""
        return self.windows.horizon - 1

    def segment(
        self,
        here: Float[Array, " observation"],
        there: Float[Array, " observation"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """Normalised rows from one state to another; raw units in."""
        constraint, condition = self.windows.known(here, there, jnp.int32(self.jump))
        return self.windows.draw(constraint, self.windows.denoiser(condition), self.sampler, key=key)

    def between(
        self, states: Float[Array, "rows observation"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "steps observation"], Float[Array, "steps action"]]:
        """All steps along a row of states, and the actions there; raw units. The last step has no action: 0."""
        keys = jax.random.split(key, states.shape[0] - 1)
        rows = jax.vmap(lambda here, there, key: self.segment(here, there, key=key))(
            states[:-1], states[1:], keys
        )
        inner = rows[:, :-1].reshape(-1, rows.shape[-1])
        observations = self.windows.scale.observations(inner)
        actions = self.windows.scale.actions(inner)
        return jnp.concatenate([observations, states[-1:]]), jnp.pad(actions, ((0, 1), (0, 0)))


def sparse_rows(batch: WindowBatch, jump: int) -> WindowBatch:
    """Every so many-th state, beside all the actions from it to the next one and the sum of their rewards.

    (HD's "dense actions": a state far ahead says little of the way there, and the value of a plan is in the way.) A row
    counts as real where all of its steps are.
    """
    windows, steps = batch.mask.shape
    rows = steps // jump
    return WindowBatch(
        batch.observations[:, ::jump],
        batch.actions.reshape(windows, rows, -1),
        batch.rewards.reshape(windows, rows, jump).sum(axis=2),
        batch.mask.reshape(windows, rows, jump).all(axis=2),
    )


def dense_segments(batch: WindowBatch, jump: int, *, key: PRNGKeyArray) -> WindowBatch:
    """From each window the steps between one state and the one `jump` later, from wherever in it these are real."""
    latest = jnp.maximum(batch.mask.sum(axis=1) - jump - 1, 0)
    starts = jax.random.randint(key, latest.shape, 0, latest + 1)

    def cut(rows: Array, start: Int[Array, ""]) -> Array:
        return jax.lax.dynamic_slice_in_dim(rows, start, jump + 1)

    return jax.tree.map(lambda rows: jax.vmap(cut)(rows, starts), batch)
