"""This project, as `scripts/train.py` trains and `scripts/predict.py` predicts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.benchmark import workloads
from mnist_jax.benchmark.peers import Work, mean_cross_entropy
from mnist_jax.config import ConfigDict
from mnist_jax.data import Dataset
from mnist_jax.parallel import devices
from mnist_jax.reading.page_loss import page_loss
from mnist_jax.run.compile_ahead import compile_train_steps
from mnist_jax.run.inference import predict_logits
from mnist_jax.run.stored_config import config_from_dict


class Ours:
    """See `peers.Peer`."""

    version = f"jax {jax.__version__}"

    def __init__(self, work: Work) -> None:
        config, dataset = config_from_dict(work.config), Dataset(*work[1:])
        devices.set_up("cpu", num_shards=config.num_shards)
        workload = workloads.Workload(config, dataset, 10, repeats=1, seconds=0.0)
        program = workload.create_program()
        self._state = program.create_state()
        params = jax.tree.leaves(self._state.params)
        self.num_parameters = sum(param.size for param in params)
        self._model, self._task = workload.create_model(), workload.task
        self._eval_batch_size = config.eval_batch_size
        self._images, self._dataset = work.images, program.placement.put(dataset)
        self._variables: Any = None  # those of the state, on one device
        self._program = compile_train_steps(program, self._state, self._dataset)

    def first_step(self) -> None:
        """See `peers.Peer`."""
        self.train(0.0)

    def train(self, seconds: float) -> float:
        """See `peers.Peer`."""
        self._state, images_per_second, _ = workloads.train_for(
            self._program, self._state, self._dataset, seconds
        )
        self._variables = None
        return images_per_second

    def predict(self, count: int) -> np.ndarray:
        """See `peers.Peer`."""
        if self._variables is None:  # on one device, as `load_model` places them
            self._variables = workloads.variables_on_one_device(self._state)
        size = min(count, self._eval_batch_size)
        images, task = self._images[:count], self._task
        return predict_logits(self._model, self._variables, images, size, task=task)


def jax_loss(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean loss of digits' logits or of a page net's maps."""
    if labels.ndim == 1:
        return mean_cross_entropy(outputs, labels)
    return float(
        np.mean(page_loss(outputs, {"label": jnp.asarray(labels)}, ConfigDict()))
    )


create, loss = Ours, jax_loss
