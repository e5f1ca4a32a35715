"""What every part of a config is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a config: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
