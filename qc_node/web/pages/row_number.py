"""The number of a row of the ledger, as a request names it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST = (1 << 63) - 1
"""SQLite has no larger number, and fails where one is looked for."""

RowNumber = Annotated[int, Field(ge=1, le=LARGEST)]
