"""Which sampler draws from an EDM model, as a setting."""

from typing import Literal

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.constraints import Constraint
from langevin.diffusion.ddim import ddim_sample
from langevin.diffusion.dpm_solver import dpm_solver_sample
from langevin.diffusion.heun import Churn, heun_sample
from langevin.diffusion.levels import Denoiser
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError

SamplerName = Literal["heun", "dpm_solver", "ddim"]


class Sampler(eqx.Module):
    """A method and the noise levels it steps through.

    method: "heun" (the papers': two network calls a step but for the last), "dpm_solver" or "ddim" (one call a step).
    churn: fresh noise in each step, for "heun" alone. Raises UsageError for churn with another method.
    """

    method: SamplerName = eqx.field(static=True, default="heun")
    schedule: KarrasSchedule = KarrasSchedule()
    churn: Churn = Churn()

    def __check_init__(self):
        if self.method != "heun" and self.churn.amount:
            raise UsageError(
                f"churn.amount must be 0 with sampler {self.method!r}, for only heun adds noise; "
                f"got {self.churn.amount:g}"
            )

    @property
    def calls(self) -> int:
        """How often the denoiser is asked for one sample."""
        return 2 * self.schedule.steps - 1 if self.method == "heun" else self.schedule.steps

    def draw(
        self,
        denoiser: Denoiser,
        constraint: Constraint,
        guess: Float[Array, "horizon channels"] | None = None,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "horizon channels"]:
        """One sample from noise, or from a guess noised to the highest level, with the constraint's entries held."""
        if self.method == "heun":
            return heun_sample(denoiser, constraint, self.schedule, self.churn, guess, key=key)
        one_call_a_step = {"dpm_solver": dpm_solver_sample, "ddim": ddim_sample}[self.method]
        return one_call_a_step(denoiser, constraint, self.schedule.levels(), guess=guess, key=key)
