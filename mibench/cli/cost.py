"""`mibench cost`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import LEADERBOARDS, MAX_SAMPLES, DeviceOption, listed, out


def cost(
    methods: Annotated[str | None, typer.Option(help="Methods with commas between; default: all explainers.")] = None,
    models: Annotated[str | None, typer.Option(help="Networks; default: ResNet-50, VGG-19, ViT-B/16.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="How many, in one batch.")] = 4,
    calibration: Annotated[int, typer.Option(min=2, max=MAX_SAMPLES, help="How many to fit on.")] = 64,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16 or fp16.")] = "fp32",
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where cost-DEVICE.csv goes.")] = LEADERBOARDS,
) -> None:
    """What explainers cost on networks of natural size with random weights: seconds, share of the peak, memory."""
    from mibench.network.devices import device_of
    from mibench.run import cost_table

    name, found = device_of(device), []
    networks = listed("--models", models) or cost_table.NETWORKS
    for row in cost_table.costs(networks, listed("--methods", methods), name, precision, samples, calibration):
        found.append(row)
        figures = f"{row.seconds:.3g} s a sample, {row.share_of_peak:.1%} of the peak, {row.peak_mebibytes:.0f} MiB"
        out.print(f"{row.network}  {row.explainer}  {row.reason or figures}", soft_wrap=True)
    out.print(f"wrote {cost_table.write(found, name, folder)}", soft_wrap=True)
