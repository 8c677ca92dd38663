"""Algorithms by name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langevin.errors import UsageError
from langevin.imagination.worlds import DynamicsWorld, World
from langevin.policies.base import Learner
from langevin.policies.bc import BC
from langevin.policies.bcq import BCQ
from langevin.policies.bear import BEAR
from langevin.policies.cql import CQL
from langevin.policies.diffusion_ql import DiffusionQL
from langevin.policies.iql import IQL
from langevin.policies.sac import SAC
from langevin.policies.td3bc import TD3BC
from langevin.training.algorithms import (
    adept,
    combo,
    decision_diffuser,
    decision_transformer,
    diffuser,
    dmemm,
    dydiff,
    hdmi,
    hierarchical_diffuser,
    model_based,
    mopo,
    morel,
    mppi,
    mtdiff,
    off_dynamics,
    offline,
    policy_guided,
    rvs,
    single_step,
    synther,
    trajectory_transformer,
    veteran,
)
from langevin.training.algorithms import transfer as transfers
from langevin.training.algorithms.system import Results, System
from langevin.training.presets import load_preset, to_table
from langevin.training.stage import Stage


@dataclass(frozen=True)
class Algorithm:
    """How a name on the command line becomes stages of training."""

    label: str
    """The name people know it by."""
    config_class: Callable[[str | None], type]
    """The class of its settings, given the name of the base learner."""
    prepare: Callable[..., Any]
    """Settings and trajectories (a source's and a target's where there are two) -> what its stages draw from."""
    stages: Callable[[Any, System], list[Stage]]
    takes_base: bool = False
    """Whether it is an add-on over a base learner."""
    default_base: str = "td3bc"
    """The learner an add-on stands on when none is named."""
    imagines: bool = False
    """Whether it predicts episodes, and so must know when one ends."""
    learning_curve: bool = True
    """Whether its policy is evaluated during training, not only at the end."""
    world: Callable[[Any, System, Results], DynamicsWorld] | None = None
    """Settings, system and finished stages -> the world model it learned, in which any policy can be judged."""
    draws: Callable[[Any, Results], World] | None = None
    """Settings and finished stages -> what it synthesises experience with, a model that answers no actions."""
    takes_target: bool = False
    """Whether it learns from a source and a target by itself, and so needs both datasets."""
    contexts: Callable[[Any], Mapping[str, tuple[float, float]]] | None = None
    """Settings -> the numbers that its policy is told when it acts, in their order, and the bounds of each."""
    figures: Callable[[Results], Mapping[str, tuple[Any, str]]] | None = None
    """Finished stages, stacked over seeds -> pictures for the run folder, by name: figure and caption."""
    finetune_stages: Callable[[Any, System], list[Stage]] | None = None
    """Of what is no learner of transitions and can be fine-tuned all the same: its stages on a source and a target."""
    remarks: Callable[[Sequence[Mapping[str, Any]]], list[str]] | None = None
    """The records of a finished run -> sentences of what in them a person must know; an empty list if nothing."""
    warning: Callable[[Mapping[str, Any]], str | None] | None = None
    """A record of a run that goes on -> what a person should know at once; None if nothing."""


LEARNERS: dict[str, type[Learner]] = {
    "bc": BC,
    "td3bc": TD3BC,
    "sac": SAC,
    "cql": CQL,
    "iql": IQL,
    "bcq": BCQ,
    "bear": BEAR,
    "diffusion_ql": DiffusionQL,
}
LABELS = {
    "bc": "BC",
    "td3bc": "TD3+BC",
    "sac": "SAC",
    "cql": "CQL",
    "iql": "IQL",
    "bcq": "BCQ",
    "bear": "BEAR",
    "diffusion_ql": "Diffusion-QL",
}


def offline_config(name: str) -> type:
    """The settings of a learner's own training."""
    return offline.with_learner(offline.OfflineConfig, LEARNERS[name])


