"""A comparison as a comment for a pull request: a verdict, a line a method, what would have been seen; the rest folded.

Names come from whoever wrote a plug-in or a folder, so nothing in them can break the table, open a tag, make a link or
call a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from mibench.gate.by_method import Summary, largest_visible, summaries
from mibench.gate.comparison import COMBINED, Change, Comparison, Verdict
from mibench.gate.question import CHANGED
from mibench.gate.thresholds import Scatter, Thresholds

SHOWN = 40  # rows of a table; a comment may have 65,536 characters
FOLDED = 200
LENGTH = 160  # of a reason
ORDER: dict[Verdict, int] = {"lost": 0, "gated": 1, "worse": 2, "better": 3, "other": 4, "new": 5, "absent": 6}
MEANING = {"lost": "no number any longer", "gated": "fails a sanity gate now"}
ENTITIES = {each: f"&#{ord(each)};" for each in "|<>&`*~\\"}


def to_markdown(comparison: Comparison, before: str, after: str, pages: str = "") -> str:
    """The comparison as GitHub's Markdown; made to be read on a terminal too. `pages`: where the boards' pages are."""
    changes, methods = comparison.changes, summaries(comparison)
    told = sorted((each for each in changes if each.verdict in ORDER), key=lambda each: ORDER[each.verdict])
    lines = [
        f"### mibench: {_headline(comparison, methods)}",
        "",
        f"{escaped(before)} → {escaped(after)}: {_counted(changes)}.{_link(comparison.suite, pages)}",
        *_methods(methods),
        *_visible(comparison),
        *_notes(comparison),
    ]
    lines += ["", "<details><summary>Every change, and how it was judged</summary>", ""]
    table = [each for each in told if each.verdict in ("lost", "gated", "worse", "better")]
    lines += _table(table[:SHOWN])
    if len(table) > SHOWN:
        lines += [f"… and {len(table) - SHOWN} more of these.", ""]
    lines += [*_listed(told), *_unchanged(changes), *_judged(comparison), "", "</details>"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that is nothing but text in a table of GitHub's Markdown."""
    line = "".join(ENTITIES.get(each, each) for each in " ".join(text.split()))
    return line.replace("](", "]&#40;").replace("@", "@\u200b")  # no link, and nobody is called


def _headline(comparison: Comparison, methods: Sequence[Summary]) -> str:
    worse, scores = sum(each.is_regression for each in methods), len(comparison.regressions)
    if not worse:
        return "no regression"
    return f"{worse} method{'' if worse == 1 else 's'} became worse ({scores} result{'' if scores == 1 else 's'})"


def _counted(changes: Iterable[Change]) -> str:
    counts = Counter(each.verdict for each in changes if each.row.metric != COMBINED)
    words = {"same": "unchanged", "gated": "newly gated", "absent": "not requested", "other": "not comparable"}
    order: tuple[Verdict, ...] = ("same", *ORDER)
    parts = [f"{counts[verdict]:,} {words.get(verdict, verdict)}" for verdict in order if counts[verdict]]
    return ", ".join(parts) or "nothing to compare"


def _link(suite: str, pages: str) -> str:
    if not (pages and suite):
        return ""
    return f" [Leaderboard of {escaped(suite)}]({quote(pages.rstrip('/'), safe=':/?&=%')}/{quote(suite)}.html)."


def _methods(methods: Sequence[Summary]) -> Iterator[str]:
    """A line for each method of which anything changed, the worst first."""
    shown = [each for each in methods if each.verdict != "same"]
    if not shown:
        return
    yield from (
        "",
        "| method | became | scores | all scores, sd | largest change | costs | place |",
        "| " + "--- | " * 7,
    )
    for each in shown[:SHOWN]:
        verdict = f"**{each.verdict}**" if each.is_regression else each.verdict
        words = (each.method, each.counts, each.together, _shortened(each.largest), each.costs, each.place)
        yield "| " + " | ".join([escaped(words[0]), verdict, *map(escaped, words[1:])]) + " |"
    if len(shown) > SHOWN:
        yield from ("", f"… and {len(shown) - SHOWN} more methods.")


def _visible(comparison: Comparison) -> Iterator[str]:
    """The largest of the smallest losses that would have been seen, by family and by what was drawn again."""
    found = largest_visible(comparison.changes)
    if not found:
        return
    yield from (
        "",
        "The smallest loss that would have been seen in 95 of 100 such comparisons, in the least sensitive row by its "
        "share of the metric's range (of the spread over samples, for metrics without bounds):",
    )
    yield from ("", "| family | drawn again | scores | loss | share | in |", "| " + "--- | " * 6)
    for family, how, count, change in found:
        share = f"{change.visible_share:.0%}" if change.scale > 0 else ""
        yield f"| {escaped(family)} | {how} | {count} | {change.visible:.2g} | {share} | {escaped(_place(change))} |"


