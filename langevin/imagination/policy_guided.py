"""Policy-guided diffusion as a world (Jackson et al. 2024): windows of the data's distribution, bent to the policy.

Nothing is rolled out: states and actions are drawn together, so there are no start states to be given, and the policy
pulls at the actions while they are (langevin/diffusion/policy_guidance.py). The states follow as far as the model ties
them to the actions.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from langevin.diffusion.heun import Churn
from langevin.diffusion.policy_guidance import ActionDensity, policy_guided
from langevin.diffusion.schedules import KarrasSchedule
from langevin.imagination.window_model import WindowModel
from langevin.imagination.worlds import Imagined, World, acting
from langevin.policies.base import Policy, has_density


class PolicyGuidedWorld(World):
    """Windows of a diffusion model, their actions guided by the policy.

    strength: lambda, the weight of the policy's log density. spread: standard deviation of the Gaussian around the
    action of a policy without a density, where the data's actions span [-1, 1].
    """

    model: WindowModel
    schedule: KarrasSchedule
    churn: Churn
    strength: float = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def imagine(
        self, policy: Policy, starts: Float[Array, "rollouts observation"], horizon: int, *, key: PRNGKeyArray
    ) -> Imagined:
        """One window for each of `starts`, which serve as their number alone."""
        act_key, sample_key = jax.random.split(key)
        log_density = density_of(policy, self.model, self.spread, key=act_key)

        def guide(denoiser):
            return policy_guided(denoiser, self.model.edm, log_density, self.model.actions, self.strength)

        return self.model.sample(starts.shape[0], horizon, self.schedule, self.churn, guide, key=sample_key)


def density_of(policy: Policy, model: WindowModel, spread: float, *, key: PRNGKeyArray) -> ActionDensity:
    """log pi(a | s) of normalised rows and actions, up to a constant.

    The policy's own where it has one. A deterministic policy gets -|a - pi(s)|^2 / (2 spread^2), in normalised actions,
    so that it means the same whatever the actions' units; the paper's form for TD3+BC, with spread 1.
    """

    def log_density(
        rows: Float[Array, "horizon channels"], actions: Float[Array, "horizon action"]
    ) -> Float[Array, " horizon"]:
        raw = model.normalizer.denormalize(rows.at[:, model.actions].set(actions))
        observations = raw[:, model.observations]
        if has_density(policy):
            return policy.log_prob(observations, raw[:, model.actions])
        wanted = raw.at[:, model.actions].set(acting(policy)(observations, key=key))
        away = actions - model.normalizer.normalize(wanted)[:, model.actions]
        return -0.5 * (away**2).sum(axis=-1) / spread**2

    return log_density