ALGORITHMS = {
    name: Algorithm(LABELS[name], lambda base, name=name: offline_config(name), offline.prepare, offline.stages)
    for name in LEARNERS
} | {
    "dydiff": Algorithm(
        "DyDiff",
        lambda base: offline.with_learner(dydiff.DyDiffConfig, LEARNERS[base or "td3bc"]),
        dydiff.prepare, dydiff.stages, takes_base=True, imagines=True, world=dydiff.learned_world,
    ),
    "single_step": Algorithm(
        "ensemble rollouts",
        lambda base: offline.with_learner(single_step.SingleStepConfig, LEARNERS[base or "td3bc"]),
        single_step.prepare, single_step.stages, takes_base=True, imagines=True,
        world=model_based.ensemble_world,
    ),
    "adept": Algorithm(
        "ADEPT",
        lambda base: offline.with_learner(adept.ADEPTConfig, LEARNERS[base or "iql"]),
        adept.prepare, adept.stages, takes_base=True, default_base="iql", remarks=adept.remarks,
        warning=adept.warning, world=adept.learned_world,
    ),
    "synther": Algorithm(
        "SynthER", lambda base: offline.with_learner(synther.SynthERConfig, LEARNERS[base or "td3bc"]),
        synther.prepare, synther.stages, takes_base=True, draws=synther.drawn_world,
    ),
    "mtdiff": Algorithm(
        "MTDiff-s", lambda base: offline.with_learner(mtdiff.MTDiffConfig, LEARNERS[base or "td3bc"]),
        mtdiff.prepare, mtdiff.stages, takes_base=True, draws=mtdiff.drawn_world,
    ),
    "policy_guided": Algorithm(
        "policy-guided diffusion",
        lambda base: offline.with_learner(policy_guided.PolicyGuidedConfig, LEARNERS[base or "td3bc"]),
        mtdiff.prepare, policy_guided.stages, takes_base=True, draws=policy_guided.drawn_world,
    ),
    "mopo": Algorithm(
        "MOPO", lambda base: mopo.MOPOConfig, model_based.prepare, mopo.stages, imagines=True,
        world=model_based.ensemble_world,
    ),
    "combo": Algorithm(
        "COMBO", lambda base: combo.COMBOConfig, model_based.prepare, combo.stages, imagines=True,
        world=model_based.ensemble_world,
    ),
    "morel": Algorithm(
        "MOReL (SAC)", lambda base: morel.MOReLConfig, model_based.prepare, morel.stages, imagines=True,
        world=model_based.ensemble_world,
    ),
    "mppi": Algorithm(
        "MPPI", lambda base: mppi.MPPIConfig, model_based.prepare, mppi.stages, imagines=True,
        learning_curve=False, world=model_based.ensemble_world,
    ),
    "diffuser": Algorithm(
        "Diffuser", lambda base: diffuser.DiffuserConfig, diffuser.prepare, diffuser.stages,
        learning_curve=False, finetune_stages=diffuser.finetune_stages,
    ),
    "decision_diffuser": Algorithm(
        "Decision Diffuser", lambda base: decision_diffuser.DecisionDiffuserConfig,
        decision_diffuser.prepare, decision_diffuser.stages, learning_curve=False,
    ),
    "veteran": Algorithm(
        "Diffusion Veteran-like", lambda base: veteran.VeteranConfig, veteran.prepare, veteran.stages,
        learning_curve=False,
    ),
    "hierarchical_diffuser": Algorithm(
        "Hierarchical Diffuser", lambda base: hierarchical_diffuser.HierarchicalDiffuserConfig,
        hierarchical_diffuser.prepare, hierarchical_diffuser.stages, learning_curve=False,
    ),
    "hdmi": Algorithm(
        "HDMI", lambda base: hdmi.HDMIConfig, hdmi.prepare, hdmi.stages, learning_curve=False
    ),
    "off_dynamics": Algorithm(
        "off-dynamics planner", lambda base: off_dynamics.OffDynamicsConfig, off_dynamics.prepare,
        off_dynamics.stages, learning_curve=False, takes_target=True, contexts=off_dynamics.context_bounds,
        figures=off_dynamics.figures, remarks=off_dynamics.remarks,
    ),
    "dmemm": Algorithm(
        "DMEMM", lambda base: dmemm.DMEMMConfig, dmemm.prepare, dmemm.stages, learning_curve=False
    ),
    "rvs": Algorithm("RvS", lambda base: rvs.RvSConfig, rvs.prepare, rvs.stages),
    "decision_transformer": Algorithm(
        "Decision Transformer",
        lambda base: decision_transformer.DecisionTransformerConfig,
        decision_transformer.prepare, decision_transformer.stages,
    ),
    "trajectory_transformer": Algorithm(
        "Trajectory Transformer",
        lambda base: trajectory_transformer.TrajectoryTransformerConfig,
        trajectory_transformer.prepare, trajectory_transformer.stages, learning_curve=False,
    ),
}  # fmt: skip


