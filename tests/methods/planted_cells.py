"""A network whose every cell's information is known without training: cells are symbols, z counts two alphabets.

One cell of each sample shows the label's symbol (signal), one a symbol that z counts and the logits ignore (redundant),
the others show symbols that z does not see. So the total is log |A| at both, and the decision needs the signal alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins.contract import Samples, Truth

SYMBOLS, SIDE = 4, 3
NATS = math.log(SYMBOLS)


class Counting(nn.Module):
    """z = counts of the first two alphabets; logits = ten times the first counts."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Identity()
        self.count = nn.Sequential(nn.Flatten(2), nn.Unflatten(1, (3, SYMBOLS)))
        self.z = nn.Flatten()
        self.head = nn.Linear(2 * SYMBOLS, SYMBOLS, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(10 * torch.eye(SYMBOLS, 2 * SYMBOLS))

    def forward(self, x: Tensor) -> Tensor:
        counted = self.count(self.cells(x)).sum(3)[:, :2]  # (N, 2, A)
        return self.head(self.z(counted))  # type: ignore[no-any-return]


def opened() -> OpenProbe:
    return open_probe(
        Counting().eval().requires_grad_(False),
        kind="grid",
        local="cells",
        representation="z",
        shape=(3 * SYMBOLS, SIDE, SIDE),
        classes=tuple("abcd"),
        depths=("cells",),
    )


def drawn(count: int, seed: int) -> Samples:
    """Samples with their truth."""
    generator = torch.Generator().manual_seed(seed)
    label, second = torch.randint(SYMBOLS, (2, count), generator=generator)
    place = torch.rand(count, SIDE**2, generator=generator).argsort(1)  # (N, K)
    symbol = 2 * SYMBOLS + torch.randint(SYMBOLS, (count, SIDE**2), generator=generator)
    symbol.scatter_(1, place[:, :1], label[:, None]).scatter_(1, place[:, 1:2], SYMBOLS + second[:, None])
    cells = nn.functional.one_hot(symbol, 3 * SYMBOLS).float()  # (N, K, C)
    cells[..., 2 * SYMBOLS :] += 0.05 * torch.randn(count, SIDE**2, SYMBOLS, generator=generator)  # z does not see it
    x = cells.transpose(1, 2).reshape(count, -1, SIDE, SIDE)
    roles = {
        name: nn.functional.one_hot(place[:, index], SIDE**2).bool().reshape(-1, SIDE, SIDE)
        for index, name in enumerate(("signal", "redundant"))
    }
    nats = {name: NATS * cells.float() for name, cells in roles.items()}
    information = {
        "total": nats["signal"] + nats["redundant"],
        "decision": nats["signal"],
        "redundant": nats["redundant"],
    }
    ids = tuple(map(str, range(count)))
    return Samples(x, label, ids, truth=Truth((SIDE, SIDE), roles, information))
