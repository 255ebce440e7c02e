"""Imported once by the fork server: the harness, and the libraries that its plug-ins are written with, but no plug-in.

A worker is forked from there, so that importing them costs it nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os

import torch

SLOW = (  # to import, and wanted by many plug-ins
    "captum.attr",
    "zennit.composites",
    "zennit.rules",
    "numba",
    "scipy.ndimage",
    "scipy.spatial.distance",
    "scipy.stats",
    "skimage.segmentation",
    "sklearn.datasets",
    "sklearn.neighbors",
    "torch.fx",
    "torch.utils.flop_counter",
    "torchvision.transforms.functional",
    "mlxtend.data",
    "mibench.messages",
    "mibench.run",
)

with contextlib.suppress(OSError):
    os.setsid()  # whoever ends the group of its parent's parent shall not end the run
torch.set_num_threads(1)
for _name in SLOW:
    with contextlib.suppress(Exception):  # an extra that is not installed; whoever needs it will say so
        importlib.import_module(_name)
gc.freeze()  # what is shared with the workers is not to be written to
