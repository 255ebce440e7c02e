"""What modules of plug-ins do when they are imported, as source: an import cannot be chosen by a parameter."""

from __future__ import annotations

from collections.abc import Mapping

PLUGIN = '''
from mibench.contract import Explainer, Explanation


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
    "kbd": "raise KeyboardInterrupt",
    "base": "raise BaseException('base')",
    "syntax": "def",
    "nothing": "import nowhere_to_be_found",
    "osexit0": "import os; os._exit(0)",
    "segv": "import ctypes; ctypes.string_at(0)",
    "hang": "import time; time.sleep(10**6)",
    "patchtensor": "import torch; torch.Tensor.mean = lambda self, *axes, **more: torch.zeros(())",
    "dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "child": "import subprocess; subprocess.Popen(['sleep', '987'])",
    "stdout": "import os; os.close(1)",
    "patchcontract": "import mibench.contract; mibench.contract.Explainer.control = True",
}
