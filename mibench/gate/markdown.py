"""A comparison as a comment for a pull request: the verdict, the table of what changed, and the rest folded.

Names come from whoever wrote a plug-in or a folder, so nothing in them can break the table, open a tag, make a link or
call a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from mibench.gate.comparison import Change, Comparison, Verdict

SHOWN = 40  # rows of the table; a comment may have 65,536 characters
FOLDED = 200
LENGTH = 160  # of a reason
ORDER: dict[Verdict, int] = {"lost": 0, "gated": 1, "worse": 2, "better": 3, "new": 4, "absent": 5}
MEANING = {"lost": "no number any longer", "gated": "fails a sanity gate now"}
ENTITIES = {each: f"&#{ord(each)};" for each in "|<>&`*~\\"}


def to_markdown(comparison: Comparison, before: str, after: str) -> str:
    """The comparison as GitHub's Markdown; made to be read on a terminal too."""
    changes, count = comparison.changes, len(comparison.regressions)
    told = sorted((each for each in changes if each.verdict in ORDER), key=lambda each: ORDER[each.verdict])
    table = [each for each in told if each.verdict not in ("new", "absent")]
    lines = [
        f"### mibench: {count or 'no'} regression{'' if count == 1 else 's'}",
        "",
        f"{escaped(before)} → {escaped(after)}: {_counted(changes)}.",
        *_table(table[:SHOWN]),
    ]
    if len(table) > SHOWN:
        lines += ["", f"… and {len(table) - SHOWN} more of these."]
    if comparison.retrained:
        lines += [
            "",
            "The networks have other weights by the same recipe, or ran on another processor, on "
            f"{escaped(', '.join(comparison.retrained))}: samples cannot be paired there, and thresholds are larger.",
        ]
    lines += ["", "<details><summary>The rest, and how it was judged</summary>", ""]
    lines += [*_absent(told), *_new(told), *_unchanged(changes), *_judged(comparison), "", "</details>"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that is nothing but text in a table of GitHub's Markdown."""
    line = "".join(ENTITIES.get(each, each) for each in " ".join(text.split()))
    return line.replace("](", "]&#40;").replace("@", "@\u200b")  # no link, and nobody is called


def _counted(changes: Iterable[Change]) -> str:
    counts = Counter(each.verdict for each in changes)
    words = {"same": "unchanged", "gated": "newly gated", "absent": "not in the later one"}
    order: tuple[Verdict, ...] = ("same", *ORDER)
    parts = [f"{counts[verdict]:,} {words.get(verdict, verdict)}" for verdict in order if counts[verdict]]
    return ", ".join(parts) or "nothing to compare"


def _table(changes: Iterable[Change]) -> Iterator[str]:
    rows = [_line(each) for each in changes]
    if rows:
        yield from ("", "| verdict | task | method | metric | before | after | better by | p |", "| " + "--- | " * 8)
        yield from rows


def _line(change: Change) -> str:
    verdict = f"**{change.verdict}**" if change.is_regression else change.verdict
    reason = change.reason if len(change.reason) <= LENGTH else f"{change.reason[: LENGTH - 1]}…"
    why = f" ({reason})" if reason else ""
    words = (change.row.task, change.row.method, (change.row.metric or MEANING.get(change.verdict, "")) + why)
    figures = [
        "" if value != value else format(value, form)
        for value, form in (
            (change.before, ".6g"),
            (change.after, ".6g"),
            (change.difference, "+.3g"),
            (change.p, ".1g"),
        )
    ]
    return "| " + " | ".join([verdict, *map(escaped, words), *figures]) + " |"


def _absent(told: Iterable[Change]) -> Iterator[str]:
    """What the later side did not request: whole methods by name, and the number of other scores."""
    absent = [each for each in told if each.verdict == "absent"]
    if absent:
        methods = Counter(each.row.method for each in absent)
        listed = ", ".join(f"{escaped(method)} ({count})" for method, count in sorted(methods.items())[:FOLDED])
        yield f"- Not requested in the later one, by method, with the number of scores: {listed}."


def _new(told: Iterable[Change]) -> Iterator[str]:
    new = Counter(each.row.method for each in told if each.verdict == "new")
    if new:
        listed = ", ".join(f"{escaped(method)} ({count})" for method, count in sorted(new.items())[:FOLDED])
        yield f"- New in the later one, by method: {listed}."


def _unchanged(changes: Iterable[Change]) -> Iterator[str]:
    same = Counter(each.row.method for each in changes if each.verdict == "same")
    if same:
        listed = ", ".join(f"{escaped(method)} ({count})" for method, count in sorted(same.items())[:FOLDED])
        yield f"- Unchanged, by method: {listed}."


def _judged(comparison: Comparison) -> Iterator[str]:
    """The rules, with their figures."""
    limits = comparison.thresholds
    families = ", ".join(f"{family} {share:g}" for family, share in limits.families.items())
    yield (
        f"- A score has changed if p ≤ {limits.level:g} over the whole table (Holm) and the effect is larger than a "
        f"share of the metric's range or spread: {families + ', ' if families else ''}others {limits.default:g}. "
        f"{comparison.paired:,} scores were compared sample by sample, the others by their intervals."
    )
    counts = "exactly" if limits.counts == 0 else f"to {limits.counts:.2%}"
    yield (
        f"- FLOPs and passes are compared {counts}; multiples of a forward may become {1 + limits.forwards:g} times "
        "as large (and one more), and are compared on one kind of processor alone; seconds are not compared."
    )
    if comparison.redrawn:
        redrawn = limits.redrawn
        families = ", ".join(f"{family} {share:g}" for family, share in redrawn.families.items())
        yield (
            f"- These were fitted again, and are judged by the scatter of their seeds, too: "
            f"{escaped(', '.join(comparison.redrawn[:FOLDED]))}. It is estimated where there are several, and at "
            f"most a share likewise: {families + ', ' if families else ''}others {redrawn.default:g}, metrics "
            f"without bounds {redrawn.unbounded:g}. More seeds detect smaller losses."
        )
    if comparison.retrained:
        retrained = limits.retrained
        families = ", ".join(f"{family} {share:g}" for family, share in retrained.families.items())
        yield (
            "- Where networks were trained again, their own scatter is added to the errors, as a share likewise: "
            f"{families + ', ' if families else ''}others {retrained.default:g}, metrics without bounds "
            f"{retrained.unbounded:g}; counts are compared to {retrained.counts:.0%}."
        )
