"""How fast this machine runs a program, and what share of its matmul peak that is.

Floating-point operations are counted in the program as JAX traced it (`matmul_flops`): matrix products and
convolutions only, two for each multiply-add, as executed. XLA's own cost analysis is not used: on a CPU it leaves
out the products it hands to a library.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend import core

FEWEST_REPEATS = 3


@dataclass(frozen=True)
class Program:
    """Compiled work that can be repeated.

    run: does one repeat and waits for its end. units: what one repeat gets done (updates, rollouts).
    flops: floating-point operations of one repeat's matrix products.
    """

    run: Callable[[], Any]
    units: int
    flops: float


@dataclass(frozen=True)
class Measurement:
    """How fast a program ran. Times in seconds; neither compiling nor warming up is part of the speed."""

    units_per_second: float
    """Of the median repeat."""
    repeats: int
    compile_seconds: float
    """The first run: tracing, compiling (or fetching from the compile cache) and one repeat."""
    warm_up_seconds: float
    """The second run."""
    flops_per_unit: float
    gflops_per_second: float


def measure(program: Program, seconds: float) -> Measurement:
    """Repeat a program for about `seconds`, at least three times."""
    compile_seconds, warm_up_seconds = timed(program.run), timed(program.run)
    times = repeat(program.run, seconds)
    per_second = program.units / median(times)
    flops_per_unit = program.flops / program.units
    return Measurement(
        units_per_second=per_second,
        repeats=len(times),
        compile_seconds=compile_seconds,
        warm_up_seconds=warm_up_seconds,
        flops_per_unit=flops_per_unit,
        gflops_per_second=per_second * flops_per_unit / 1e9,
    )


def matmul_peak(seconds: float, size: int | None = None) -> float:
    """GFLOP/s of the fastest float32 product of two square matrices of `size` rows.

    The default is large enough to fill the machine: 2048 on a CPU, 8192 elsewhere.
    """
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    left, right = jax.random.normal(jax.random.key(0), (2, size, size))
    product = jax.jit(jnp.matmul)
    run = lambda: product(left, right).block_until_ready()
    run()
    return 2 * size**3 / min(repeat(run, seconds)) / 1e9


def machine() -> dict[str, Any]:
    """What the numbers were measured on: JAX's backend and device, and the CPU cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
    }


def timed(run: Callable[[], Any]) -> float:
    """Wall-clock seconds of one run."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def repeat(run: Callable[[], Any], seconds: float) -> list[float]:
    """The times of as many runs as fit into `seconds`, at least three."""
    times: list[float] = []
    while len(times) < FEWEST_REPEATS or sum(times) < seconds:
        times.append(timed(run))
    return times


def matmul_flops(function: Callable, *arguments: Any, **named: Any) -> float:
    """Floating-point operations of the matrix products and convolutions in `function(*arguments, **named)`.

    Arguments may be shapes (`jax.ShapeDtypeStruct`). A scan counts as often as it is long; a `lax.cond` counts the
    mean of its branches, which is exact for the delayed update of TD3 with its delay of 2. **Raises:** `ValueError`
    for a product inside a `while_loop`, whose length nobody knows before it runs.
    """
    return _flops(eqx.filter_make_jaxpr(function)(*arguments, **named)[0].jaxpr)


def _flops(jaxpr: core.Jaxpr) -> float:
    return sum((_equation_flops(equation) for equation in jaxpr.eqns), 0.0)


def _equation_flops(equation: core.JaxprEqn) -> float:
    inner = [_flops(getattr(jaxpr, "jaxpr", jaxpr)) for jaxpr in _inner_programs(equation.params)]
    match equation.primitive.name:
        case "dot_general":
            return _product_flops(equation)
        case "conv_general_dilated":
            return _convolution_flops(equation)
        case "scan":
            return equation.params["length"] * sum(inner)
        case "cond":
            return sum(inner) / len(inner)
        case "while" if sum(inner) > 0:
            raise ValueError("a matrix product inside a while_loop cannot be counted; use a scan")
    return sum(inner, 0.0)


def _inner_programs(parameters: dict[str, Any]) -> list[Any]:
    values = [
        item for value in parameters.values() for item in (value if isinstance(value, tuple) else (value,))
    ]
    return [value for value in values if isinstance(value, core.Jaxpr | core.ClosedJaxpr)]


def _product_flops(equation: core.JaxprEqn) -> float:
    """2 for each element of the result and each term of its sum."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = _shape(equation.invars[0])
    return 2.0 * math.prod(_shape(equation.outvars[0])) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(equation: core.JaxprEqn) -> float:
    """2 for each element of the result, each tap of the kernel and each input channel it reads."""
    kernel = _shape(equation.invars[1])
    out_channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(_shape(equation.outvars[0])) * math.prod(kernel) / out_channels


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
