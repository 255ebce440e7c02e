"""A user's samples, classes and seeds, checked before anything is computed: one line names what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from mibench.errors import DataError, UsageError
from mibench.run.explaining import sample_seeds


def check_inputs(x: Tensor, name: str = "x") -> Tensor:
    """Refuse anything but a batch of images (B, C, H, W) or of rows (B, F) of finite numbers."""
    if not isinstance(x, Tensor):
        raise UsageError(f"{name} is {type(x).__name__}, not a torch.Tensor: write torch.as_tensor({name})")
    if x.dim() not in (2, 4) or not len(x):
        raise DataError(f"{name} has the shape {tuple(x.shape)}: write a batch of images (B, C, H, W) or rows (B, F)")
    if x.device.type == "meta":
        raise DataError(f"{name} is on the device 'meta', where tensors hold no numbers: give the samples themselves")
    if not x.is_floating_point():
        raise DataError(f"{name} holds {x.dtype}, not what the network takes: write {name}.float(), normalised for it")
    if not bool(x.isfinite().all()):
        raise DataError(f"{name} holds NaN or infinite values: correct or remove them")
    return x


def targets_of(y: Tensor | int, count: int, classes: int, name: str = "y") -> Tensor:
    """Classes as (B,) whole numbers on the CPU: one for each sample, or one for all."""
    found = torch.as_tensor(y).cpu()
    found = found.expand(count) if found.dim() == 0 else found
    if found.shape != (count,) or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise DataError(
            f"{name} has the shape {tuple(found.shape)} and holds {found.dtype}: write the classes of {count} samples "
            f"as ({count},) whole numbers, or one number for all"
        )
    wrong = found[(found < 0) | (found >= classes)]
    if len(wrong):
        raise DataError(f"{name} holds the class {int(wrong[0])}, but the network has the classes 0 to {classes - 1}")
    return found.long()


def seeds_of(x: Tensor, seed: int | Sequence[int]) -> tuple[int, ...]:
    """One seed for each sample: of its content and the number given, wherever it is in a batch; or those given."""
    if isinstance(seed, int):
        contents = (each.detach().cpu().contiguous().numpy().tobytes() for each in x)
        return sample_seeds([hashlib.sha256(content).hexdigest() for content in contents], seed)
    if len(seed) != len(x):
        raise UsageError(f"seed holds {len(seed)} numbers for {len(x)} samples: write one number, or one a sample")
    return tuple(seed)


def shape_text(shape: Sequence[int]) -> str:
    """One input's shape as it is written."""
    return "x".join(map(str, shape))
