"""A stage's functions mapped over seeds and compiled, with a guard that freezes a seed when it diverges."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PyTree

from langevin.errors import LangevinError, UsageError
from langevin.training.stage import Stage

_INIT, _EPOCH, _UPDATE = range(3)

COMPILE_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""For a program that runs once or seldom: the random numbers of a U-Net's first weights take XLA 25 s to compile
with all its optimisations and 3 s without, to save milliseconds of the one time they are drawn."""


def seed_keys(seeds: Sequence[int]) -> Key[Array, "seeds"]:
    """One random key per seed. The generator is named because only a counter-based one gives a seed the same
    numbers whatever is mapped beside it."""
    if not seeds:
        raise UsageError("at least one seed is needed, got an empty list")
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"seeds must differ from one another, got {list(seeds)}")
    if min(seeds) < 0 or max(seeds) >= 2**32:
        raise UsageError(f"seeds must lie in 0 … 2**32 - 1, got {list(seeds)}")
    return jax.vmap(lambda seed: jax.random.key(seed, impl="threefry2x32"))(np.asarray(seeds, np.uint32))


class StagePrograms:
    """The compiled programs of one stage, over seeds on the leading axis of `state`, `alive` and `results`.

    Every random key is derived from the seed, the stage's place in the run and the step, so no key is ever
    carried or saved. `advance` compiles once per chunk length, everything else once.
    """

    def __init__(
        self, stage: Stage, index: int, data: PyTree, results: dict[str, PyTree], seeds: Sequence[int]
    ):
        keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(seed_keys(seeds))
        self._stage = stage
        self._shared = (data, results, keys)
        # The guard is a program of its own: in one program with the updates it makes XLA compile five times
        # longer. So the old state lives until the new one is known to be good, and is not given away.
        self._advance = eqx.filter_jit(self._advance_seeds)
        self._begin = eqx.filter_jit(self._begin_seeds)
        self._judge = _quick_jit(eqx.filter_vmap(self._judge_seed))
        self._choose = _quick_jit(eqx.filter_vmap(_choose))
        self._running = eqx.filter_jit(eqx.filter_vmap(lambda state, alive: alive & ~self._done(state)))
        self._policies = eqx.filter_jit(eqx.filter_vmap(lambda state, results: stage.policy(state, results)))  # type: ignore
        self._init = _quick_jit(self._init_seeds)
        self._finish = _quick_jit(self._finish_seeds)

    def init(self) -> PyTree:
        """The stage's first state, one per seed."""
        return _own_buffers(self._init(*self._shared))

    def like(self) -> PyTree:
        """Shapes and dtypes of the stage's state while it trains; `data` and `results` may be shapes as
        well."""
        return eqx.filter_eval_shape(self._init_seeds, *self._shared)

    def finished_like(self) -> PyTree:
        """Shapes and dtypes of the stage's finished state."""
        return eqx.filter_eval_shape(self._finish_seeds, self.like(), *self._shared[:2])

    def advance(
        self, state: PyTree, alive: Bool[np.ndarray, "seeds"], step: int, length: int
    ) -> tuple[PyTree, Bool[np.ndarray, "seeds"], dict[str, np.ndarray]]:
        """`length` updates from `step` on: the new state, who is still alive, each metric's mean per seed.

        A seed that diverged comes back dead, with the state it had before.
        """
        new, metrics = self._advance((*self._shared, jnp.int32(step)), state, length)
        return self._guard(new, state, alive, metrics)

    def begin_epoch(
        self, state: PyTree, alive: Bool[np.ndarray, "seeds"], step: int
    ) -> tuple[PyTree, Bool[np.ndarray, "seeds"], dict[str, np.ndarray]]:
        """The stage's `begin_epoch` before update number `step`, guarded as in `advance`."""
        new, metrics = self._begin((*self._shared, jnp.int32(step)), state)
        return self._guard(new, state, alive, metrics)

    def _guard(
        self, new: PyTree, old: PyTree, alive: Bool[np.ndarray, "seeds"], metrics: dict[str, Array]
    ) -> tuple[PyTree, Bool[np.ndarray, "seeds"], dict[str, np.ndarray]]:
        """The new state for a seed that runs and stayed finite, the old one for any other."""
        keep, survivors, measured = jax.device_get(
            (*self._judge(new, old, jnp.asarray(alive), metrics), metrics)
        )
        return new if keep.all() else self._choose(new, old, jnp.asarray(keep)), survivors, measured

    def running(self, state: PyTree, alive: Bool[np.ndarray, "seeds"]) -> Bool[np.ndarray, "seeds"]:
        """Which seeds are alive and not done."""
        if self._stage.done is None:
            return alive
        return np.asarray(self._running(state, jnp.asarray(alive)))

    def finish(self, state: PyTree) -> PyTree:
        """The finished state, one per seed."""
        if self._stage.finish is None:
            return state
        return _own_buffers(self._finish(state, *self._shared[:2]))

    def policies(self, state: PyTree) -> PyTree:
        """The stage's policies, stacked over seeds."""
        return self._policies(state, self._shared[1])

    def _init_seeds(self, data, results, keys):
        def one_seed(results, key):
            return self._stage.init(data, results, key=jax.random.fold_in(key, _INIT))

        return eqx.filter_vmap(one_seed)(results, keys)

    def _finish_seeds(self, state, data, results):
        if self._stage.finish is None:
            return state
        finish = self._stage.finish
        return eqx.filter_vmap(lambda state, results: finish(state, data, results))(state, results)

    def _advance_seeds(self, shared, states, length):
        data, results, keys, start = shared
        steps = start + jnp.arange(length, dtype=jnp.int32)

        def one_seed(state, results, key):
            update_key = jax.random.fold_in(key, _UPDATE)
            arrays, rest = eqx.partition(state, eqx.is_array)

            def update(arrays, step):
                state, step_key = eqx.combine(arrays, rest), jax.random.fold_in(update_key, step)
                new, metrics = self._stage.update(state, data, results, step=step, key=step_key)
                _check_form(new, state, f"stage {self._stage.name!r}: update")
                return eqx.filter(new, eqx.is_array), metrics

            new_arrays, history = jax.lax.scan(update, arrays, steps)
            metrics = {name: jnp.mean(values, dtype=jnp.float32) for name, values in history.items()}
            return eqx.combine(new_arrays, rest), metrics

        return _over_seeds(one_seed, states, results, keys)

    def _begin_seeds(self, shared, states):
        data, results, keys, step = shared

        def one_seed(state, results, key):
            epoch_key = jax.random.fold_in(jax.random.fold_in(key, _EPOCH), step)
            new, metrics = self._stage.begin_epoch(state, data, results, step=step, key=epoch_key)  # type: ignore
            _check_form(new, state, f"stage {self._stage.name!r}: begin_epoch")
            metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
            return new, metrics

        return _over_seeds(one_seed, states, results, keys)

    def _judge_seed(self, new, old, alive, metrics):
        """Whether a seed takes the new state, and whether it is alive after it."""
        running = alive & ~self._done(old)
        finite = _stayed_finite(new, old)
        for value in metrics.values():
            finite &= jnp.isfinite(value)
        return running & finite, alive & (finite | ~running)

    def _done(self, state: PyTree) -> Bool[Array, ""]:
        return jnp.asarray(False if self._stage.done is None else self._stage.done(state))


