"""A run records the commit of the checkout that it came from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mibench.record import environment

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_commit_is_that_of_the_checkout() -> None:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert environment.commit().removesuffix("-dirty").endswith(head)
