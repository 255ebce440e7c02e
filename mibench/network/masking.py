"""What explainers share that mask local features while the decision stays (MIRE, MI-LR).

A critic and a mask are learned on calibration samples; the information of each local feature is then separated into
the total, what the decision needs, and what is redundant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mibench.network.calibration import Calibration
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, Features, Probe

PARTS = ("likelihood", "total", "decision", "mask", "kept")  # what the loss curve has for each epoch
FEWEST = 32  # samples among whose features negatives are drawn
Keep = Literal["prediction", "label"]


class Learning(contract.Parameters):
    """How critic and mask are learned."""

    alpha: float = Field(1.0, ge=0)  # the information's weight relative to the likelihood
    hidden: int = Field(256, ge=1)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(3e-3, gt=0)
    references: int = Field(8192, ge=1)  # calibration features that are negatives when explaining


def wanted(data: Calibration, keep: Keep) -> Tensor:
    """The class that the network is to go on giving each calibration sample, (N,)."""
    return data.prediction if keep == "prediction" else data.label


def named(columns: Tensor) -> Tensor:
    """The columns of a table (B, K, C) with the name of each, (B, K, K + C): alone a number has no bearing on z."""
    names = torch.eye(columns.shape[1], device=columns.device)
    return torch.cat([columns, names.expand(len(columns), -1, -1)], 2)


def buffers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a saved state that are not the weights of a submodule."""
    return {name: tensor for name, tensor in tensors.items() if "." not in name}


def negatives(samples: int, places: int, references: int, order: torch.Generator) -> tuple[Tensor, Tensor]:
    """Calibration samples, and which of their features (all places of them, in a row) are negatives ever after."""
    chosen = torch.randperm(samples, generator=order)[: max(FEWEST, 4 * references // places)]
    return chosen, torch.randperm(len(chosen) * places, generator=order)[:references]


def explanation(
    probe: Probe, features: Features, masked: Tensor, grids: Mapping[str, Tensor], ceiling: float, saturated: Tensor
) -> Explanation:
    """Maps from grids (B, K); facts: the ceiling, where a total reached it, and whether the mask keeps the decision."""
    through = probe.resume(probe.replace(features.local, masked)).logits
    facts = {
        "ceiling": torch.full((len(masked),), ceiling),
        "saturated": saturated.any(1).float(),
        "kept": (through.argmax(1) == features.logits.argmax(1)).float(),
    }
    return Explanation(
        {name: probe.upsample(grid.reshape(-1, *probe.grid)).cpu() for name, grid in grids.items()},
        {name: fact.cpu() for name, fact in facts.items()},
    )
