"""MIP-IN: Mutual Information Preserving Inverse Network (Deng et al. 2021, sections 3 and 4).

Going down from the logit of one class, learn for every layer the linear map that best rebuilds the layer's input from
what is left of the class, and silence what the explained sample itself left silent:

    S_L = y_c,    S_{l-1} = g_l(S_l) * [X_{l-1} != 0],    g_l = argmin E ||X_{l-1} - g(S_l)||^2          (eq. 5, 9)
    A_L = y_c,    A_{l-1} = the same without the biases of g                                          (Algorithm 1)

S_0 is the source signal, A_0 the attribution. Small networks are inverted down to the input. Of a large one only the
classifier is (section 6.1.2): from the logits to the top feature map, where A is averaged over the channels, cut off at
zero and upsampled. Tokens are refused: nothing silences them, so A would be the same for all samples of a class, and a
layer norm cancels the mean over its channels.

Where the paper is silent: its convolutions are learned by 20 epochs of gradient descent, ours are the same least
squares solved in closed form (`solver=sgd` for theirs); "learned for each class" is read as from the class's own
samples (`fit_on=class`), except for a classifier, where a thousand classes have a few samples each (`fit_on=all`).
Its lambda of 0.001 was for 50,000 digits and overfits hundreds a class. Ours is chosen for each class and dense layer
by cross-validation within the calibration samples (`penalty=auto`), so that no scored sample affects it.
Either meets covariances, means over samples; read as sums, which eq. 6 allows, 0.001 would be next to nothing.

Only what is exactly zero is silenced. A smooth or leaky rectifier (GELU, SiLU, leaky ReLU) silences nothing, and what a
sample then has of its own in A is its logit and max-pooling's switches.

What is kept: one map for each class and learned layer (16 MB a class for CNN-M). Where that would take more than KEEP
bytes (VGG's dense layers for 1000 classes: 480 GB), the calibration samples' activations at the base are kept instead,
and a class is learned when it is first explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from mibench.methods.mipin.classifier import invert_classifier, is_classifier
from mibench.methods.mipin.inversion import descend
from mibench.methods.mipin.learning import BATCH, Lesson, members_of, size, stacked
from mibench.methods.mipin.ridge import Inverse
from mibench.network.chain import Chain, Depth, walk
from mibench.plugins import contract
from mibench.plugins.contract import Explanation, FittedExplainer, MapSpec, Probe, Samples, State, Unsupported

KEEP = 1 << 30  # bytes of learned maps for all classes
SAMPLES = ("base", "label", "classes")  # what stays on the processor, to be moved a batch at a time


class Parameters(contract.Parameters):
    """How far down, learned from whom, and how."""

    depth: Literal["auto", "input", "classifier"] = Field("auto", description="auto: the input where KEEP allows")
    fit_on: Literal["auto", "class", "all"] = Field("auto", description="auto: class down to the input, else all")
    solver: Literal["closed", "sgd"] = Field("closed", description="of the convolutions; sgd is the paper's")
    epochs: int = Field(20, ge=1, description="of solver=sgd")
    penalty: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="lambda of the dense layers, auto: cross-validated; the paper's is 0.001"
    )
    forward_relu: bool = Field(True, description="false: the explanation of a class, not of a sample (figure 3)")


class Facts(BaseModel):
    """How far down it went, from whose samples, and with which seed."""

    depth: Depth
    everyone: bool
    seed: int


class MIPIN(FittedExplainer[Parameters]):
    """The attribution A of the explained class; S_0 is the signal `source` where the input is reached."""

    name = "mipin"
    title = "MIP-IN"
    paper = "Deng et al. 2021, arXiv:2104.06629"
    maps = (MapSpec("map", signed=True),)

    @torch.no_grad()
    def learn(self, probe: Probe, calibration: Samples, seed: int) -> State:
        x, label = calibration.x, calibration.label
        depth, chain = self._reach(probe, x)
        everyone = self.parameters.fit_on == "all" or (self.parameters.fit_on == "auto" and depth == "classifier")
        facts = Facts(depth=depth, everyone=everyone, seed=seed).model_dump()
        members = members_of(label, len(probe.classes), everyone)
        if size(chain, x) * len(members) > KEEP:
            base = torch.cat([chain.to_base(part.to(probe.device)).cpu() for part in torch.split(x, BATCH)])
            return State({"base": base, "label": label}, facts)
        if everyone and is_classifier(chain, chain.activations(x[:1])):
            relu, penalty = self.parameters.forward_relu, self.parameters.penalty
            maps = invert_classifier(chain, torch.split(x, BATCH), penalty=penalty, forward_relu=relu)
        else:
            maps = stacked(Lesson(chain, x, self.parameters, seed).learn(members), chain.base == "input")
        tensors = {f"{place}.weight": inverse.weight for place, inverse in maps.items()}
        tensors |= {f"{place}.bias": inverse.bias for place, inverse in maps.items() if inverse.bias is not None}
        return State(tensors | {"classes": torch.tensor(list(members))}, facts)

    def restore(self, probe: Probe, state: State) -> None:
        self._facts = Facts.model_validate(state.facts)
        self._chain = walk(probe.model, probe.shape, self._facts.depth)
        self._tensors = {n: each if n in SAMPLES else each.to(probe.device) for n, each in state.tensors.items()}
        self._last: tuple[int, dict[int, Inverse]] | None = None

    @torch.no_grad()
    def explain(self, probe: Probe, x: Tensor, target: Tensor, seeds: Sequence[int]) -> Explanation:
        base = self._chain.to_base(x.to(probe.device))
        attribution, source = torch.empty_like(base), torch.empty_like(base)
        classes = target.cpu()
        for c in sorted(set(classes.tolist())):
            rows = (classes == c).nonzero()[:, 0].to(probe.device)
            values = self._chain.onwards(base[rows])
            go = partial(descend, self._chain, values, values[-1][:, [c]], self._inverses(probe, c))
            attribution[rows] = go(linear=True, forward_relu=self.parameters.forward_relu)
            source[rows] = go(forward_relu=self.parameters.forward_relu)
        if self._chain.base == "input":
            flat = attribution.mean(1) if attribution.dim() == 4 else attribution[:, None]  # (B, H, W) or (B, 1, F)
            return Explanation({"map": flat}, signals={"source": source})
        return Explanation({"map": probe.upsample(_on_grid(attribution).clamp(min=0))})

    def _reach(self, probe: Probe, x: Tensor) -> tuple[Depth, Chain]:
        """How far down the network is inverted, and its layers down to there."""
        if self.parameters.depth != "auto":
            return self.parameters.depth, walk(probe.model, probe.shape, self.parameters.depth)
        try:
            chain = walk(probe.model, probe.shape, "input")
            if size(chain, x) * len(probe.classes) <= KEEP:
                return "input", chain
        except Unsupported:
            pass
        return "classifier", walk(probe.model, probe.shape, "classifier")

    def _inverses(self, probe: Probe, c: int) -> dict[int, Inverse]:
        """What was learned for one class, or is learned now."""
        tensors, facts = self._tensors, self._facts
        if "classes" in tensors:
            index = (tensors["classes"] == c).nonzero().flatten().tolist()
            if not index:
                raise Unsupported(_unseen(probe.classes[c]))
            weights = {int(n.removesuffix(".weight")): w for n, w in tensors.items() if n.endswith(".weight")}
            biases = {place: tensors.get(f"{place}.bias") for place in weights}
            return {
                p: Inverse(w[index[0]], None if (b := biases[p]) is None else b[index[0]]) for p, w in weights.items()
            }
        if self._last is None or self._last[0] != c:
            members = members_of(tensors["label"], len(probe.classes), facts.everyone)
            if c not in members:
                raise Unsupported(_unseen(probe.classes[c]))
            upper = replace(self._chain, to_base=lambda base: base)
            lesson = Lesson(upper, tensors["base"], self.parameters, facts.seed)
            self._last = c, lesson.learn({c: members[c]})[c]
        return self._last[1]


def _unseen(name: str) -> str:
    return f"class {name!r} has fewer than two calibration samples of its own; give more, or set fit_on=all"


def _on_grid(attribution: Tensor) -> Tensor:
    """The attribution of the top feature map, its channels' mean: (B, C, h, w) -> (B, h, w)."""
    return attribution.mean(1) if attribution.dim() == 4 else attribution[:, None]
