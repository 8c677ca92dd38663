"""Whether the two models behind the off-dynamics planner's contexts can be trusted.

A classifier that is sure of every transition gives all windows a score of -1 or 1: then the score is the one-hot label
that it was meant to improve on, and nothing between the two systems was learned. The planner would not show it.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from langevin.data.sampling import Transitions
from langevin.dynamics.domain_classifier import DomainClassifier, DynamicsClassifier
from langevin.dynamics.inverse import InverseModel
from langevin.planners.off_dynamics_contexts import BOUNDS, CONTEXTS, ContextName

BINS = 40
CALIBRATION_BINS = 10
SATURATED = 0.95
"""Size from which a score counts as at its end."""


class Diagnostics(eqx.Module):
    """Both datasets' contexts, and both models on rows they never saw. Of two entries the first is the source's.

    dynamics, inverse: share of the windows in each of `BINS` bins over the context's bounds. typical: the mean contexts
    of each dataset. saturated: share of the windows whose score is at an end, each dataset counted half. predicted,
    observed, counted: in bins of the classifier's probability its mean, how often it was the target, and out of how
    many rows. accuracy: of the classifier. unexplained: the inverse model's square error on the target, as a share of
    the actions' variance.
    """

    dynamics: Float[Array, "systems bins"]
    inverse: Float[Array, "systems bins"]
    typical: Float[Array, "systems contexts"]
    saturated: Float[Array, ""]
    predicted: Float[Array, " calibration_bins"]
    observed: Float[Array, " calibration_bins"]
    counted: Float[Array, " calibration_bins"]
    accuracy: Float[Array, ""]
    unexplained: Float[Array, ""]

    @property
    def calibration_error(self) -> Float[Array, ""]:
        """Mean distance between predicted and observed, bins weighted by their rows."""
        return (self.counted * jnp.abs(self.predicted - self.observed)).sum() / self.counted.sum()


def diagnose(
    source: Float[Array, "source_windows contexts"],
    target: Float[Array, "target_windows contexts"],
    classifier: DomainClassifier | DynamicsClassifier,
    inverse: InverseModel,
    held_out: tuple[Transitions, Transitions],
) -> Diagnostics:
    """From all windows' contexts, and from as many rows of the source as of the target."""
    systems = (source, target)
    # A difference of log odds is no probability of where a row came from; the classifier of transitions has one.
    judged = classifier.transition if isinstance(classifier, DynamicsClassifier) else classifier
    probability = jnp.concatenate([judged.probability(rows) for rows in held_out])
    of_target = jnp.repeat(jnp.array([0.0, 1.0]), held_out[0].size, total_repeat_length=probability.size)
    scores = [part[:, CONTEXTS.index("dynamics")] for part in systems]
    return Diagnostics(
        dynamics=jnp.stack([histogram(part, "dynamics") for part in systems]),
        inverse=jnp.stack([histogram(part, "inverse") for part in systems]),
        typical=jnp.stack([part.mean(axis=0) for part in systems]),
        saturated=jnp.stack([(jnp.abs(part) > SATURATED).mean() for part in scores]).mean(),
        **calibration(probability, of_target),
        accuracy=((probability > 0.5) == (of_target > 0.5)).mean(),
        unexplained=unexplained(inverse, held_out[1]),
    )


def histogram(contexts: Float[Array, "windows contexts"], name: ContextName) -> Float[Array, " bins"]:
    """The share of the windows in each bin over a context's bounds."""
    values = jnp.clip(
        contexts[:, CONTEXTS.index(name)], *BOUNDS[name]
    )  # a mean may be a rounding error beyond
    return jnp.histogram(values, BINS, BOUNDS[name])[0] / values.size


def calibration(
    probability: Float[Array, " rows"], of_target: Float[Array, " rows"]
) -> dict[str, Float[Array, " calibration_bins"]]:
    """Predicted and observed frequency of the target in bins of the prediction; 0 in empty ones."""
    place = jnp.clip((CALIBRATION_BINS * probability).astype(jnp.int32), 0, CALIBRATION_BINS - 1)
    total = lambda values: jnp.zeros(CALIBRATION_BINS).at[place].add(values)
    counted = total(jnp.ones_like(probability))
    mean = lambda values: total(values) / jnp.maximum(counted, 1)
    return {"predicted": mean(probability), "observed": mean(of_target), "counted": counted}


def unexplained(inverse: InverseModel, rows: Transitions) -> Float[Array, ""]:
    """Square error of the actions found, as a share of their variance: 0 is perfect, 1 no better than the mean."""
    errors = (inverse.predict(rows.observations, rows.next_observations) - rows.actions) ** 2
    return errors.mean() / jnp.maximum(rows.actions.var(axis=0).mean(), 1e-12)
