"""MLP-M of Deng et al. 2021 (MIP-IN, appendix A, table 3): two hidden layers of 512 on MNIST."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mibench.models import appendix
from mibench.models.appendix import AppendixNetwork
from mibench.models.training import Recipe


class MlpM(AppendixNetwork):
    """A multilayer perceptron; its local features are the pixels, because its layers know no place."""

    name = "mlp-m"
    title = "MLP-M"
    architecture = "mlp"
    floor = 0.92

    class Parameters(appendix.Parameters):
        data: str = "mnist"
        floor: float = 0.92

    shape = (1, 28, 28)
    local = "input"
    representation = "relu2"
    depths = ("input",)
    mean, std = (0.13,), (0.31,)
    recipe = Recipe(epochs=30, rate=2e-3)

    def build(self, classes: int) -> nn.Sequential:
        """Dense 512, dense 512, dense."""
        return nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),  # (N, 1, 28, 28) -> (N, 784)
                dense1=nn.Linear(784, 512),
                relu1=nn.ReLU(),
                dropout1=nn.Dropout(0.2),
                dense2=nn.Linear(512, 512),
                relu2=nn.ReLU(),
                dropout2=nn.Dropout(0.2),
                dense3=nn.Linear(512, classes),
            )
        )