def _notes(comparison: Comparison) -> Iterator[str]:
    """What limits the comparison as a whole."""
    notes = []
    if comparison.retrained:
        notes.append(
            f"Networks have other weights by the same recipe on {escaped(', '.join(comparison.retrained))}: "
            "samples cannot be paired there, and thresholds are larger."
        )
    if comparison.unpaired_seeds:
        seeds = ", ".join(map(str, comparison.unpaired_seeds))
        notes.append(f"One side alone has the seeds {seeds}: the samples of the others were compared.")
    if comparison.moves is None:
        notes.append("One of the boards has no order of the methods: no places are compared.")
    yield from (line for note in notes for line in ("", note))


def _table(changes: Iterable[Change]) -> Iterator[str]:
    rows = [_line(each) for each in changes]
    if rows:
        yield "| verdict | task | method | metric | before | after | better by | p | visible loss | rank |"
        yield from ("| " + "--- | " * 10, *rows, "")


def _line(change: Change) -> str:
    verdict = f"**{change.verdict}**" if change.is_regression else change.verdict
    why = f" ({_shortened(change.reason)})" if change.reason else ""
    words = (change.row.task, change.row.method, (change.row.metric or MEANING.get(change.verdict, "")) + why)
    figures = [
        "" if value != value else format(value, form)
        for value, form in (
            (change.before, ".6g"),
            (change.after, ".6g"),
            (change.difference, "+.3g"),
            (change.p, ".1g"),
            (change.visible, ".2g"),
        )
    ]
    ranks = " → ".join(change.ranks) if all(change.ranks) else ""
    return "| " + " | ".join([verdict, *map(escaped, words), *figures, ranks]) + " |"


def _shortened(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"


def _place(change: Change) -> str:
    return f"{change.row.metric} of {change.row.method} on {change.row.task}"


def _listed(told: Sequence[Change]) -> Iterator[str]:
    """What is on one side alone, or answers another question: by method or by reason, with the number of scores."""
    titles: dict[Verdict, str] = {"absent": "Not requested in the later one", "new": "New in the later one"}
    for verdict, title in titles.items():
        counts = Counter(each.row.method for each in told if each.verdict == verdict)
        if counts:
            yield f"- {title}, by method, with the number of scores: {_counts(counts)}."
    changed = [each for each in told if each.verdict == "other" and CHANGED in each.reason]
    others = [each for each in told if each.verdict == "other" and CHANGED not in each.reason]
    reasons = Counter(f"{each.row.metric}: {each.reason}" for each in changed)
    reasons += Counter(f"{each.row.task}: {each.reason}" for each in others)
    if reasons:
        yield f"- Not comparable, which is no regression, with the number of scores: {_counts(reasons)}."


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{escaped(_shortened(name))} ({count})" for name, count in sorted(counts.items())[:FOLDED])


def _unchanged(changes: Iterable[Change]) -> Iterator[str]:
    """How many scores of each method did not change, and the largest loss that might have been missed."""
    same: dict[str, list[Change]] = {}
    for each in changes:
        if each.verdict == "same" and each.row.metric != COMBINED:
            same.setdefault(each.row.method, []).append(each)
    parts = []
    for method, some in sorted(same.items())[:FOLDED]:
        seen = [each for each in some if each.visible == each.visible]
        worst = max(seen, key=lambda each: each.visible_share, default=None)
        loss = f"; a loss of {worst.visible:.2g} in {escaped(worst.row.metric)} would have been seen" if worst else ""
        parts.append(f"{escaped(method)} ({len(some)}{loss})")
    if parts:
        yield f"- Unchanged, by method, with the least visible loss: {', '.join(parts)}."


def _judged(comparison: Comparison) -> Iterator[str]:
    """The rules, with their figures."""
    limits = comparison.thresholds
    yield (
        f"- A score has changed if p ≤ {limits.level:g} over the whole table (Holm) and the effect is larger than a "
        f"share of the metric's range or spread: {_shares(limits)}. {comparison.paired:,} scores were compared sample "
        f"by sample, the others by intervals. Losses in few samples count where more than {limits.flips:.0%} fell. "
        "A method's scores are tested together, too: the mean over families of differences in standard deviations. "
        "A loss that would have been seen is one that is spread over samples as the scores are."
    )
    counts = "exactly" if limits.counts == 0 else f"to {limits.counts:.2%}"
    yield (
        f"- FLOPs and passes are compared {counts}; multiples of a forward may become {1 + limits.forwards:g} times "
        "as large (and one more), and are compared on one kind of processor alone; seconds are not compared."
    )
    if comparison.redrawn:
        yield (
            f"- These were fitted again, and are judged by the scatter of their fits, too: "
            f"{escaped(', '.join(comparison.redrawn[:FOLDED]))}. It is known from committed tables, or estimated from "
            f"the seeds and at most a share likewise: {_shares(limits.redrawn)}. More seeds detect smaller losses."
        )
    if comparison.retrained:
        yield (
            "- Where networks were trained again, their own scatter is added to the errors, as a share likewise: "
            f"{_shares(limits.retrained)}; counts are compared to {limits.retrained.counts:.0%}."
        )


def _shares(effects: Thresholds | Scatter) -> str:
    """A table of shares in words."""
    shares = [f"{family} {share:g}" for family, share in effects.families.items()]
    unbounded = [f"metrics without bounds {effects.unbounded:g}"] if isinstance(effects, Scatter) else []
    return ", ".join([*shares, f"others {effects.default:g}", *unbounded])
