"""Telling a trained planner something else than it was made to be told, without training it again."""

from collections.abc import Mapping

import equinox as eqx

from langevin.errors import UsageError
from langevin.planners.receding import RecedingPlanner
from langevin.policies.base import Policy


def with_contexts(
    policy: Policy, bounds: Mapping[str, tuple[float, float]], values: Mapping[str, float]
) -> Policy:
    """The policy told these values in place of its own; contexts that are not named stay as they are.

    bounds: of every context, by name, in the order in which the policy is told them. policy: one, or stacked ones.
    Raises UsageError for a policy that is told nothing, an unknown name and a value outside its bounds.
    """
    if not isinstance(policy, RecedingPlanner) or policy.contexts is None or not bounds:
        raise UsageError(
            "this policy is told no contexts; only a planner trained on some, as off_dynamics, is"
        )
    contexts = policy.contexts
    for name, value in values.items():
        if name not in bounds:
            raise UsageError(f"this planner is told {', '.join(bounds)}, and nothing called {name!r}")
        low, high = bounds[name]
        if not low <= value <= high:
            raise UsageError(f"context {name} lies between {low:.3g} and {high:.3g}, got {value}")
        contexts = contexts.at[..., list(bounds).index(name)].set(value)
    return eqx.tree_at(lambda planner: planner.contexts, policy, contexts)