def _over_seeds(one_seed: Callable, *trees: PyTree) -> PyTree:
    """`one_seed` mapped over the leading axis of every array.

    A seed alone is run by itself and not as a map over one: on a CPU, XLA sums products ten times slower when they
    carry an axis of length 1.
    """
    first, *_ = jax.tree.leaves(eqx.filter(trees, eqx.is_array))
    if first.shape[0] > 1:
        return eqx.filter_vmap(one_seed)(*trees)
    alone = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, trees)
    return jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, one_seed(*alone))


def _choose(new: PyTree, old: PyTree, keep: Bool[Array, ""]) -> PyTree:
    """The new state's arrays where `keep`, else the old one's."""
    choose = lambda new, old: jnp.where(keep, new, old) if eqx.is_array(old) else old
    return jax.tree.map(choose, new, old)


def _stayed_finite(new: PyTree, old: PyTree) -> Bool[Array, ""]:
    """False when an entry is NaN, or infinite where it was finite."""

    def leaf(new: Any, old: Any):
        if not eqx.is_inexact_array(new):
            return True
        return jnp.all(jnp.isfinite(new) | (jnp.isinf(new) & ~jnp.isfinite(old)))

    return jax.tree.reduce(jnp.logical_and, jax.tree.map(leaf, new, old), jnp.asarray(True))


def _check_form(new: PyTree, old: PyTree, where: str) -> None:
    """Raise at trace time, naming the leaf, when a state's structure, shapes or dtypes changed."""
    forms = []
    for tree in (new, old):
        leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
        forms.append({jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves})
    for name in forms[0] | forms[1]:
        got, expected = forms[0].get(name, "no array"), forms[1].get(name, "no array")
        if got != expected:
            raise LangevinError(f"{where} must keep the state's form: {name} was {expected}, became {got}")


def _quick_jit(function: Callable) -> Callable:
    return eqx.filter_jit(function, compiler_options=COMPILE_QUICKLY)  # pyright: ignore[reportCallIssue]


def _own_buffers(tree: PyTree) -> PyTree:
    """A copy in which no two leaves share memory (each buffer can then be given away) and no dtype is
    weak."""
    copy = lambda leaf: jnp.array(leaf, dtype=leaf.dtype, copy=True) if eqx.is_array(leaf) else leaf
    return jax.tree.map(copy, tree)
