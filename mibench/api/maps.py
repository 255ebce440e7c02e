"""An explanation to be looked at: maps by name, their units, what else was measured, and a figure of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from mibench.plugins import registry
from mibench.plugins.contract import Explanation, MapSpec, Unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Maps(Explanation):
    """Maps (B, H, W) on the CPU by name; `maps[NAME]` is one of them."""

    specs: tuple[MapSpec, ...] = ()  # what each map claims to be; the first is the one that explains decisions
    x: Tensor = field(default_factory=lambda: Tensor())  # (B, …) what was explained
    target: Tensor = field(default_factory=lambda: Tensor())  # (B,) the explained classes
    classes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.maps:
            raise registry.unknown("map", name, self.maps)
        return self.maps[name]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def units(self) -> Mapping[str, Unit]:
        """The unit that each map claims: "nats", "bits" or "none"."""
        return {spec.name: spec.unit for spec in self.specs}

    def __repr__(self) -> str:
        named = ", ".join(f"{spec.name} ({spec.unit})" if spec.unit != "none" else spec.name for spec in self.specs)
        height, width = self.maps[self.specs[0].name].shape[1:]
        facts = f"; facts: {', '.join(self.facts)}" if self.facts else ""
        return f"<maps of {len(self)} samples, {height} x {width}: {named}{facts}>"

    def plot(self, samples: int = 4) -> Figure:
        """The first samples and their maps: red speaks for the class and blue against it, or bright is much."""
        from matplotlib.figure import Figure

        from mibench.leaderboard.reporting import picture

        shown = min(samples, len(self))
        figure = Figure(figsize=(2.2 * (1 + len(self.specs)), 2.3 * shown), layout="constrained")
        grid = figure.subplots(shown, 1 + len(self.specs), squeeze=False)
        for row in range(shown):
            grid[row, 0].imshow(picture(self.x[row].cpu().numpy()), cmap="gray", aspect="auto")
            grid[row, 0].set_title(self.classes[int(self.target[row])], fontsize=8)
            for place, spec in zip(grid[row, 1:], self.specs, strict=True):
                values = self.maps[spec.name][row].numpy()
                limit = float(abs(values).max()) or 1.0
                colours = {"cmap": "RdBu_r", "vmin": -limit} if spec.signed else {"cmap": "magma", "vmin": 0.0}
                image = place.imshow(values, vmax=limit, aspect="auto", **colours)
                place.set_title(spec.name, fontsize=8)
                if spec.unit != "none":
                    figure.colorbar(image, ax=place, label=spec.unit)
        for place in grid.flat:
            place.set_axis_off()
        return figure
