"""The page of the study of truth: tables, and sentences that the tables decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from leaderboards.studies.lines import TABLE, Line, pivoted
from leaderboards.studies.truth import atoms

CONTROLS = ("truth", "random", "encoder", "constant", "inverted")
APART = {"planted[variant=partial]": "partial", "planted[variant=graded]": "graded", "planted[variant=and]": "and",
         "planted[variant=suppressor]": "suppressor"}  # fmt: skip  # where the three truths differ in shape
PAIRS = (("marginal", "conditional"), ("marginal", "additive"), ("conditional", "additive"))
COMMAND = "python -m mibench study truth"
ORDER = """
*Marginal* is what a cell tells of the class alone, *conditional* what it adds to all other cells, *additive* its
Shapley share of what all tell together, each in nats. They are three answers to three questions, and none is the wrong
one: a method's paper decides which of them its map is meant to be. MIRE and MI-LR define their decision maps by the
information of one cell with the representation, which is marginal; IBA bounds what passes a bottleneck; NIF follows
information along the network's edges; MIP-IN reports a reconstruction and claims no amount. So no method is called
wrong here for being far from a truth that it does not claim, and nats are held against the claimed truth alone.
"""
WORDS = """
**Two meanings of "redundant".** In MIRE and MI-LR a cell is redundant if the representation knows it and the decision
does not need it: the second label's glyph, the role `redundant` here. In partial information decomposition information
is redundant if two sources tell the same: both cells of `shared`, which MIRE would call decision-related.
"""


def describe(lines: Sequence[Line], folder: Path) -> str:
    """The whole page."""
    parts = ["# Truth: what explainers' maps come closest to, and where they stop"]
    parts.append(
        f"Made by `{COMMAND}`; all numbers are in [{TABLE}]({TABLE}), the atoms in [{atoms.FILE}]({atoms.FILE})."
    )
    parts += [" ".join(each.split()) for each in (*_docstring(), ORDER, WORDS)]
    for section in (closeness, suppressor, networks, ladder, errors, resolution, decomposition, left_out):
        parts += section(lines, folder)
    return "\n\n".join(parts) + "\n"


def _docstring() -> list[str]:
    from leaderboards.studies.truth import study

    return (study.__doc__ or "").split("\n\n")[1:]


def asked(lines: Sequence[Line], question: str) -> list[Line]:
    """The lines of one question."""
    return [line for line in lines if line.question == question]


def table(lines: Sequence[Line]) -> str:
    """A table in Markdown."""
    return "\n".join(pivoted(lines))


def closest(differences: dict[str, Line]) -> str:
    """The truth that a profile is surely closest to, or those that cannot be separated."""
    best = {"marginal", "conditional", "additive"}
    for first, second in PAIRS:
        line = differences.get(f"{first} less {second}")
        if line is not None and abs(line.mean) > line.half:
            best.discard(second if line.mean > 0 else first)
    return " or ".join(sorted(best)) if len(best) < 3 and differences else "none of them in particular"


def closeness(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """Which truth each map comes closest to, where the three differ."""
    yield "## Which truth does a map come closest to?"
    yield (
        "*Profile* is 1 less half the summed differences between a map's shares of the roles and the truth's: 1 where "
        "they agree. A map is *closest* to the truth whose profile score is surely higher than the others' on the same "
        "images (95 %, each pair for itself). A column's mean is over the images on which its truth is above .05 nats "
        "anywhere, so that columns are compared by these pairs and not by their means."
    )
    for task, name in APART.items():
        found = asked(lines, f"profile: {task}")
        if not found:
            continue
        differences = asked(lines, f"closeness: {task}")
        yield f"### {name}"
        rows = list(dict.fromkeys(line.subject for line in found))
        means = {(line.subject, line.figure): str(line) for line in found}
        head = "| | marginal | conditional | additive | closest to |\n| --- | ---: | ---: | ---: | --- |"
        body = [
            f"| {row} | " + " | ".join(means.get((row, claim), "") for claim in ("marginal", "conditional", "additive"))
            + f" | {closest({line.figure: line for line in differences if line.subject == row})} |"
            for row in rows
        ]  # fmt: skip
        yield "\n".join([head, *body])
        yield "Shares of the roles:\n\n" + table(asked(lines, f"shares: {task}"))


def suppressor(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """Who gives the suppressor weight."""
    yield "## Who gives the suppressor weight?"
    yield (
        "The suppressor tells nothing of the label alone and is needed beside the signal. Weight on it is right under "
        "the conditional and the additive truth, which give it as much as the signal, and an error under the marginal "
        "one, which gives it none. A map that omits it is right for a method that claims what one cell tells alone."
    )
    for question in dict.fromkeys(line.question for line in lines if line.question.startswith("shares: ")):
        if "suppressor" not in question:
            continue
        found = [line for line in asked(lines, question) if line.figure in ("signal", "suppressor")]
        yield f"### {question.removeprefix('shares: ')}"
        yield table(found)
        shares = {line.subject: line for line in found if line.figure == "suppressor"}
        least = 1 / 16  # what a map without any order gives one of 16 cells
        give = [row for row, line in shares.items() if line.mean - line.half > 2 * least and row not in CONTROLS]
        leave = [row for row, line in shares.items() if line.mean + line.half < least and row not in CONTROLS]
        yield (
            f"Surely more than twice an equal share (2/16): {', '.join(give) or 'none'}. "
            f"Surely less than an equal share (1/16): {', '.join(leave) or 'none'}."
        )


def networks(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """The order of cells on every network of the graded variant."""
    yield "## Six amounts in order, on several networks"
    yield "Kendall's tau between a map and the network's own additive truth on `graded`, over all 16 cells."
    found = [
        Line("", line.subject, line.question.removeprefix("rank: ").partition("[")[0], line.mean, line.half, line.count)
        for line in lines
        if line.question.startswith("rank: ") and "graded" in line.question and line.figure.endswith("additive")
    ]
    yield table(found)
    ends = [line for line in found if line.subject not in CONTROLS and line.mean > 0.995]
    yield f"At the end of the range (above .995), controls aside: {', '.join(line.subject for line in ends) or 'none'}."


def ladder(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """The curves along pixel noise, and the thresholds."""
    rungs = asked(lines, "rungs")
    if not asked(lines, "ladder"):
        return
    yield "## The ladder: where does an explainer stop?"
    yield (
        "`graded` with one cell of nine that tells of the label, under ever louder pixels, a network for each rung. "
        "*Searching* is Bayes' rule from the image alone, which is not given the cells' places: the upper limit of any "
        "network. *Given the places* is the observer behind the truth of the cells; it knows more, because it need not "
        "find them. A network's accuracy is held against the searching observer's (at least 97 % of it on other "
        "samples than these). With six informative cells of sixteen, whose colours loud pixels confuse, a network came "
        "to 94 % of it at a noise of 1.0, and with one of sixteen to 95 % at 1.1, after half as many steps: so one of "
        "nine."
    )
    yield table(rungs)
    yield "Decision AUC on each rung: does a cell that tells of the class stand above one that does not?"
    yield table(asked(lines, "ladder"))
    found = asked(lines, "threshold")
    sides = {line.subject: line.mean for line in found if line.figure == "censored"}
    yield (
        "The threshold is the searching observer's nats at which a logistic with lapses, fitted to the means, is "
        ".75; lower is better, for it stands on louder pixels. `<`: above .75 on all rungs, so that the threshold is "
        "below the last one; `>`: below .75 on all. ± is half of the percentile interval over resampled images."
    )
    body = sorted((line for line in found if line.figure == "nats"), key=lambda line: (sides[line.subject], line.mean))
    signs = {-1.0: "< ", 0.0: "", 1.0: "> "}
    yield "\n".join(
        [
            "| | threshold, nats |",
            "| --- | ---: |",
            *(
                f"| {line.subject} | {signs[sides[line.subject]]}{line.mean:.2f}"
                + ("" if sides[line.subject] else f" ± {line.half:.2f}")
                + " |"
                for line in body
            ),
        ]
    )


def errors(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """The estimators' own errors, and the task's."""
    yield "## Errors in nats"
    yield (
        "`information-error-2` holds a map's nats against the truth that it claims, `information-error` against the "
        "representation's, and `estimator-error` is the error of the explainer's total, which no mask has touched: how "
        "much of the error is its estimator's. Each is the mean over kinds of cell. Maps that claim no nats or bits "
        "have no line."
    )
    for question in dict.fromkeys(line.question for line in lines if line.question.startswith("errors: ")):
        yield f"### {question.removeprefix('errors: ')}\n\n" + table(asked(lines, question))
    yield "### The networks' own truth"
    yield (
        "*Gap* is how far the network's own truth is from the data's: the task's own error. *Error* is the standard "
        "error of the network's truth where hidden contents are drawn and not enumerated; its bound is .05 nats in "
        "95 % of the values. *Leak* is what the network takes from cells that tell nothing."
    )
    wanted = ("additive gap", "additive largest gap", "additive error in 95 %", "additive largest error", "leak")
    found = [
        Line("", line.question.removeprefix("network: "), line.figure, line.mean, math.nan, line.count)
        for line in lines
        if line.question.startswith("network: ") and line.figure in wanted
    ]
    yield table(found)


def resolution(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """Whether the orders of rows depend on which differences count as none."""
    from leaderboards.studies.truth.study import orders

    if not asked(lines, "resolution"):
        return
    yield "## Which differences of the truth count as none?"
    yield (
        "Two amounts that differ by less than .05 nats are in no order (the bound on the error of the network's "
        "truth). The additive rank on `graded` with other bounds, and Kendall's tau between the orders of explainers "
        "that these give and the default's:"
    )
    yield table(asked(lines, "resolution"))
    yield ", ".join(f"{figure}: tau {value:.3f}" for figure, value in orders(lines).items()) + "."


def decomposition(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """The atoms."""
    file = folder / atoms.FILE
    if not file.exists():
        return
    yield "## Partial information decomposition of the discrete variants"
    yield (
        f"In nats, alphabet of {atoms.ALPHABET}, by `dit`: BROJA, which is defined for two sources, and Williams and "
        "Beer's measure. {0}{1} is what both sources tell alike, {0} what the first alone tells, {0:1} what only both "
        "together tell. Both measures give the same marginal (R + U), conditional (U + S) and additive (U + (R + S)/2) "
        "means, to which maps are held: no score depends on the choice of a measure."
    )
    for three in (False, True):
        chosen = [a for a in atoms.read(file) if a.plant.endswith("three cells") == three]
        yield table([Line("", f"{a.plant}, {a.measure}", a.node, a.nats, math.nan, 1) for a in chosen])


def left_out(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """What could not be explained, and what of the study was not measured."""
    from leaderboards.studies.truth import study

    found = [line for line in lines if line.question.startswith("left out: ")]
    if found:
        yield "## Left out"
        for task in dict.fromkeys(line.question.removeprefix("left out: ") for line in found):
            rows = [f"{line.subject} ({line.figure})" for line in found if line.question == f"left out: {task}"]
            yield f"{task}: {', '.join(rows)}."
    tasks = [spec for spec in (*study.FAMILY, *study.NETWORKS) if not asked(lines, f"auc: {spec}")]
    rungs = [
        f"noise {noise:g}" for noise in study.RUNGS if not any(line.figure == f"noise {noise:g}" for line in lines)
    ]
    if tasks or rungs:
        yield "## Not measured"
        yield f"The table is not whole. It lacks {', '.join(tasks + rungs)}. `{COMMAND}` measures all of it."
    every = dict.fromkeys(line.subject for line in lines if line.question.startswith("auc: "))
    for spec in (*study.FAMILY, *study.NETWORKS):
        there = {line.subject for line in asked(lines, f"auc: {spec}")}
        if there and (lacking := [row for row in every if row not in there]):
            yield f"{spec} lacks the rows {', '.join(lacking)}."
