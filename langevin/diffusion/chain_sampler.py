"""Which sampler draws from a DDPM, and whether something guides it, as a setting."""

from typing import Literal

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.ddim import ddim_sample
from langevin.diffusion.ddpm import DiscreteSchedule
from langevin.diffusion.dpm_solver import dpm_solver_sample
from langevin.diffusion.levels import Denoiser, Guide, Levels, unmoved
from langevin.errors import UsageError, require_at_least, require_between

ChainMethod = Literal["ancestral", "ddim", "dpm_solver"]


class ChainSampling(eqx.Module):
    """Settings of a sampler.

    method: "ancestral" (the papers': fresh noise in every step), "ddim" or "dpm_solver" (none). steps: network calls
    of one sample, evenly spread over the chain. temperature: of all noise. renewed_steps: of a sample that renews an
    earlier one, the last so many steps are taken from that one noised; 0 always begins at pure noise.
    """

    method: ChainMethod = eqx.field(static=True, default="ancestral")
    steps: int = eqx.field(static=True, default=20)
    temperature: float = eqx.field(static=True, default=1.0)
    renewed_steps: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        require_at_least(1, steps=self.steps)
        require_at_least(0, temperature=self.temperature, renewed_steps=self.renewed_steps)
        if self.renewed_steps > self.steps:
            raise UsageError(
                f"renewed_steps must be at most steps ({self.steps}), for it counts the last of them; "
                f"got {self.renewed_steps}"
            )

    def sampler(self, schedule: DiscreteSchedule, guide: Guide = unmoved) -> "ChainSampler":
        """The sampler for a chain. Raises UsageError for more steps than the chain has."""
        require_between(1, schedule.steps, steps=self.steps)
        return ChainSampler(
            schedule.evenly(self.steps), guide, self.method, self.temperature, self.renewed_steps
        )


class ChainSampler(eqx.Module):
    """A sampler of a discrete chain; see `ChainSampling` for its fields. guide: moves every step but the last."""

    levels: Levels
    guide: Guide
    method: ChainMethod = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    renewed_steps: int = eqx.field(static=True)

    def draw(
        self,
        denoiser: Denoiser,
        constraint: Constraint,
        *,
        guess: Float[Array, "horizon channels"] | None = None,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """One sample, with the constraint's entries held; with a guess, from that one noised `renewed_steps` high."""
        levels = self.levels if guess is None else self.levels.last(self.renewed_steps)
        if self.method == "dpm_solver":
            return dpm_solver_sample(
                denoiser, constraint, levels, self.temperature, self.guide, guess, key=key
            )
        eta = 1.0 if self.method == "ancestral" else 0.0
        return ddim_sample(denoiser, constraint, levels, eta, self.temperature, self.guide, guess, key=key)
