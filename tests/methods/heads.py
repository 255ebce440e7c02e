"""One small network with its head in many idioms, as people write them, and layers that a head may have besides.

Idioms of the same group compute the same numbers: the first of the group is written with layers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = ("a", "b", "c")
SHAPE = (3, 8, 8)
Head = Callable[["Written", Tensor], Tensor]  # from the top features (B, 6, 4, 4) to the logits

MEAN: Mapping[str, Head] = {
    "AdaptiveAvgPool2d, Flatten": lambda net, h: net.fc(net.flatten(net.pool(h))),
    "F.avg_pool2d(h, h.size()[3])": lambda net, h: net.fc(F.avg_pool2d(h, h.size()[3]).view(h.size(0), -1)),
    "F.avg_pool2d(h, h.shape[2:])": lambda net, h: net.fc(torch.flatten(F.avg_pool2d(h, h.shape[2:]), 1)),
    "F.avg_pool2d(h, 4)": lambda net, h: net.fc(F.avg_pool2d(h, 4).reshape(h.shape[0], -1)),
    "kernel_size by name": lambda net, h: net.fc(
        F.avg_pool2d(input=h, kernel_size=(h.size(2), h.size(3))).reshape(h.size(0), h.size(1))
    ),
    "mean([2, 3])": lambda net, h: net.fc(h.mean([2, 3])),
    "mean((-2, -1))": lambda net, h: net.fc(h.mean((-2, -1))),
    "mean(-1).mean(-1)": lambda net, h: net.fc(h.mean(-1).mean(-1)),
    "mean(2).mean(2)": lambda net, h: net.fc(h.mean(2).mean(2)),
    "mean with keepdim": lambda net, h: net.fc(h.mean(3, keepdim=True).mean(2, keepdim=True).squeeze(3).squeeze(2)),
    "torch.mean(h, dim=(2, 3))": lambda net, h: net.fc(torch.mean(h, dim=(2, 3))),
    "flatten(2).mean(2)": lambda net, h: net.fc(h.flatten(2).mean(2)),
    "view(B, C, -1).mean(-1)": lambda net, h: net.fc(h.view(h.size(0), h.size(1), -1).mean(-1)),
    "F.adaptive_avg_pool2d(h, 1)": lambda net, h: net.fc(F.adaptive_avg_pool2d(h, 1).flatten(1)),
    "F.adaptive_avg_pool2d(h, (1, 1))": lambda net, h: net.fc(
        F.adaptive_avg_pool2d(h, (1, 1)).view(-1, h.size(1) // 1)
    ),
    "squeeze(-1).squeeze(-1)": lambda net, h: net.fc(net.pool(h).squeeze(-1).squeeze(-1)),
    "[:, :, 0, 0]": lambda net, h: net.fc(net.pool(h)[:, :, 0, 0]),
    "Identity, Dropout": lambda net, h: net.fc(net.dropout(net.identity(net.flatten(net.pool(h))))),
    "F.dropout": lambda net, h: net.fc(F.dropout(h.mean([2, 3]), 0.5, training=net.training)),
    "contiguous": lambda net, h: net.fc(net.pool(h.contiguous()).contiguous().view(h.size(0), -1)),
}
MAXIMUM: Mapping[str, Head] = {
    "MaxPool2d, Flatten": lambda net, h: net.fc(net.flatten(net.largest(h))),
    "F.max_pool2d(h, h.shape[-1])": lambda net, h: net.fc(F.max_pool2d(h, h.shape[-1]).flatten(1)),
    "F.max_pool2d(h, h.size()[2:])": lambda net, h: net.fc(F.max_pool2d(h, h.size()[2:]).view(h.size(0), -1)),
    "amax((2, 3))": lambda net, h: net.fc(h.amax((2, 3))),
    "amax(-1).amax(-1)": lambda net, h: net.fc(torch.amax(torch.amax(h, -1), -1)),
    "F.adaptive_max_pool2d(h, 1)": lambda net, h: net.fc(F.adaptive_max_pool2d(h, 1).flatten(1)),
    "AdaptiveMaxPool2d": lambda net, h: net.fc(net.adaptive_largest(h).flatten(1)),
}
GRID: Mapping[str, Head] = {
    "Flatten": lambda net, h: net.wide(net.flatten(h)),
    "flatten(1)": lambda net, h: net.wide(h.flatten(1)),
    "view(h.size(0), -1)": lambda net, h: net.wide(h.view(h.size(0), -1)),
    "reshape(h.shape[0], -1)": lambda net, h: net.wide(h.reshape(h.shape[0], -1)),
    "view(-1, 6 * 4 * 4)": lambda net, h: net.wide(h.view(-1, 6 * 4 * 4)),
    "view(-1, count)": lambda net, h: net.wide(h.view(-1, h.size(1) * h.size(2) * h.size(3))),
}
SCALED: Mapping[str, Head] = {
    "AdaptiveAvgPool2d, times": lambda net, h: net.fc(net.flatten(net.pool(h)) * 0.5),
    "mean, times": lambda net, h: net.fc(h.mean([2, 3]) * 0.5),
    "mean, over": lambda net, h: net.fc(0.5 * h.mean([2, 3])),
    "F.avg_pool2d, over": lambda net, h: net.fc((F.avg_pool2d(h, h.size(2)) / 2).view(h.size(0), -1)),
}
NORMED: Mapping[str, Head] = {
    "AdaptiveAvgPool2d, BatchNorm1d": lambda net, h: net.fc(net.norm(net.flatten(net.pool(h)))),
    "F.avg_pool2d, BatchNorm1d": lambda net, h: net.fc(net.norm(F.avg_pool2d(h, h.size(3)).view(h.size(0), -1))),
}
CONVOLVED: Mapping[str, Head] = {
    "AdaptiveAvgPool2d, 1x1 convolution": lambda net, h: net.flatten(net.pool(net.conv(h))),
    "1x1 convolution, mean": lambda net, h: net.conv(h).mean((2, 3)),
    "1x1 convolution, avg_pool2d": lambda net, h: F.avg_pool2d(net.conv(h), h.shape[2:]).flatten(1),
}
AFTERWARDS: Mapping[str, Head] = {
    "AdaptiveAvgPool2d, then 1x1 convolution": lambda net, h: net.flatten(net.conv(net.pool(h))),
    "mean, then 1x1 convolution": lambda net, h: net.conv(h.mean((2, 3), keepdim=True)).squeeze(-1).squeeze(-1),
}
REFUSED: Mapping[str, Head] = {  # what no chain of layers is made of
    "log_softmax": lambda net, h: F.log_softmax(net.fc(h.mean([2, 3])), 1),
    "a learned scale": lambda net, h: net.fc(h.mean([2, 3]) * net.scale),
    "a loop over sizes": lambda net, h: net.wide(h.view(-1, features(h))),
    "mean and maximum": lambda net, h: net.fc(h.mean([2, 3]) + h.amax((2, 3))),
    "a branch on values": lambda net, h: net.fc(h.mean([2, 3]) if float(h.sum()) < 1e9 else h.amax((2, 3))),
    "standard deviation": lambda net, h: net.fc(h.std((2, 3))),
    "F.linear": lambda net, h: F.linear(h.mean([2, 3]), net.fc.weight, net.fc.bias),
}
GROUPS: tuple[Mapping[str, Head], ...] = (MEAN, MAXIMUM, GRID, SCALED, NORMED, CONVOLVED, AFTERWARDS)
HEADS: Mapping[str, Head] = {name: head for group in (*GROUPS, REFUSED) for name, head in group.items()}


def features(h: Tensor) -> int:
    """How many numbers a sample has, as torch's first tutorial counted them."""
    count = 1
    for side in h.size()[1:]:
        count *= side
    return count


class Written(nn.Module):
    """Two convolutions, and a head."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.head = head
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        )
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.largest, self.adaptive_largest = nn.MaxPool2d(4), nn.AdaptiveMaxPool2d(1)
        self.dropout, self.identity = nn.Dropout(), nn.Identity()
        self.norm, self.conv = nn.BatchNorm1d(6), nn.Conv2d(6, 3, 1)
        self.scale = nn.Parameter(torch.ones(6))
        self.fc, self.wide = nn.Linear(6, 3), nn.Linear(96, 3)

    def forward(self, x: Tensor) -> Tensor:
        return HEADS[self.head](self, self.features(x))


class TwoHeads(Written):
    """Logits and something else."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x).mean([2, 3])
        return self.fc(h), h  # type: ignore[return-value]


def representation(head: str) -> str:
    """The name of the vector before the classifier."""
    if head in GRID or head == "a loop over sizes":
        return "wide.input"
    if head in CONVOLVED or head in AFTERWARDS or head == "F.linear":
        return "features"
    return "fc.input"
