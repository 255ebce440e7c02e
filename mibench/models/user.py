"""The user's own network: `user[local=LAYER,representation=LAYER,…]:MODULE:FACTORY`.

`FACTORY()` in the importable MODULE returns the network; `weights=FILE` fills it from safetensors or from a
checkpoint that holds tensors alone. Layers go by their names in the network, and `LAYER.input` is what goes into one;
`python -m mibench layers MODULE:FACTORY` proposes them. For a ResNet of one's own,

    user[local=layer4,representation=avgpool,weights=mine.safetensors,shape=3x128x128]:mypackage.nets:build
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from mibench.errors import ModelError, UsageError, nearest
from mibench.models.training import frozen
from mibench.models.vision import VisionNetwork
from mibench.models.weights import fill
from mibench.plugins import contract
from mibench.plugins.contract import Kind, Model

SHAPE = r"^[1-9]\d*(x[1-9]\d*x[1-9]\d*)?$"  # CxHxW, or F for a table


def shape_of(text: str) -> tuple[int, ...]:
    """An input's shape as a spec writes it."""
    if not re.match(SHAPE, text):
        raise UsageError(f"{text!r} is not the shape of an input: write CxHxW, such as 3x32x32, or a table's F")
    return tuple(int(size) for size in text.split("x"))


class Parameters(contract.Parameters):
    """Where the network is opened, and what it takes."""

    local: str = ""  # "input", or the layer whose output is cut into local features
    representation: str = ""  # the layer whose output is z, or LAYER.input
    depths: tuple[str, ...] = ()  # further clean cut points, shallow to deep, `local` among them
    kind: Kind = "grid"
    shape: str = Field(default="3x224x224", pattern=SHAPE)
    weights: str = ""  # empty: those that the factory gives
    mean: tuple[float, ...] = ()  # a+b+c, one a channel
    std: tuple[float, ...] = ()
    data: str = "folder"
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")  # in progress, headings and files; empty: the spec


class UserNetwork(Model[Parameters]):
    """A network that the user's code builds; colour images are normalised as for ImageNet by default."""

    name = "user"
    title = "User's network"
    takes = "MODULE:FACTORY"

    def __init__(self, parameters: Parameters | None = None, argument: str = "", **values: object) -> None:
        super().__init__(parameters, argument, **values)
        self.kind = self.parameters.kind  # type: ignore[misc]  # here the user chooses it
        self.shape = shape_of(self.parameters.shape)
        self.local, self.representation = self.parameters.local, self.parameters.representation
        self.depths = self.parameters.depths or (self.local,)
        self.data = self.parameters.data
        colour = len(self.shape) == 3 and self.shape[0] == 3
        self.mean = self.parameters.mean or (VisionNetwork.mean if colour else (0.0,))
        self.std = self.parameters.std or (VisionNetwork.std if colour else (1.0,))

    @property
    def paths(self) -> tuple[str, ...]:
        """The file of weights, if one is named."""
        return (self.parameters.weights,) if self.parameters.weights else ()

    def load(self) -> nn.Module:
        """The factory's network, with the weights of the file."""
        self._check()
        with torch.random.fork_rng(devices=[]):  # what the factory draws must be the same in every process
            torch.manual_seed(0)
            network = built(self.argument)
        if self.parameters.weights:
            fill(network, Path(self.parameters.weights))
        return frozen(network)

    def _check(self) -> None:
        """Refuse what is missing or cannot fit."""
        if not self.argument.rpartition(":")[0]:
            raise ModelError("the user's own network is written user[local=LAYER,representation=LAYER]:MODULE:FACTORY")
        for key in ("local", "representation"):
            if not getattr(self.parameters, key):
                raise ModelError(f"user needs the name of the {key} layer: user[{key}=LAYER]:{self.argument}")
        channels = self.shape[0]
        for key, figures in (("mean", self.mean), ("std", self.std)):
            if len(figures) not in (1, channels):
                raise ModelError(f"user: {key} has {len(figures)} values for {channels} channels; write a+b+c or one")
        if min(self.std) <= 0:
            raise ModelError("user: every value of std must be above zero")
        if self.local not in self.depths:
            raise ModelError(f"user: the local layer {self.local!r} must be one of depths={'+'.join(self.depths)}")


def built(argument: str) -> nn.Module:
    """Import the module, call the factory."""
    module_name, _, name = argument.rpartition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # the user's modules are in the current directory
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may fail in any way
        raise ModelError(f"the module {module_name!r} cannot be imported: {_said(error)}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        mend = nearest(name, (key for key, value in vars(module).items() if key[0] != "_" and callable(value)))
        raise ModelError(f"the module {module_name!r} has no function {name!r}; {mend}")
    try:
        network = factory()
    except Exception as error:
        raise ModelError(f"{argument}() failed: {_said(error)}; it is called without arguments") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"{argument}() gave a {type(network).__name__}, not a torch.nn.Module")
    return network


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
