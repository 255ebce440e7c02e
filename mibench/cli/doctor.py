"""`mibench doctor`: what is installed, what is missing, and the mend of it."""

from __future__ import annotations

import ctypes
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mibench import errors
from mibench.cli.app import out
from mibench.files import sources
from mibench.plugins import catalogue
from mibench.plugins.classes import ROOMS
from mibench.record import environment, proofs
from mibench.record.symptom import Symptom

EXTRAS = {
    "natural": ("efficientnet_lite_pytorch", "EfficientNet-Lite0 and its weights"),
    "ray": ("ray", "runs on many machines"),
    "graph": ("networkit", "faster graphs for NIF"),
}
WANTED = ("torchvision", "cv2", "quantus", "captum", "zennit", "sklearn", "mlxtend")  # their versions are read …
LOADED = {"opencv-python": ("libGL.so.1", "libgthread-2.0.so.0")}  # … and the system's libraries that they load, tried


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run's folder: read all of its record.")
    ] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Replace a damaged database by its sound rows.")] = False,
    device: Annotated[
        str, typer.Option(help="Compare every plug-in on this device (cuda, xpu, mps) with the processor.")
    ] = "",
) -> None:
    """Versions, devices, what is missing and how to mend it; with RUN, what is damaged in its record (exit 1)."""
    from mibench.cli import console

    if folder is None:
        wrong = console.symptoms(out, prove(device) if device else examine())
    else:
        from mibench.record.verifying import verify

        wrong = console.symptoms(out, verify(folder, mend=mend))
    raise typer.Exit(1 if wrong else 0)


def examine() -> Iterator[Symptom]:
    """Look at libraries, devices, extras, the cache and the plug-ins, one after the other."""
    machine = environment.facts("cpu")
    commit = f", commit {machine.commit}" if machine.commit else ""
    yield Symptom("mibench", "fine", f"{machine.mibench or 'not installed, run from its folder'}{commit}")
    memory = machine.memory_bytes / 2**30
    yield Symptom(
        "machine",
        "fine",
        f"{machine.processor}, {machine.cores} cores, {memory:.0f} GiB, python {machine.python}",
    )
    yield from _torch()
    for module in WANTED:
        yield _installed(module)
    for extra, (module, use) in EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        mend = "" if found else f'; pip install "mibench[{extra}]"'
        yield Symptom(f"extra {extra}", "fine" if found else "absent", f"{use}{mend}")
    yield _cache()
    for broken in catalogue.broken():
        yield Symptom("plug-in", "wrong", f"{broken.origin}: {broken.reason}")
    counts = ", ".join(f"{len(catalogue.names(room))} {room}" for room in ROOMS)
    yield Symptom("plug-ins", "fine", counts)


def _installed(module: str) -> Symptom:
    """Whether a library is there, and the system's libraries that it loads: opencv without libGL cannot be imported."""
    if importlib.util.find_spec(module) is None:
        return Symptom(module, "wrong", errors.mend(ModuleNotFoundError(name=module)))
    distributions = sources.distributions().get(module, (module,))
    for library in (library for name in distributions for library in LOADED.get(name, ())):
        try:
            ctypes.CDLL(library)
        except OSError as error:
            return Symptom(module, "wrong", errors.mend(error))
    return Symptom(module, "fine", environment.version(distributions[0]))


def _torch() -> Iterator[Symptom]:
    """torch, the only one that is imported: it reports the devices."""
    try:
        import torch
    except Exception as error:  # any error that an import raises is reported
        yield Symptom("torch", "wrong", errors.mend(error))
        return
    yield Symptom("torch", "fine", torch.__version__)
    yield from _accelerators()


def _accelerators() -> Iterator[Symptom]:
    """Which accelerators torch sees, and whether the way there was proved on this machine."""
    from mibench.network import devices

    there = {kind: number for kind in devices.AUTOMATIC if (number := devices.count(kind))}
    names = [environment.device_class(f"{kind}:{each}") for kind, number in there.items() for each in range(number)]
    if names:
        yield Symptom("accelerator", "fine", f"{', '.join(names)}; auto is {devices.device_of('auto')}")
    else:
        yield Symptom("accelerator", "absent", "torch sees no CUDA, XPU or MPS device; runs use the processor")
    yield _device_path(names)


def _device_path(names: Sequence[str]) -> Symptom:
    """What was compared with the processor on this machine's accelerators, or on a pretend one, with this code."""
    own = "mibench doctor --device " + (names[0].split()[0] if names else "NAME")
    how = own if names else "python -m pytest --slow tests/device, in a checkout"
    found = proofs.proofs()
    code = proofs.code() if found else ""
    kept = [each for each in found if each.get("code") == code]
    kept = [each for each in kept if each["device"] in names] or kept
    if not kept:
        return Symptom("device path", "absent", f"not proved on this machine with this code; run {how}")
    told = "; ".join(proofs.in_words(each) for each in kept)
    more = f"; on the accelerator itself: {own}" if names and kept[0]["device"] not in names else ""
    return Symptom("device path", "wrong" if any(each["failed"] for each in kept) else "fine", f"{told}{more}")


def prove(name: str) -> Iterator[Symptom]:
    """Compare every plug-in on a device with the processor, on tiny networks."""
    from mibench.conformance import accelerator
    from mibench.network.devices import device_of

    device = device_of(name)
    if device == "cpu":
        raise errors.UsageError("the processor is what devices are compared with: pass --device cuda, xpu or mps")
    found = accelerator.prove(device)
    for each in found:
        if not each.agrees:
            reason = each.reason or f"differs by {each.difference:.1e} of the largest value"
            yield Symptom(each.plugin, "wrong", f"{each.network}: {reason}")
    yield from (_device_path([environment.device_class(device)]),)


def _cache() -> Symptom:
    folder = environment.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Symptom(
            "cache", "wrong", f"{folder} cannot be written ({error.strerror}); set MIBENCH_CACHE to a folder that can"
        )
    networks = [*(folder / "models").glob("[!.]*.safetensors")]  # each is checked against its SHA-256 when it is used
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    about = f", {len(networks)} networks, {size / 2**20:.0f} MiB" if size else ""
    return Symptom("cache", "fine", f"{folder}{about}")
