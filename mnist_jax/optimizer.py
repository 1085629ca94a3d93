"""Builds the learning-rate schedule and the optax chain that a config asks for."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from mnist_jax.config import ConfigDict
from mnist_jax.errors import ConfigError, lookup


def _constant(peak: float, total: int, warmup: int) -> optax.Schedule:
    return optax.warmup_constant_schedule(0.0 if warmup else peak, peak, warmup)


def _cosine(peak: float, total: int, warmup: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, total)


def _linear(peak: float, total: int, warmup: int) -> optax.Schedule:
    rise = optax.linear_schedule(0.0, peak, warmup)
    fall = optax.linear_schedule(peak, 0.0, total - warmup)
    return optax.join_schedules([rise, fall], [warmup])


def _one_cycle(peak: float, total: int, warmup: int) -> optax.Schedule:
    # Smith and Topin 2017, arXiv:1708.07120: the rate rises during the warm-up, falls
    # back, and drops to almost nothing in the last tenth of the steps.
    start, tail = peak / 25.0, total // 10
    rise = optax.linear_schedule(start, peak, warmup)
    fall = optax.linear_schedule(peak, start, total - tail - warmup)
    end = optax.linear_schedule(start, start / 1e4, tail)
    return optax.join_schedules([rise, fall, end], [warmup, total - tail])


_NOT_OPTAX = " is no optimizer of optax"
SCHEDULES: dict[str, Callable[[float, int, int], optax.Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "one_cycle": _one_cycle,
}


def create_schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Builds the learning rate as a function of the step.

    It rises from near 0 to `optimizer.learning_rate` over `optimizer.warmup_epochs`,
    then falls as `optimizer.schedule` says until the last step of `num_epochs`. A
    warm-up that leaves no step after it is cut to a quarter of all steps.

    Raises:
      ConfigError: the schedule is unknown.
    """
    name = config.optimizer.schedule
    schedule = lookup(name, SCHEDULES, "config.optimizer.schedule")
    total = config.num_epochs * steps_per_epoch
    warmup_epochs = min(config.optimizer.warmup_epochs, config.num_epochs)
    warmup = round(warmup_epochs * steps_per_epoch)
    if warmup + (total // 10 if name == "one_cycle" else 0) >= total:
        warmup = total // 4
    found: optax.Schedule = schedule(config.optimizer.learning_rate, total, warmup)
    return found


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Returns optimizers by name: optax's functions of a `learning_rate`, and one."""
    found: dict[str, Any] = {}
    for module in (contrib, optax):
        for name, value in vars(module).items():
            # schedule_free_* need other weights for evaluation than for training,
            # scale_by_* are only parts of optimizers, and sm3 takes no schedule.
            no = ("_", "schedule_free", "scale_by", "sm3")
            if name.startswith(no) or not inspect.isfunction(value):
                continue
            if "learning_rate" in inspect.signature(value).parameters:
                found[name] = value
    return {**found, "quick_adam": _quick_adam}


def _quick_adam(
    learning_rate: Any, b1: float = 0.8, b2: float = 0.95, **kwargs: Any
) -> optax.GradientTransformation:
    """Adam that forgets sooner, for short runs."""
    return optax.adam(learning_rate, b1, b2, **kwargs)


def create_optimizer(
    config: ConfigDict, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Builds the optax chain: clip, then decay weights and update by the schedule.

    Weight decay acts on kernels only, not on biases and scales. If the optimizer has a
    `weight_decay` with a mask of its own (adamw, lion, ...), that one is used, which is
    decoupled from the gradient (Loshchilov and Hutter 2017, arXiv:1711.05101).
    Otherwise the decay is added to the gradient, as L2 regularisation. `muon` trains
    all kernels, and Adam the biases; Muon's updates are scaled to the size of Adam's,
    so that one learning rate is right for both (Liu et al. 2025, arXiv:2502.16982).

    Raises:
      ConfigError: the optimizer or schedule is unknown, or does not take the arguments.
    """
    name, kwargs = config.optimizer.name, config.optimizer.kwargs.to_dict()
    optimizer = lookup(name, _optimizers(), "config.optimizer.name", _NOT_OPTAX)
    weight_decay, parts = config.optimizer.weight_decay, []
    try:
        takes = inspect.signature(optimizer).parameters
        if config.optimizer.clip_norm:
            parts.append(optax.clip_by_global_norm(config.optimizer.clip_norm))
        mask = next((m for m in ("mask", "weight_decay_mask") if m in takes), None)
        if "weight_decay" in takes:  # its own default is not zero everywhere
            kwargs["weight_decay"] = weight_decay if mask else 0.0
        if mask and "weight_decay" in takes:
            kwargs[mask] = _is_kernel
        elif weight_decay:
            parts.append(optax.add_decayed_weights(weight_decay, mask=_is_kernel))
        if "muon_weight_dimension_numbers" in takes:
            kwargs["muon_weight_dimension_numbers"] = _as_matrices
            kwargs.setdefault("consistent_rms", 0.2)
        schedule = create_schedule(config, steps_per_epoch)
        tx = optax.chain(*parts, optimizer(learning_rate=schedule, **kwargs))
        _try_out(tx)
    except ConfigError:
        raise
    except Exception as error:  # whatever a wrong argument makes optax raise
        shown = f"optax.{name}" if name in vars(optax) | vars(contrib) else name
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"config.optimizer: {shown} cannot be used so: {reason}"
        ) from error
    return tx


def _is_kernel(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _as_matrices(params: Any) -> Any:
    """Makes Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) see a
    kernel [H, W, C, D] as a matrix [H W C, D]; optax's default takes only [C, D].
    Biases get None, so that Adam trains them.
    """
    numbers = contrib.MuonDimensionNumbers

    def of(param: Any) -> Any:
        inputs = tuple(range(param.ndim - 1))
        return numbers(inputs, (param.ndim - 1,)) if param.ndim > 1 else None

    return jax.tree.map(of, params)


def _try_out(tx: optax.GradientTransformation) -> None:
    """Traces one update of a tiny tree, to fail early: some transformations need more
    than gradients (a loss function, say), or have a state that cannot be saved.
    """
    params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    _, state = jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), params)
    if any(leaf.size == 0 for leaf in jax.tree.leaves(state)):
        raise ValueError("its state has empty arrays, which Orbax does not save")
