"""`mibench explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mibench.cli.app import MAX_SAMPLES, DeviceOption, listed, out


def explain(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.")],
    model: Annotated[str, typer.Option(help="The network that is explained.")],
    methods: Annotated[str, typer.Option(help="Methods with commas between: iba,gradcam,nif[k=5].")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the maps are written, as PNG.")] = Path("maps"),
    data: Annotated[str, typer.Option(help="What explainers are fitted on; default: the model's own data.")] = "",
    calibration: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="How many samples to fit on.")] = 512,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the maps as numbers, as safetensors.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Explain images of your own: one PNG for each map, and a sheet of all of them. Exit 3 if some maps failed."""
    from mibench.cli import gallery
    from mibench.record.devices import device_of

    for line in gallery.explain(
        images, model, listed("--methods", methods), folder, data, calibration, device_of(device), save
    ):
        out.print(line, soft_wrap=True)
