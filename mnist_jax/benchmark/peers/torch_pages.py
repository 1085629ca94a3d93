"""The page net in PyTorch: channels_last, the pages as tensors in memory.

The network and its loss are those of `models.page_net` and `reading.page_loss`, written
afresh. The optimizer is that of configs/page_reader.py with a constant rate; the moving
average is kept, and not predicted with. Only mnist_jax counts right digits as it
trains. Where the config trains in bfloat16, so does this, by autocast.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mnist_jax.benchmark.peers import StepPeer, Work

_NOISE = 8.0  # of `models.page_net`
_UNIT, _SPREAD, _SHARPEST, _STRIDES = 16.0, 8.0, (2.4, 1.4), (4, 2)
_DIGITS_A_PAGE = 6.0
_PREDICT_BATCH = 8


class TorchConvNorm(nn.Sequential):
    """A 3x3 convolution with batch norm."""

    def __init__(self, channels: int, features: int) -> None:
        conv = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(features))


class TorchResidual(nn.Module):
    """Two convolutions whose result is added to what they see."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (TorchConvNorm(channels, channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to the same shape."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class TorchPageNet(nn.Module):
    """Maps standardised pages [B, 1, H, W] to maps [B, H / 4, W / 2, 15]."""

    def __init__(
        self, features: Sequence[int], blocks: Sequence[int], head: int
    ) -> None:
        super().__init__()
        fine, middle, coarse = features
        self.stem = TorchConvNorm(16, fine)
        self.down = nn.ModuleList(
            [nn.Conv2d(4 * fine, middle, 1), nn.Conv2d(4 * middle, coarse, 1)]
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*[TorchResidual(width) for _ in range(count)])
            for width, count in zip(features, blocks, strict=True)
        )
        self.up = nn.ModuleList(
            [nn.Conv2d(coarse, middle, 1), nn.Conv2d(middle, fine, 1)]
        )
        self.merge, self.head = TorchResidual(middle), TorchConvNorm(fine, head)
        self.last = nn.Conv2d(head, 30, 1)
        with torch.no_grad():
            self.last.bias.zero_()
            self.last.bias[::15] = -4.0

    def forward(self, pages: torch.Tensor) -> torch.Tensor:
        """Returns the map of digits."""
        x = torch.relu(self.stem(functional.pixel_unshuffle(pages, 4)))
        fine = self.stages[0](x)
        middle = self.stages[1](self.down[0](functional.pixel_unshuffle(fine, 2)))
        coarse = self.stages[2](self.down[1](functional.pixel_unshuffle(middle, 2)))
        x = torch.relu(middle + _enlarge(self.up[0](coarse)))
        x = torch.relu(fine + _enlarge(self.up[1](self.merge(x))))
        x = self.last(torch.relu(self.head(x))).permute(0, 2, 3, 1).float()
        b, h, w, _ = x.shape
        return x.reshape(b, h, 2 * w, 15)


def _enlarge(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2)


