"""CNN-C of Deng et al. 2021 (MIP-IN, appendix A, table 5): three convolutions and two dense layers on CIFAR-10.

CIFAR-10 does not come with any package: `cnn-c[data=folder:PATH]` learns from the user's copy, one folder a class.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mibench.models import appendix
from mibench.models.appendix import AppendixNetwork
from mibench.plugins.contract import Unsupported


class CnnC(AppendixNetwork):
    """The paper's network for CIFAR-10, cut after its second max-pool."""

    name = "cnn-c"
    title = "CNN-C"
    architecture = "cnn"
    floor = 0.6

    class Parameters(appendix.Parameters):
        data: str = ""
        floor: float = 0.6

    shape = (3, 32, 32)
    local = "pool2"
    representation = "relu4"
    depths = ("relu1", "relu2", "pool1", "relu3", "pool2")
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)

    def load(self) -> nn.Module:
        """The network, trained on first use on the data that were named."""
        if not self.data:
            raise Unsupported("cnn-c learns CIFAR-10, which does not come with mibench: pass cnn-c[data=folder:PATH]")
        return super().load()

    def build(self, classes: int) -> nn.Sequential:
        """Convolutions of 32, 64 and 64 (3 x 3), two max-pools, dense 512, dense."""
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 32, 3),  # (N, 3, 32, 32) -> (N, 32, 30, 30)
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 64, 3),  # -> (N, 64, 28, 28)
                relu2=nn.ReLU(),
                pool1=nn.MaxPool2d(2),  # -> (N, 64, 14, 14)
                dropout1=nn.Dropout(0.25),
                conv3=nn.Conv2d(64, 64, 3),  # -> (N, 64, 12, 12)
                relu3=nn.ReLU(),
                pool2=nn.MaxPool2d(2),  # -> (N, 64, 6, 6)
                dropout2=nn.Dropout(0.25),
                flatten=nn.Flatten(),  # -> (N, 2304)
                dense1=nn.Linear(2304, 512),
                relu4=nn.ReLU(),
                dropout3=nn.Dropout(0.5),
                dense2=nn.Linear(512, classes),
            )
        )
