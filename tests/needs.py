"""What some tests need and a machine may lack: they are skipped with one line that says what to install.

With MIBENCH_TESTS=all, as in CI, nothing may be missing and they fail instead.
"""

from __future__ import annotations

import importlib
import os
import shutil
from typing import Any, NoReturn

import pytest

from mibench import errors


def absent(what: str) -> NoReturn:
    """Skip the test or the module, or fail where nothing may be missing."""
    if os.environ.get("MIBENCH_TESTS") == "all":
        pytest.fail(what, pytrace=False)
    pytest.skip(what, allow_module_level=True)


def quantus() -> Any:
    """Quantus, whose OpenCV needs libGL unless the headless wheel replaces it."""
    try:
        return importlib.import_module("quantus")
    except ImportError as error:
        absent(f"Quantus cannot be imported: {errors.mend(error)}")


def chromium() -> str:
    """Debian's browser."""
    return shutil.which("chromium") or absent("chromium is not installed (apt install chromium)")
