"""What modules of plug-ins do when they are imported, as source: an import cannot be chosen by a parameter.

The run itself imports every plug-in to learn what it is, so an import that ends its process ends the run: not here.
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
    "syntax": "def",
    "nothing": "import nowhere_to_be_found",
    "patchtensor": "import torch; torch.Tensor.mean = lambda self, *axes, **more: torch.zeros(())",
    "dtype": "import torch; torch.set_default_dtype(torch.float64)",
}
