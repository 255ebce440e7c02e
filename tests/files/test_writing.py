"""What is read is the file that was written, and nothing that has taken its place makes a reader wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mibench.errors import Damaged
from mibench.files import writing


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.write_bytes(b"other"), "SHA-256"),
        (lambda path: path.touch() or os.truncate(path, 2**43), "cannot be read|bytes instead of 7"),
        (lambda path: None, "No such file"),
    ],
    ids=["pipe", "device", "folder", "file", "file larger than memory", "nothing"],
)
def test_what_has_taken_the_place_of_a_file_is_named_at_once(
    tmp_path: Path, put: Callable[[Path], object], why: str
) -> None:
    file = tmp_path / "file"
    digest = writing.write(file, b"content")
    assert writing.read(file, digest) == b"content"
    file.unlink()
    put(file)
    with pytest.raises(Damaged, match=why):
        writing.read(file, digest)
    assert writing.fault(file, digest, 7)
