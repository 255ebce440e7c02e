"""What a worker answers is data that is checked, for a stranger's code may have written it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from mibench.errors import MAX_LETTERS, DataError, RecordError, one_line
from mibench.plugins.reasons import why
from mibench.record.cells import Loss, Outcome, Prepared
from mibench.record.messages import decode, encode
from tests.engines.test_local import cell, job

JOB = job(cell("a"), cell("b"))
PREPARED = Prepared("d/m", "w", "h", 0.5, ("x", "y"), (0, 1), (1, 1), ("no", "yes"), {"grid": [2, 2]})


def test_what_was_written_is_read_to_the_bit() -> None:
    score = 0.1 + 0.2
    outcomes = [Outcome("a", "ok", seconds=1 / 3, facts={"n": 1}, scores=(score,), reasons=("",)), Outcome("b", "nan")]
    assert decode(JOB, encode(outcomes)) == outcomes
    assert decode(JOB, encode(Loss("oom", "no memory"))) == Loss("oom", "no memory")
    prepare = replace(JOB, stage="prepare", cells=())
    assert decode(prepare, encode(PREPARED)) == PREPARED
    assert isinstance(decode(prepare, encode(DataError("bad"))), DataError)
    (found, _) = decode(JOB, encode([Outcome("a", "ok", scores=(math.nan,), reasons=("no",)), Outcome("b", "ok")]))
    assert math.isnan(found.scores[0])


def test_only_preparing_and_a_record_that_is_full_may_end_a_run() -> None:
    assert decode(JOB, encode(DataError("mine"))) == Loss("failed", "mine")
    assert isinstance(decode(JOB, encode(RecordError("full"))), RecordError)


def changed(**fields: Any) -> bytes:
    content = json.loads(encode([Outcome("a", "ok", scores=(1.0,), reasons=("",)), Outcome("b", "ok")]))
    content["outcomes"][0] |= fields
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x80\x04K\x01.",
        b"[" * 100_000,
        b"{}",
        b'{"outcomes": []}',
        b'{"outcomes": 1}',
        b'{"prepared": {}}',
        b'{"unknown": 1}',
        b'{"error": {"kind": "SystemExit", "reason": ""}}',
        encode(PREPARED),
        changed(key="c"),
        changed(key="b"),
        changed(status="best"),
        changed(scores=["1"]),
        changed(scores=[True]),
        changed(scores=[1.0, 2.0]),
        changed(seconds=-1),
        changed(seconds=math.inf),
        changed(reason=1),
        changed(facts=[]),
        changed(more=1),
    ],
)
def test_any_other_answer_is_a_failure_that_says_so(answer: bytes) -> None:
    loss = decode(JOB, answer)
    assert isinstance(loss, Loss)
    assert loss.status == "failed"
    assert loss.reason.startswith("the worker's answer cannot be used: ")


def test_texts_are_cut_printable_and_valid() -> None:
    found = decode(JOB, changed(reason="A" * 10**6 + "<", reasons=["bad \udcff\0\x1b[2J\n b"]))[0]
    assert len(found.reason) == MAX_LETTERS
    assert " … " in found.reason
    found.reasons[0].encode("utf-8")
    assert found.reasons[0].isprintable()
    assert one_line("as it is") == "as it is"


def test_an_exception_that_cannot_say_what_it_is_has_a_reason_too() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert why(Mute()) == "Mute: no message, for its __str__ raised SystemExit"
