"""Messages between a run and a worker, each with its length, the number of its job and a flag before it.

Not multiprocessing's connections: those wait for the rest of a message, and a stranger's code may never send it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import NamedTuple

HEADER = struct.Struct(">QIB")
CHUNK = 2**20


class Frame(NamedTuple):
    """One message."""

    number: int  # of the job
    last: bool  # whether the worker is not to be given another job
    content: bytes


class Broken(Exception):
    """What came is not a message."""


def send(connection: socket.socket, frame: Frame) -> None:
    """Write a message."""
    connection.sendall(HEADER.pack(len(frame.content), frame.number, frame.last) + frame.content)


class Reader:
    """Puts messages together from what has arrived."""

    def __init__(self, connection: socket.socket, most: int) -> None:
        self._connection, self._most = connection, most
        self._buffer = bytearray()
        self.ended = False  # whether the other end is closed

    def wait(self) -> Frame | None:
        """The next message, however long it takes; nothing if the other end is closed first."""
        while not self.ended:
            if frame := self.take():
                return frame
            self._read()
        return self.take()

    def poll(self) -> Frame | None:
        """The next message if it is there; never waits."""
        self._connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while not self.ended and len(self._buffer) < HEADER.size + self._most:
                self._read()
        return self.take()

    def take(self) -> Frame | None:
        """The next message of those that were read."""
        if len(self._buffer) < HEADER.size:
            return None
        length, number, last = HEADER.unpack_from(self._buffer)
        if length > self._most:
            raise Broken(f"a message of {length} bytes, where {self._most} are allowed")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        content = bytes(memoryview(self._buffer)[HEADER.size : end])
        del self._buffer[:end]
        return Frame(number, bool(last), content)

    def _read(self) -> None:
        try:
            arrived = self._connection.recv(CHUNK)
        except (ConnectionError, TimeoutError):
            arrived = b""
        self.ended |= not arrived
        self._buffer += arrived
