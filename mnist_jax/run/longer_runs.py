"""Says what it means that a run is resumed to train for more epochs than it was to."""

from typing import Any

import numpy as np

from mnist_jax.config import ConfigDict
from mnist_jax.optimizer import create_schedule
from mnist_jax.run.stored_config import config_from_dict


def explain_longer(
    saved: dict[str, Any], config: ConfigDict, step: int, steps_per_epoch: int
) -> str:
    """Says what becomes of the learning rate; "" if a run is not made longer.

    Schedules are functions of the step and of the length of the whole run. With a
    longer run, the rate goes on from where it would be in a run that had been so long
    from its start. Only if all rates up to now are the same is it such a run.

    Args:
      saved: the config that the run was saved with, from JSON.
      config: the config to go on with.
      step: the number of steps done.
      steps_per_epoch: number of steps in an epoch.
    """
    old = config_from_dict(saved)
    if old.num_epochs == config.num_epochs:
        return ""
    epochs = "epoch becomes" if old.num_epochs == 1 else "epochs become"
    text = f"{old.num_epochs} {epochs} {config.num_epochs}: "
    before, after = (create_schedule(each, steps_per_epoch) for each in (old, config))
    steps = np.arange(step + 1)
    if np.array_equal(before(steps), after(steps)):
        return f"{text}this is the run that it would be, had it been so long at once"
    schedule = config.optimizer.schedule
    return (
        f"{text}the learning rate ({schedule}) was {float(before(step)):.2g} at this "
        f"step and is now {float(after(step)):.2g}, as in the middle of a longer run; "
        f"the result is not that of {config.num_epochs} epochs at once"
    )
