"""The type of anything that speaks the buffer protocol (`collections.abc.Buffer` exists from 3.12 only)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer as Buffer  # noqa: PLC0414 - the form that mypy takes as a re-export
else:
    Buffer = object
