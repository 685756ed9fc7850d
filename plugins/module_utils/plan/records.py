# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``dataclass``, made quickly: for each frozen class Python's own compiles the text of six methods, this one of one.

With Python's own that was a third of the time that a call took to start on a host.  That nothing is assigned to a
frozen object is mypy's to see, for which this is Python's own.
"""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414  # for everybody who imports it here
else:

    def dataclass(cls: Optional[type] = None, *, frozen: bool = False, order: bool = False) -> Any:
        """As `dataclasses.dataclass`, for fields that are compared, hashed and shown.  TypeError for others."""
        if cls is None:
            return lambda each: dataclass(each, frozen=frozen, order=order)
        made = dataclasses.dataclass(cls, repr=False, eq=False)
        names = [item.name for item in dataclasses.fields(made)]
        if not all(item.compare and item.repr and item.hash is None for item in dataclasses.fields(made)):
            raise TypeError(f"{cls.__name__} has fields that are left out of methods: use Python's own dataclass")
        for name, method in _methods(made, names, frozen, order).items():
            if name not in cls.__dict__:
                setattr(made, name, method)
        return made


def _methods(cls: type, names: list[str], frozen: bool, order: bool) -> dict[str, Optional[Callable[..., Any]]]:
    values: Callable[[Any], Any] = operator.attrgetter(*names) if names else lambda _self: ()

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
