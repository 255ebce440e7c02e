"""What modules of plug-ins do when they are imported, as source: an import cannot be chosen by a parameter.

The run itself imports every plug-in to learn what it is, in a child process first.
"""

from __future__ import annotations

from collections.abc import Mapping

PLUGIN = '''
from mibench.plugins.contract import Explainer, Explanation


class AtImport(Explainer):
    """Misbehaves when its module is imported."""

    name = "at-import"
    title = "Misbehaves when its module is imported"
    control = True

    def explain(self, probe, x, target, seeds):
        return Explanation({"map": x.mean(1).abs()})
'''
SOURCES: Mapping[str, str] = {
    "raises": "raise ValueError('not today')",
    "sysexit0": "import sys; sys.exit(0)",
    "base": "raise BaseException('base')",
    "osexit0": "import os; os._exit(0)",
    "segv": "import ctypes; ctypes.string_at(0)",
    "kbd": "raise KeyboardInterrupt",
    "child": "import subprocess; subprocess.Popen(['sleep', '987'])",
    "stdout": "import os; os.close(1); os.close(2)",
    "syntax": "def",
    "nothing": "import nowhere_to_be_found",
    "patchtensor": "import torch; torch.Tensor.mean = lambda self, *axes, **more: torch.zeros(())",
    "dtype": "import torch; torch.set_default_dtype(torch.float64)",
}
