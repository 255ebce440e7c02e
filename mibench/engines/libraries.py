"""Imported once by the fork server: the harness, and the libraries that its plug-ins are written with, but no plug-in.

A worker is forked from there, so that importing them costs it nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import warnings
from pathlib import Path

import torch

from mibench.engines.keeper import adopt

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
    "mibench.record.messages",
    "mibench.run.run",
)
HUGE = 2**21  # bytes of a huge page
COLLAPSE = 25  # MADV_COLLAPSE of Linux's madvise


def into_huge_pages() -> None:
    """Let the memory so far be in huge pages, if Linux can: forking copies a table with an entry for each page.

    Measured: a fork of 500 MB takes 4 ms of the kernel's time and not 26.
    """
    advise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, mode, _, _, inode, *name = line.split()
        if inode == "0" and mode.startswith("rw") and name in ([], ["[heap]"]):
            start, end = (int(address, 16) for address in addresses.split("-"))
            first, last = -(-start // HUGE) * HUGE, end // HUGE * HUGE
            if first < last:
                advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), COLLAPSE)


with contextlib.suppress(OSError):
    os.setsid()  # whoever ends the group of its parent's parent shall not end the run
adopt()  # what is left where a keeper was killed; the server expects to know all of its children
warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")
torch.set_num_threads(1)
for _name in SLOW:
    with contextlib.suppress(Exception):  # an extra that is not installed; whatever needs it will report that
        importlib.import_module(_name)
gc.freeze()  # what is shared with the workers is not to be written to
with contextlib.suppress(OSError, AttributeError):  # not Linux
    into_huge_pages()
