"""The options of JAX that decide what a run computes, wherever they were set.

JAX takes each of its options from the environment: JAX_ENABLE_X64=1 sets
`jax_enable_x64`. So a shell, a cluster or a notebook may have set one for another
program. Three kinds of them matter here:

- this code is written for one value of `REQUIRED`: a command sets it, and a function
  that is called from Python refuses any other;
- `COMPARED` change the last digits, and are free: a run keeps them to its end, and all
  of its processes have the same;
- what is not named here changes no result: `tests/parallel/test_jax_options.py` names
  each of those, for every version of JAX.
"""

import enum
import os
import sys
from collections.abc import Mapping
from typing import Any

import jax

from mnist_jax.errors import ConfigError

_GUARDS = ("allow", None, "log", "log_explicit")  # the others stop transfers

# The values that each option may have; the first is the one that is set.
REQUIRED: dict[str, tuple[Any, ...]] = {
    # The dtype of all arrays is written down.
    "jax_enable_x64": (False,),
    "jax_explicit_x64_dtypes": ("warn", "allow"),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    # All is traced, compiled and run as usual, and arrays move between host and device.
    "jax_disable_jit": (False,),
    "jax_no_tracing": (False,),
    "jax_no_execution": (False,),
    "jax_thread_guard": (False,),  # threads compile beside each other
    "jax_transfer_guard": _GUARDS,
    "jax_transfer_guard_device_to_device": _GUARDS,
    "jax_transfer_guard_device_to_host": _GUARDS,
    "jax_transfer_guard_host_to_device": _GUARDS,
}

# Likewise, for what draws random numbers: a seed means the same everywhere.
REQUIRED_OF_RANDOM: dict[str, tuple[Any, ...]] = {
    "jax_default_prng_impl": ("threefry2x32",),
    "jax_threefry_partitionable": (True,),
    "jax_random_seed_offset": (0,),
    "jax_high_dynamic_range_gumbel": (False,),
}

COMPARED = (
    "eager_constant_folding",
    "jax_accurate_erf_inv",
    "jax_allow_f16_reductions",
    "jax_compiler_enable_remat_pass",
    "jax_custom_jvp3",
    "jax_custom_vjp3",
    "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
    "jax_memory_fitting_level",
    "jax_optimization_level",
    "jax_remat3",
    "jax_remat_barrier_no_cotangents",
    "jax_scan3",
    "jax_softmax_custom_jvp",
    "jax_threefry_gpu_kernel_lowering",
    "jax_use_direct_linearize",
    "jax_use_hlo_logistic_lowering",
    "jax_use_shardy_partitioner",
)

# XLA reads these by itself.
COMPARED_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "NPROC")


def read_option(name: str) -> Any:
    """Returns an option's value, as JSON can hold it; None if this JAX has it not."""
    value = getattr(jax.config, name, jax.config.values.get(name))
    return value.name.lower() if isinstance(value, enum.Enum) else value


def require_options() -> None:
    """Sets what this code is written for, for the whole process, as commands may.

    What the user has set otherwise is named in one warning.
    """
    wrong = [*_find_wrong(REQUIRED), *_find_wrong(REQUIRED_OF_RANDOM)]
    if wrong:
        named = ", ".join(map(_describe, wrong))
        print(
            f"warning: {named}: set back to what this program is written for",
            file=sys.stderr,
        )
    for name in wrong:
        jax.config.update(name, (REQUIRED | REQUIRED_OF_RANDOM)[name][0])


def check_options(*, random: bool = False) -> None:
    """Checks that JAX's options are those that this code is written for.

    Args:
      random: also those of random numbers.

    Raises:
      ConfigError: one is not; nothing is changed.
    """
    required = REQUIRED | (REQUIRED_OF_RANDOM if random else {})
    for name in _find_wrong(required):
        value = required[name][0]
        raise ConfigError(
            f"{_describe(name)}, and mnist_jax is written for {value!r}: call "
            f"jax.config.update({name!r}, {value!r}) before"
        )


def compared_options() -> dict[str, Any]:
    """Returns, by the names of variables, what must be the same during a whole run."""
    options = {name.upper(): read_option(name) for name in COMPARED}
    return options | {name: _read_variable(name) for name in COMPARED_VARIABLES}


def check_same_options(saved: Mapping[str, Any]) -> None:
    """Checks that a run goes on with the options that it was begun with.

    Args:
      saved: what `compared_options` returned then. What this version of JAX, or that
        one, did not have is not compared.

    Raises:
      ConfigError: one differs.
    """
    for name, value in compared_options().items():
        if name in saved and saved[name] != value:
            raise ConfigError(
                f"the environment's {name} is {_show(value)}, but the run to resume "
                f"began with {_show(saved[name])}, and its result depends on that: set "
                "it as it was, or name another --workdir"
            )


def _find_wrong(required: Mapping[str, tuple[Any, ...]]) -> list[str]:
    return [
        name
        for name, values in required.items()
        if name in jax.config.values and read_option(name) not in values
    ]


def _describe(name: str) -> str:
    """Returns an option with its value, as the environment or the program set it."""
    variable = name.upper()
    if variable in os.environ:
        return f"{variable}={os.environ[variable]}"
    return f"{name} is {read_option(name)!r}"


def _read_variable(name: str) -> str | None:
    """Returns what of a variable decides results; None if it is not set or empty."""
    # The number of devices may change during a run, and dumps change nothing.
    aside = ("--xla_force_host_platform_device_count", "--xla_dump_")
    flags = os.environ.get(name, "").split()
    return " ".join(flag for flag in flags if not flag.startswith(aside)) or None


def _show(value: Any) -> str:
    return "not set" if value in (None, "UNKNOWN") else repr(value)
