"""What a worker answers, as JSON: a stranger's code runs where it is written, so nothing in it is trusted.

An answer must have exactly the job's cells, a status of the list, numbers that are numbers and texts that are text; any
other is a loss with the reason. Never pickle: reading one may run code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, get_args

from mibench import errors
from mibench.errors import MibenchError, RecordError, one_line
from mibench.record.cells import Job, Loss, Outcome, Prepared, Status

MAX_BYTES = 2**28  # of one answer
MAX_FACTS = 1000  # of one outcome
KINDS: Mapping[str, type[MibenchError]] = {
    name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, MibenchError)
}
Answer = list[Outcome] | Loss | Prepared | MibenchError


class Unreadable(Exception):
    """An answer that no worker of ours writes."""


def encode(answer: Answer) -> bytes:
    """An answer as bytes."""
    if isinstance(answer, MibenchError):
        kind = next(name for name in (cls.__name__ for cls in type(answer).__mro__) if name in KINDS)
        content: Any = {"error": {"kind": kind, "reason": one_line(str(answer))}}
    elif isinstance(answer, Loss):
        content = {"loss": asdict(answer)}
    elif isinstance(answer, Prepared):
        content = {"prepared": asdict(answer)}
    else:
        content = {"outcomes": [{name: getattr(each, name) for name in OUTCOME} for each in answer]}
    return json.dumps(content, default=_plain).encode("ascii")


def decode(job: Job, answer: bytes) -> Answer:
    """What a worker answered to a job; a loss where the answer cannot be used."""
    try:
        content = json.loads(answer)
        _expect(isinstance(content, dict) and len(content) == 1, "it has no single kind")
        ((kind, value),) = content.items()
        return _READERS[kind](job, value)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, Unreadable) as error:
        return Loss("failed", one_line(f"the worker's answer cannot be used: {error or type(error).__name__}"))


OUTCOME = [each.name for each in fields(Outcome)]


def _error(job: Job, value: Any) -> MibenchError | Loss:
    """Errors end a run only while it is prepared, or where its record cannot be written."""
    error = KINDS[_text(value["kind"])](one_line(_text(value["reason"])))
    if job.stage == "prepare" or isinstance(error, RecordError):
        return error
    return Loss("failed", str(error))


def _loss(_job: Job, value: Any) -> Loss:
    return Loss(_status(value["status"]), one_line(_text(value["reason"])))


def _prepared(job: Job, value: Any) -> Prepared:
    _expect(job.stage == "prepare", "only a job that prepares may answer so")
    count = len(value["ids"])
    prepared = Prepared(
        name=_text(value["name"]),
        weights_hash=_text(value["weights_hash"]),
        data_hash=_text(value["data_hash"]),
        accuracy=_number(value["accuracy"]),
        ids=tuple(_valid(name) for name in value["ids"]),
        labels=tuple(_whole(each) for each in value["labels"]),
        targets=tuple(_whole(each) for each in value["targets"]),
        classes=tuple(_valid(name) for name in value["classes"]),
        facts=_facts(value["facts"]),
        notices=tuple(one_line(_text(notice)) for notice in value["notices"]),
        forward=_number(value["forward"]),
        digest=one_line(_text(value["digest"])),
        files=tuple(_valid(name) for name in value["files"]),
    )
    _expect(len(prepared.labels) == len(prepared.targets) == count, "a sample lacks its label or its target")
    named = range(len(prepared.classes))
    _expect(all(each in named for each in (*prepared.labels, *prepared.targets)), "a class has no name")
    return prepared


def _outcomes(job: Job, value: Any) -> list[Outcome]:
    _expect(job.stage != "prepare", "a job that prepares has no outcomes")
    outcomes = [_outcome(each) for each in value]
    wanted = sorted(cell.key for cell in job.cells)
    _expect(sorted(each.key for each in outcomes) == wanted, "it is not about exactly the job's cells")
    return outcomes


def _outcome(value: Any) -> Outcome:
    _expect(set(value) == set(OUTCOME), "an outcome has other fields")
    scores = tuple(_number(each) for each in value["scores"])
    reasons = tuple(one_line(_text(each)) for each in value["reasons"])
    _expect(len(scores) == len(reasons), "it has not one reason for each score")
    seconds = _number(value["seconds"])
    _expect(math.isfinite(seconds) and seconds >= 0, "its seconds are not a duration")
    return Outcome(
        key=_text(value["key"]),
        status=_status(value["status"]),
        reason=one_line(_text(value["reason"])),
        seconds=seconds,
        facts=_facts(value["facts"]),
        scores=scores,
        reasons=reasons,
        digest=one_line(_text(value["digest"])),
    )


_READERS = {"error": _error, "loss": _loss, "prepared": _prepared, "outcomes": _outcomes}


def _status(value: Any) -> Status:
    _expect(value in get_args(Status), "it has an unknown status")
    status: Status = value
    return status


def _facts(value: Any) -> dict[str, Any]:
    _expect(isinstance(value, dict) and len(value) <= MAX_FACTS, "its facts are not a table")
    return {one_line(_text(key)): _fact(each) for key, each in value.items()}


def _fact(value: Any, depth: int = 3) -> Any:
    """Numbers, short texts, and lists and tables of them."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return one_line(value)
    _expect(depth > 0 and len(value) <= MAX_FACTS, "a fact is too large")
    if isinstance(value, dict):
        return {one_line(key): _fact(each, depth - 1) for key, each in value.items()}
    return [_fact(each, depth - 1) for each in value]


def _number(value: Any) -> float:
    _expect(isinstance(value, int | float) and not isinstance(value, bool), "a number is none")
    return float(value)


def _whole(value: Any) -> int:
    _expect(isinstance(value, int) and not isinstance(value, bool), "a whole number is none")
    number: int = value
    return number


def _text(value: Any) -> str:
    _expect(isinstance(value, str), "a text is none")
    text: str = value
    return text


def _valid(value: Any) -> str:
    """A text that is kept as it is, so it must be valid as it is."""
    text = _text(value)
    text.encode("utf-8")
    _expect("\0" not in text, "a name contains NUL")
    return text


def _expect(holds: bool, fault: str) -> None:
    if not holds:
        raise Unreadable(fault)


def _plain(value: Any) -> Any:
    """Numbers and lists of numpy and torch as JSON has them."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    return value.tolist()
