"""Inverted: a control that calls relevant what another explainer calls irrelevant, written `inverted:<method>`.

M' = max M - M,    or -M where the map is signed
"""

from __future__ import annotations

from mibench.plugins.contract import Explanation, MapSpec, Wrapper


class Inverted(Wrapper):
    """The inner map upside down, within its own range; the order of the pixels is reversed, ties stay ties."""

    name = "inverted"
    title = "Inverted map"

    def wrap(self, explanation: Explanation, spec: MapSpec) -> Explanation:
        original = explanation.maps[spec.name]  # (B, H, W)
        turned = -original if spec.signed else original.amax((1, 2), keepdim=True) - original
        return Explanation({spec.name: turned}, explanation.facts, explanation.signals)