TransferName = Literal["finetune", "dara"]
TRANSFERS: dict[TransferName, tuple[str, type, Callable[[Any, System], list[Stage]]]] = {
    "finetune": ("fine-tuned", transfers.FineTuneConfig, transfers.finetune_stages),
    "dara": ("DARA", transfers.DARAConfig, transfers.dara_stages),
}


def find_algorithm(name: str, transfer: TransferName | None = None) -> Algorithm:
    """The algorithm of a name; with a transfer, its form that learns from a source and a target.

    Raises UsageError for an unknown name, and for a transfer of what cannot take it.
    """
    if name not in ALGORITHMS:
        raise UsageError(f"there is no algorithm {name!r}; choose one of {', '.join(ALGORITHMS)}")
    alone = ALGORITHMS[name]
    if transfer is None:
        return alone
    if alone.takes_target:
        raise UsageError(f"{name} learns from both datasets by itself; give --target-dataset alone")
    if transfer == "finetune" and alone.finetune_stages is not None:
        return dataclasses.replace(
            alone,
            label=f"{alone.label} + fine-tuned",
            config_class=lambda base: transfers.with_transfer(
                alone.config_class(base), transfers.FineTuneConfig
            ),
            prepare=transfers.prepare_both(alone.prepare),
            stages=alone.finetune_stages,
        )
    if name not in LEARNERS:
        able = [*LEARNERS, *(name for name, other in ALGORITHMS.items() if other.finetune_stages is not None)]
        raise UsageError(
            f"{name} cannot learn from a source and a target; choose one of "
            f"{', '.join(able if transfer == 'finetune' else LEARNERS)}"
        )
    label, config_class, stages = TRANSFERS[transfer]
    return Algorithm(
        f"{LABELS[name]} + {label}",
        lambda base: transfers.with_transfer(offline_config(name), config_class),
        transfers.prepare, stages,
    )  # fmt: skip


def require_datasets(
    name: str, algorithm: Algorithm, transfer: TransferName | None, target: str | None
) -> None:
    """Raises UsageError where a target's data are missing, or nobody would learn from them."""
    if algorithm.takes_target and target is None:
        raise UsageError(
            f"{name} learns from a source and a target: name the target's data too (--target-dataset)"
        )
    if transfer is not None and target is None:
        raise UsageError(f"{transfer} learns from a source and a target: name the target's data too")
    if transfer == "dara" and name == "bc":
        raise UsageError(
            "bc heeds no rewards, which are all that DARA changes; take a learner that does, as cql or bcq"
        )
    if target is not None and not algorithm.takes_target and transfer is None:
        raise UsageError(
            f"{name} learns from one dataset; leave out the target's, or learn from both by --dara or --finetune-on "
            '(from Python transfer="dara" or "finetune")'
        )


def load_settings(
    name: str,
    base: str | None,
    preset: str,
    dataset_id: str,
    overrides: Mapping[str, Any],
    transfer: TransferName | None = None,
) -> Any:
    """An algorithm's settings from its preset; an add-on's learner has its own preset's settings and gradient steps, so
    that the two compare at equal steps, and where the add-on can scale rewards, its own preset's scale.

    Raises UsageError for an unknown preset or setting, and for a base where none fits or an unknown one.
    """
    algorithm = find_algorithm(name, transfer)
    if not algorithm.takes_base:
        if base is not None:
            raise UsageError(f"{name} takes no --base; only add-ons such as dydiff do")
        return load_preset(algorithm.config_class(None), name, preset, dataset_id, overrides)
    base = base or algorithm.default_base
    if base not in LEARNERS:
        raise UsageError(f"--base {base} is not a learner; choose one of {', '.join(LEARNERS)}")
    config_class, alone = (
        algorithm.config_class(base),
        load_preset(offline_config(base), base, preset, dataset_id),
    )
    below = {"steps": alone.steps} | {
        f"{part}.{key}": value
        for part in ("learner", "rewards")
        if any(field.name == part for field in dataclasses.fields(config_class))
        for key, value in to_table(getattr(alone, part)).items()
    }
    return load_preset(config_class, name, preset, dataset_id, below | dict(overrides))


def label_of(name: str, base: str | None, transfer: TransferName | None = None) -> str:
    """The name shown in tables, as "TD3+BC + DyDiff"."""
    label, algorithm = find_algorithm(name, transfer).label, ALGORITHMS[name]
    return f"{LABELS[base or algorithm.default_base]} + {label}" if algorithm.takes_base else label
