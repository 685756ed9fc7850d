# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``dataclass`` as of `dataclasses`, but made faster.

Python's own writes and compiles six methods of each frozen class, this one only ``__init__``: the 70 classes of the
host half took 60 ms of each call.  mypy sees Python's own here, and with it that nobody assigns to a frozen object.
"""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any, Callable, Optional

__all__ = ("dataclass",)

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: Optional[type] = None, *, frozen: bool = False, order: bool = False) -> Any:
        """As `dataclasses.dataclass`.  TypeError for fields that are not compared, hashed and shown alike."""
        if cls is None:
            return lambda each: dataclass(each, frozen=frozen, order=order)
        own = {name for name, value in cls.__dict__.items() if value is not None}
        made = dataclasses.dataclass(cls, repr=False, eq=False)
        fields = dataclasses.fields(made)
        if not all(item.compare and item.repr and item.hash is None for item in fields):
            raise TypeError(f"{cls.__name__} has fields that are left out of methods: use Python's own dataclass")
        for name, method in _methods([item.name for item in fields], frozen, order).items():
            if name not in own:
                setattr(made, name, method)
        return made


def _methods(names: list[str], frozen: bool, order: bool) -> dict[str, Optional[Callable[..., Any]]]:
    # With the class it is a tuple even of one field.
    values: Callable[[Any], Any] = operator.attrgetter("__class__", *names)

    def compared(by: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
        def method(self: Any, other: Any) -> Any:
            return by(values(self), values(other)) if other.__class__ is self.__class__ else NotImplemented

        return method

    def shown(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    result: dict[str, Optional[Callable[..., Any]]] = {"__eq__": compared(operator.eq), "__repr__": shown}
    result["__hash__"] = (lambda self: hash(values(self))) if frozen else None
    if order:
        result.update(
            {f"__{by.__name__}__": compared(by) for by in (operator.lt, operator.le, operator.gt, operator.ge)}
        )
    return result