def page_losses(outputs: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """Returns the loss of each page, [B]; see `reading.page_loss`.

    Args:
      outputs: [B, h, w, 15].
      digits: [B, M, 6].
    """
    most = int((digits[..., 2] > 0).sum(1).max())  # the others are padding
    digits = digits[:, : max(1, most)]
    h, w = outputs.shape[1:3]
    y, x = ((torch.arange(n) + 0.5) * s for n, s in zip((h, w), _STRIDES, strict=True))
    centre_x, centre_y, width, height, digit = digits[..., :5].unbind(-1)
    is_digit = (width > 0) & (digit >= 0)
    sharp_y = (height / _SPREAD).clamp(min=_SHARPEST[0])
    sharp_x = (width / _SPREAD).clamp(min=_SHARPEST[1])

    def bell(
        place: torch.Tensor, centre: torch.Tensor, sharp: torch.Tensor, step: int
    ) -> torch.Tensor:
        middle = ((centre / step).floor() + 0.5) * step
        away = (place - middle[..., None]) / sharp[..., None]
        return torch.exp(-0.5 * away**2)

    down = bell(y, centre_y, sharp_y, _STRIDES[0]) * is_digit[..., None]
    across = bell(x, centre_x, sharp_x, _STRIDES[1])
    heat, nearest = (down[..., :, None] * across[..., None, :]).max(1)

    def of_nearest(values: torch.Tensor) -> torch.Tensor:
        return values.gather(1, nearest.flatten(1)).reshape(nearest.shape)

    ignored = (width > 0) & (digit < 0)
    inside_y = (y - centre_y[..., None]).abs() <= height[..., None] / 2 + _STRIDES[0]
    inside_x = (x - centre_x[..., None]).abs() <= width[..., None] / 2 + _STRIDES[1]
    inside_y = (inside_y & ignored[..., None]).float()
    hidden = torch.einsum("bmh,bmw->bhw", inside_y, inside_x.float()) > 0
    box = [
        torch.log(of_nearest(width).clamp(min=1.0) / _UNIT),
        torch.log(of_nearest(height).clamp(min=1.0) / _UNIT),
        (of_nearest(centre_x) - x) / _UNIT,
        (of_nearest(centre_y) - y[:, None]) / _UNIT,
    ]
    area = 2 * torch.pi * of_nearest(sharp_x * sharp_y) / (_STRIDES[0] * _STRIDES[1])
    weight = torch.where(heat > 0.2, heat, 0) / area.clamp(min=1.0)
    centre = outputs[..., 0]
    p = torch.sigmoid(centre)
    hit = -((1 - p) ** 2) * functional.logsigmoid(centre)
    false = -((1 - heat) ** 4) * p**2 * functional.logsigmoid(-centre)
    focal = torch.where(heat > 0.999, hit, false) * (~hidden | (heat > 0.5))
    chosen = of_nearest(digit).clamp(min=0).long()[..., None]
    wrong = -torch.log_softmax(outputs[..., 5:], -1).gather(-1, chosen)[..., 0]
    away = (outputs[..., 1:5] - torch.stack(box, -1)).abs().sum(-1)
    return (focal + weight * (wrong + away)).sum((1, 2)) / _DIGITS_A_PAGE


class TorchPages(StepPeer):
    """See `peers.Peer`."""

    version = torch.__version__

    def __init__(self, work: Work) -> None:
        config = work.config
        torch.manual_seed(config["seed"])
        self._pages = torch.from_numpy(work.images).permute(0, 3, 1, 2)
        self._digits = torch.from_numpy(work.labels)
        self._batch_size, self._decay = config["batch_size"], config["ema_decay"]
        self._is_coarse = config["compute_dtype"] == "bfloat16"
        net = config["model"]["kwargs"]
        self._net = TorchPageNet(net["features"], net["blocks"], net["head"])
        self._net.to(memory_format=torch.channels_last)
        self._parameters = list(self._net.parameters())
        self._averages = [p.detach().clone() for p in self._parameters]
        self.num_parameters = sum(p.numel() for p in self._parameters)
        optimizer = config["optimizer"]
        self._clip_norm = optimizer["clip_norm"]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=optimizer["learning_rate"],
            weight_decay=optimizer["weight_decay"],
            fused=True,
        )
        self.steps = self._train()

    def predict(self, count: int) -> np.ndarray:
        """See `peers.Peer`."""
        self._net.eval()
        with torch.inference_mode():
            batches = self._pages[:count].split(_PREDICT_BATCH)
            return torch.cat([self._net(_standardise(b)) for b in batches]).numpy()

    def _train(self) -> Iterator[int]:
        while True:
            for chosen in torch.randperm(len(self._pages)).split(self._batch_size):
                self._net.train()
                pages = _standardise(self._pages[chosen])
                with torch.autocast("cpu", torch.bfloat16, self._is_coarse):
                    outputs = self._net(pages)
                loss = page_losses(outputs, self._digits[chosen]).mean()
                self._optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
                self._optimizer.step()
                with torch.no_grad():
                    news = [p.detach() for p in self._parameters]
                    torch._foreach_lerp_(self._averages, news, 1 - self._decay)
                yield len(chosen)


def _standardise(pages: torch.Tensor) -> torch.Tensor:
    """Maps uint8 [B, 1, H, W] to float32, in the order of channels_last."""
    pages = pages.float()
    pages = pages - pages.mean((2, 3), keepdim=True)
    deviation = pages.square().mean((2, 3), keepdim=True).sqrt()
    scaled = pages / (deviation + _NOISE)
    return scaled.contiguous(memory_format=torch.channels_last)


def torch_loss(outputs: np.ndarray, labels: np.ndarray) -> float:
    """See `peers`."""
    losses = page_losses(torch.from_numpy(outputs), torch.from_numpy(labels))
    return float(losses.mean())


create, loss = TorchPages, torch_loss
