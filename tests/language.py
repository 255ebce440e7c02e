"""Words of the project's own dialect, counted in docstrings, comments and messages: `python -m tests.language`.

A reader whose English is plain must learn what a dialect means; its words are the symptom that is counted. The limits
are the most that was found in seven well-read projects, per 10,000 words.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("mibench", "methods", "metrics")
DIALECT = {  # pattern -> the most per 10,000 words
    r"say|says|said|saying": 0.4,
    r"tell|tells|told|telling": 1.2,
    r"ask|asks|asked|asking": 0.5,
    r"stand|stands|stood|lie|lies|lay": 0.8,
    r"(?:is|are|was) no (?!longer)\w+": 2.7,
    r"gone|lost": 1.6,
    r"beside": 0.1,
    r"anew": 0.0,
}


def prose(path: Path) -> Iterator[str]:
    """The docstrings, comments and messages of a module: strings that hold at least three words."""
    text = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) >= 3:
            yield node.value


def modules() -> list[Path]:
    """Every module of the package."""
    found = {path.resolve() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    return sorted(found)


def rates(texts: list[str]) -> dict[str, float]:
    """How often each pattern occurs per 10,000 words."""
    every = " ".join(texts)
    words = len(re.findall(r"[A-Za-z']+", every))
    return {each: 10_000 * len(re.findall(rf"\b(?:{each})\b", every, re.IGNORECASE)) / words for each in DIALECT}


def main() -> None:
    """Print the table, and the modules where the words are."""
    texts = {path: list(prose(path)) for path in modules()}
    for pattern, rate in rates([text for each in texts.values() for text in each]).items():
        print(f"{rate:6.1f}  at most {DIALECT[pattern]:3}  {pattern}")
    joined = re.compile("|".join(rf"\b(?:{each})\b" for each in DIALECT), re.IGNORECASE)
    where = Counter({path: sum(len(joined.findall(text)) for text in each) for path, each in texts.items()})
    for path, count in where.most_common(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        print(f"{count:4}  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
