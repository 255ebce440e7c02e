"""CNN-M of Deng et al. 2021 (MIP-IN, appendix A, table 4): two convolutions and two dense layers on MNIST."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mibench.models import appendix
from mibench.models.appendix import AppendixNetwork


class CnnM(AppendixNetwork):
    """The paper's network for MNIST, cut after its max-pool."""

    name = "cnn-m"
    title = "CNN-M"
    architecture = "cnn"
    floor = 0.95

    class Parameters(appendix.Parameters):
        data: str = "mnist"
        floor: float = 0.95

    shape = (1, 28, 28)
    local = "pool"
    representation = "relu3"
    depths = ("relu1", "relu2", "pool")
    mean, std = (0.13,), (0.31,)

    def build(self, classes: int) -> nn.Sequential:
        """Convolutions of 16 (5 x 5) and 64 (3 x 3), a max-pool, dense 512, dense."""
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 16, 5),  # (N, 1, 28, 28) -> (N, 16, 24, 24)
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(16, 64, 3),  # -> (N, 64, 22, 22)
                relu2=nn.ReLU(),
                pool=nn.MaxPool2d(2),  # -> (N, 64, 11, 11)
                dropout1=nn.Dropout(0.25),
                flatten=nn.Flatten(),  # -> (N, 7744)
                dense1=nn.Linear(7744, 512),
                relu3=nn.ReLU(),
                dropout2=nn.Dropout(0.5),
                dense2=nn.Linear(512, classes),
            )
        )
