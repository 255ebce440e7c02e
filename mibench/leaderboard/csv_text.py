"""Text in the cells of a CSV file that no spreadsheet takes for a formula, and that reads back as it was.

A cell that begins with one of `= + - @`, a tab or a carriage return is a formula to Excel and its kin; an apostrophe
before it makes it text. Text that begins with an apostrophe gets one more, so that one can always be taken away.
"""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def inert(text: str) -> str:
    """Text as it is written into a cell; numbers are written as they are and never come here."""
    return f"'{text}" if text.startswith((*FORMULA, "'")) else text


def restored(cell: str) -> str:
    """The text that was written into a cell."""
    return cell[1:] if cell.startswith("'") else cell
