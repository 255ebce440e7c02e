"""The page of the study of sight, from the lines of its table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from leaderboards.studies.lines import TABLE, Line, pivoted
from leaderboards.studies.sight import scatter
from leaderboards.studies.sight.judging import VERDICTS, Judged, read_verdicts

COMMAND = "python -m mibench study sight"
CELLS, SIGNED = "@cells", "[signed=true]"
FINER, ABOVE = "resolution", "explainers above the truth"


def describe(lines: Sequence[Line], folder: Path) -> str:
    """The page, from the table and the verdicts beside it."""
    from leaderboards.studies.sight import study

    found = read_verdicts(folder / VERDICTS)
    about = " ".join((study.__doc__ or "").split("\n\n", 1)[1].split())
    parts = [
        "# Sight: which scores see, and what is known of them",
        f"Made by `{COMMAND}`; every number is in [{TABLE}]({TABLE}), every verdict in "
        f"[{VERDICTS}]({VERDICTS}); what boards read is `mibench/record/panel.json`.",
        about,
        *sight(folder, found),
        *resolution(lines),
        *order(lines),
        *spread(lines),
    ]
    return "\n\n".join(parts) + "\n"


def sight(folder: Path, found: Sequence[Judged]) -> Iterator[str]:
    """Which scores see where, and why not."""
    written = tomllib.loads((folder / "sides.toml").read_text(encoding="utf-8"))
    tasks = [task for side in ("A", "B") for task in written[side] if any(each.task == task for each in found)]
    at = {(each.metric, each.task): each for each in found}
    metrics = [m for m in dict.fromkeys(each.metric for each in found) if any(at[m, t].sees is not None for t in tasks)]
    yield "## Which scores see"
    yield (
        f"A judges: {', '.join(written['A'])}. B validates: {', '.join(written['B'])}. ✓ sees, ✗ does not; in "
        "brackets the number of explainers significantly above the truth."
    )
    rows = [f"| | {' | '.join(tasks)} |", f"| --- |{' :---: |' * len(tasks)}"]
    for metric in metrics:
        cells = (at[metric, task] for task in tasks)
        shown = (
            ("✓" if e.sees else "✗") + (f" ({len(e.above)})" if e.above else "") if e.sees is not None else ""
            for e in cells
        )
        rows.append(f"| {metric} | {' | '.join(shown)} |")
    yield "\n".join(rows)
    yield (
        "Sides, and what must hold, were written before the panel was run. That differences are tested over samples "
        "was decided while it ran, on a simulation: tests of all pairs that know six seeds and no more find a map that "
        "is .3 of the range above the truth in one case of ten. Stricter steps of the dose were tried on the record, "
        "took the sight of scores that are at their best, and were given up."
    )
    known = {key: each for key, each in at.items() if each.sees is not None}
    judged = [m for m in metrics if any((m, t) in known for t in written["A"])]
    on_a = [m for m in judged if all(known[m, t].sees for t in written["A"] if (m, t) in known)]
    kept = [m for m in on_a if all(known[m, t].sees for t in written["B"] if (m, t) in known)]
    yield (
        f"On all of A {len(on_a)} of {len(judged)} scores see: {', '.join(on_a) or 'none'}. On all of B too, "
        f"{len(kept)}: {', '.join(kept) or 'none'}. The others keep their sight only for kinds of network on "
        "which they see."
    )
    lost = [f"- {m} on {t}: {e.why}" for (m, t), e in known.items() if m in on_a and t in written["B"] and not e.sees]
    if lost:
        yield "Lost in validation:"
        yield "\n".join(lost)
    blind = [
        f"- {m} on {t}: {e.why}" for (m, t), e in known.items() if m not in on_a and t in written["A"] and not e.sees
    ]
    if blind:
        yield "Without sight on A:"
        yield "\n".join(blind)


def together(lines: Sequence[Line]) -> Iterator[Line]:
    """How many explainers are above the truth by scores on pixels, and by the same scores on cells."""
    above = {(line.question, line.subject): line.mean for line in lines if line.figure == "above"}
    pairs = [(q, m) for q, m in above if (q, m + CELLS) in above]
    for figure, tail in (("on pixels", ""), ("on cells", CELLS)):
        yield Line(FINER, ABOVE, figure, sum(above[q, m + tail] for q, m in pairs), float("nan"), len(pairs))


def resolution(lines: Sequence[Line]) -> Iterator[str]:
    """How many explainers were above the truth for being finer."""
    found = {line.figure: line for line in lines if line.question == FINER}
    if found:
        native, cells = found["on pixels"], found["on cells"]
        yield "## How much was resolution"
        yield (
            f"Over {native.count} pairs of a score and a task, {native.mean:.0f} explainers are significantly above "
            f"the truth by the score on pixels, and {cells.mean:.0f} by the same score on cells."
        )


def order(lines: Sequence[Line]) -> Iterator[str]:
    """Which scores order explainers as the truth does."""
    taus = [line for line in lines if line.question.startswith("order: ")]
    if not taus:
        return
    yield "## Do scores order explainers as the truth does?"
    yield (
        "Kendall's tau between a score's order of the explainers and that of `information-rank-additive`, "
        "which compares each map with the network's own additive truth."
    )
    shown = [Line("", e.subject, e.question.removeprefix("order: "), e.mean, e.half, e.count) for e in taus]
    yield "\n".join(pivoted(shown))
    means = {m: [e.mean for e in taus if e.subject == m] for m in dict.fromkeys(e.subject for e in taus)}
    pairs = [m for m in means if m + CELLS in means]
    if pairs:
        native = sum(sum(means[m]) / len(means[m]) for m in pairs) / len(pairs)
        cells = sum(sum(means[m + CELLS]) / len(means[m + CELLS]) for m in pairs) / len(pairs)
        yield (
            f"Over the scores that exist on pixels and on cells, the mean tau is {native:.2f} on pixels and "
            f"{cells:.2f} on cells, where magnitudes are read and signs are not."
        )
    three = [m for m in pairs if m + CELLS + SIGNED in means]
    if three:
        pixels, signed, cells = (
            sum(sum(means[m + tail]) / len(means[m + tail]) for m in three) / len(three)
            for tail in ("", CELLS + SIGNED, CELLS)
        )
        yield (
            f"Of {', '.join(three)} there are scores on cells by their signed means too: mean tau is {pixels:.2f} "
            f"on pixels, {signed:.2f} on signed cells, {cells:.2f} on magnitudes. So resolution is worth "
            f"{signed - pixels:+.2f} and sign {cells - signed:+.2f}."
        )


def spread(lines: Sequence[Line]) -> Iterator[str]:
    """How fits and networks scatter."""
    medians = [line for line in lines if line.subject == scatter.MEDIAN]
    level, weight = (
        {e.question: e.mean for e in medians if e.figure == figure} for figure in ("freedom", "ratio_freedom")
    )
    if level:
        yield "## How fits and networks scatter"
        yield (
            "Of rows that move, medians over metrics: the degrees of freedom that a row's variance is worth "
            "to other rows (d0), and those that its ratio to E is worth."
        )
        rows = ["| | d0 of the variance | d0 of the ratio |", "| --- | ---: | ---: |"]
        yield "\n".join(
            [*rows, *(f"| {q.removeprefix('scatter of ')} | {level[q]:.2f} | {weight[q]:.2f} |" for q in level)]
        )
