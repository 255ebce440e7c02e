"""A job's log of at most MAX_BYTES: the head is written as it comes, the tail when the job is over."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 10_000_000  # of one log


class Log:
    """What a job prints. No file is made if it prints nothing; one that cannot be written is done without."""

    def __init__(self, file: Path | None, most: int = MAX_BYTES) -> None:
        self._file, self._most = file, most // 2
        self._stream: BinaryIO | None = None
        self._head = 0  # bytes that were written
        self._tail: deque[bytes] = deque()
        self._kept = 0  # bytes in the tail
        self._cut = 0  # bytes that were left out
        if file is not None:
            with contextlib.suppress(OSError):
                file.unlink()  # of an earlier try

    def write(self, printed: bytes) -> None:
        """Take note of what was printed."""
        head = printed[: self._most - self._head]
        self._put(head)
        self._head += len(head)
        if tail := printed[len(head) :]:
            self._tail.append(tail)
            self._kept += len(tail)
        while self._kept > self._most:
            first = self._tail.popleft()
            over = min(len(first), self._kept - self._most)
            self._kept, self._cut = self._kept - over, self._cut + over
            if over < len(first):
                self._tail.appendleft(first[over:])

    def close(self) -> None:
        """Write the tail, with a line for how much is missing before it."""
        if self._cut:
            self._put(f"\n[… {self._cut} bytes were cut here: a log has at most {2 * self._most} …]\n".encode())
        self._put(b"".join(self._tail))
        self._tail.clear()
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()

    def _put(self, content: bytes) -> None:
        if not content or self._file is None:
            return
        with contextlib.suppress(OSError):
            if self._stream is None:
                self._stream = open(self._file, "xb", buffering=0)  # noqa: SIM115 - closed with the log
            self._stream.write(content)
