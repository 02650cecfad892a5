"""What every table of study.toml is, and the variables: one column of everybody's file each."""

from __future__ import annotations

import itertools
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """Immutable, and an unknown key is an error: a misspelt setting must not silently become a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _shown(value: str) -> str:
    if not value.isprintable():
        raise ValueError(
            "a name may hold no control characters; it is shown to people who decide by what they see"
        )
    return value


MOST_VARIABLES: Final = 128
"""Of a study; kinds may take fewer."""

Shown = AfterValidator(_shown)
Category = Annotated[str, Field(min_length=1, max_length=64), Shown]


class Variable(Settings):
    """One column: x = (transform(raw / transform_scale) - centre) / scale, all constants public.

    `lower` and `upper` are public bounds in the column's own units. Where nodes release with noise every variable has them, and
    a number beyond is moved to the bound before anything else happens to it.

    `categories`: what may stand in a column that holds no numbers, in a public order; such a column has nothing else, unless it has
    `numbers`: one for each category, ascending, which the category stands for from then on, as numbers of a column do. In a study of
    trees a variable is a taxon and has a name only.
    """

    name: Annotated[str, Field(min_length=1, max_length=64), Shown]
    transform: Literal["none", "arcsinh", "log"] = "none"
    transform_scale: Annotated[float, Field(gt=0)] = 1.0
    centre: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0
    lower: float | None = None
    upper: float | None = None
    categories: Annotated[list[Category], Field(min_length=2, max_length=1024)] | None = None
    numbers: list[float] | None = None

    @field_validator("name")
    @classmethod
    def _fits_edge_lists(cls, value: str) -> str:
        if ";" in value or "->" in value:
            raise ValueError(
                "a variable's name may hold neither ';' nor '->': samples list edges as a->b;c->d"
            )
        return value

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise ValueError("a category is listed twice")
        if self.categories is not None and any(c != c.strip() for c in self.categories):
            raise ValueError("a category begins or ends with a space")
        if self.numbers is not None:
            if self.categories is None or len(self.numbers) != len(self.categories):
                raise ValueError("numbers are one for each of the categories, which it lists")
            if any(low >= high for low, high in itertools.pairwise(self.numbers)):
                raise ValueError(
                    "numbers of ordered categories ascend; list the categories in their order, or leave numbers out"
                )
        return self

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said of it that belongs to a column of numbers."""
        numeric = {"transform", "transform_scale", "centre", "scale", "lower", "upper", "numbers"}
        return not self.model_fields_set & numeric

    @property
    def is_number(self) -> bool:
        """Whether scores take it as a number: a column of numbers, or of categories with `numbers`."""
        return self.categories is None or self.numbers is not None
