"""What is kept as JSON and read again by the class that wrote it: typed, with a schema number, and nothing besides.

A key that the class does not know is refused: it was written by another version or by hand, and either may mean that
the other numbers mean something else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from mibench.errors import UsageError, is_unprintable, one_line
from mibench.files.reading import read_text


def _printable(text: str) -> str:
    if any(map(is_unprintable, text)):
        raise ValueError("it has control characters")
    return text


Name = Annotated[str, StringConstraints(min_length=1, max_length=8192), AfterValidator(_printable)]  # task, row, metric
Line = Annotated[str, BeforeValidator(lambda text: one_line(text) if isinstance(text, str) else text)]  # free text
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]*$", max_length=64)]  # empty: none
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Part(BaseModel):
    """A part of what is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Stored(Part):
    """The whole of a file. `schema_number` changes whenever a key does: there is one reader, for what it wrote."""

    schema_number: int

    @classmethod
    def read(cls, text: str, origin: Path, mend: str) -> Self:
        """The content of a file, or the place of the first key that is wrong and how to make the file again."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UsageError(f"{origin} {_wrong(error)}: {mend}") from error

    @classmethod
    def read_file(cls, file: Path, mend: str) -> Self:
        """The content of a regular file."""
        return cls.read(read_text(file), file, mend)

    def written(self) -> str:
        """The text that `read` understands."""
        return json.dumps(json.loads(self.model_dump_json()), indent=1) + "\n"


def _wrong(error: ValidationError) -> str:
    """What is wrong first: another version's schema before all else."""
    faults = error.errors(include_url=False)
    first = next((fault for fault in faults if fault["loc"] == ("schema_number",)), faults[0])
    if first["loc"] == ("schema_number",):
        return "was written by another version of mibench, with another schema"
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return f"cannot be read: {first['msg']}"
    if first["type"] == "missing":
        return f"is damaged: it lacks {where}"
    return f"is damaged at {where} ({first['msg']}, not {_shown(first['input'])})"


def _shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float | bool | None) else f"this {type(value).__name__}"
