"""PyTorch: channels_last, the data as tensors in memory, batches by `randperm`.

Without `torch.compile`, which made it slower on the CPU.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from mnist_jax.benchmark.peers import StepPeer, Work

_PREDICT_BATCH = 100  # faster than 1000, whose memory is mapped anew each time


class TorchPeer(StepPeer):
    """See `peers.Peer`."""

    version = torch.__version__

    def __init__(self, work: Work) -> None:
        torch.manual_seed(work.config["seed"])
        images = torch.from_numpy(work.scaled_images()).permute(0, 3, 1, 2)
        self._images = images.contiguous(memory_format=torch.channels_last)
        self._labels = torch.from_numpy(work.labels).long()
        self._batch_size = work.config["batch_size"]
        self._model = nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(5 * 5 * 64, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        ).to(memory_format=torch.channels_last)
        self.num_parameters = sum(p.numel() for p in self._model.parameters())
        self._optimizer = torch.optim.Adam(
            self._model.parameters(),
            lr=work.config["optimizer"]["learning_rate"],
            fused=True,
        )
        self._loss = nn.CrossEntropyLoss()
        self.steps = self._train()

    def predict(self, count: int) -> np.ndarray:
        """See `peers.Peer`."""
        with torch.inference_mode():
            batches = self._images[:count].split(_PREDICT_BATCH)
            return torch.cat([self._model(batch) for batch in batches]).numpy()

    def _train(self) -> Iterator[int]:
        while True:
            for chosen in torch.randperm(len(self._labels)).split(self._batch_size):
                logits = self._model(self._images[chosen])
                loss = self._loss(logits, self._labels[chosen])
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                yield len(chosen)


create = TorchPeer
