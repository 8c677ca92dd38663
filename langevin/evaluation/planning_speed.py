"""How fast a planner decides, and what it scores, drawing its plans by other samplers than its own."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from langevin.diffusion.chain_sampler import ChainMethod, ChainSampler, ChainSampling
from langevin.diffusion.prediction import DDPM
from langevin.errors import UsageError
from langevin.evaluation.speed import Program
from langevin.planners.goal_planner import PlannerPolicy
from langevin.planners.hierarchical import HierarchicalPlanner
from langevin.planners.receding import RecedingPlanner
from langevin.planners.segments import SegmentFiller
from langevin.planners.window_diffusion import WindowDiffusion
from langevin.policies.base import Policy

DECISIONS = 10
"""Of every system in one measured repeat."""


@dataclass(frozen=True)
class Trial:
    """A way to draw plans: the label of its row, and the sampler's settings."""

    label: str
    sampling: ChainSampling

    @property
    def calls(self) -> int:
        """Of the network for a plan, once an episode has begun."""
        return self.sampling.renewed_steps or self.sampling.steps


def trials(chain_steps: int, calls: tuple[int, ...], renews: bool) -> list[Trial]:
    """The full ancestral chain, then every method at every number of calls that is below the chain's steps.

    renews: also "warm", which renews the last plan by the ancestral chain's last so many steps.
    """
    found = [Trial("DDPM", ChainSampling("ancestral", chain_steps))]
    methods: dict[str, ChainMethod] = {"DDPM": "ancestral", "DDIM": "ddim", "DPM-Solver++": "dpm_solver"}
    for count in sorted({count for count in calls if count < chain_steps}, reverse=True):
        found += [Trial(label, ChainSampling(method, count)) for label, method in methods.items()]
        if renews:
            found.append(Trial("DDPM, warm", ChainSampling("ancestral", chain_steps, renewed_steps=count)))
    return found


def first_windows(policy: Policy) -> WindowDiffusion:
    """The windows that a planner draws first.

    Raises UsageError for a policy that plans by no chain, whose steps could be other ones.
    """
    windows = None
    if isinstance(policy, HierarchicalPlanner):
        windows = policy.high.windows
    elif isinstance(policy, RecedingPlanner):
        windows = policy.windows
    elif isinstance(policy, PlannerPolicy):
        windows = policy.model.windows
    if windows is None or not isinstance(windows.process, DDPM):
        raise UsageError(
            f"a {type(policy).__name__} draws no plans by a DDPM chain; measure a run of diffuser on a robot, "
            "decision_diffuser, hierarchical_diffuser, dmemm or off_dynamics"
        )
    return windows


def renews(policy: Policy) -> bool:
    """Whether the whole of a plan can begin at the one before it.

    Plans to a goal are drawn anew, and so is what a hierarchy's low level fills in, by all the calls of its chain.
    """
    return not isinstance(policy, PlannerPolicy | HierarchicalPlanner)


def resampled(policy: Any, sampling: ChainSampling) -> Any:
    """The same planner with another sampler at every level; what guided the old one guides the new one."""
    if isinstance(policy, HierarchicalPlanner):
        levels = {name: resampled(getattr(policy, name), sampling) for name in ("high", "fill")}
        return dataclasses.replace(policy, **levels)
    if isinstance(policy, PlannerPolicy):
        fill = policy.model.fill
        model = dataclasses.replace(policy.model, fill=fill and resampled(fill, sampling))
        sampler = another(policy.sampler, policy.model.windows, sampling)
        return dataclasses.replace(policy, model=model, sampler=sampler)
    assert isinstance(policy, RecedingPlanner | SegmentFiller)
    return dataclasses.replace(policy, sampler=another(policy.sampler, policy.windows, sampling))


def another(sampler: Any, windows: WindowDiffusion, sampling: ChainSampling) -> ChainSampler:
    """A sampler of the same chain with the same guide. A shorter chain than asked for is stepped through whole."""
    assert isinstance(windows.process, DDPM)
    schedule = windows.process.schedule
    steps = min(sampling.steps, schedule.steps)
    renewed = min(sampling.renewed_steps, steps)
    fitting = dataclasses.replace(sampling, steps=steps, renewed_steps=renewed)
    return fitting.sampler(schedule, sampler.guide)


def deciding(policy: Policy, observations: Float[Array, "batch observation"]) -> Program:
    """Decisions of one planner for a batch of systems, each a plan of its own; a unit is one system's decision."""
    if isinstance(policy, HierarchicalPlanner):
        policy = dataclasses.replace(policy, high=dataclasses.replace(policy.high, replan_every=1))
    else:
        policy = dataclasses.replace(policy, replan_every=1)
    batch = observations.shape[0]
    start = eqx.filter_jit(policy.start)(batch)
    keys = jax.random.split(jax.random.key(0), DECISIONS)

    @eqx.filter_jit
    def decide(policy: Policy, memory: Any) -> Any:
        def one(memory, key):
            actions, memory = policy.act(observations, memory, key=key)
            return memory, actions

        return jax.lax.scan(one, memory, keys)

    # The first decision of an episode cannot renew a plan; it is made here, and not counted.
    _, begun = eqx.filter_jit(lambda policy, memory: policy.act(observations, memory, key=keys[0]))(
        policy, start
    )

    def run() -> None:
        jax.block_until_ready(decide(policy, begun)[1])

    return Program(run, DECISIONS * batch, 0.0)
