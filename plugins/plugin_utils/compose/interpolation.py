# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``${NAME}`` in a Compose file, by the Compose specification; and the files of names and values, ``.env``.

Names have the values that the inventory and the project's ``.env`` give them.  The environment of whoever runs Ansible
is not asked: the same inventory is the same plan for everybody.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .document import Unreadable
from .located import Map, Origin, Seq, Text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_DEEPEST = 10
_LONGEST = 65536
_ENV_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:=|:\s)\s*(.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$$"}


_MOST = 400_000
"""Values of a project, of which each 64 characters count as one: extended and included, few lines may say billions."""


class BadTemplate(ValueError):
    """Text that cannot be interpolated: why, as a sentence."""


class Budget:
    """How much a project may still say."""

    def __init__(self) -> None:
        self._left = _MOST

    def take(self, amount: int, origin: Origin) -> None:
        """Raises `Unreadable` if no so much is left."""
        self._left -= amount
        if self._left < 0:
            raise Unreadable(
                "With all that they extend, include and refer to, these files say more than can be read.",
                "Is there a value that is repeated many times?",
                origin,
            )


class Interpolation:
    """Replaces names by their values; ``unset`` collects the names that have none, with the origin of the first use."""

    def __init__(self, values: Mapping[str, str], budget: Budget) -> None:
        self.values = values
        self.unset: dict[str, Origin] = {}
        self._budget = budget

    def __call__(self, value: Any, wrong: Callable[[Origin, str], None]) -> Any:
        """A value of a document with every text in it interpolated; ``wrong`` is told what cannot be.

        Raises `Unreadable` for more than the budget.
        """
        if isinstance(value, (Map, Seq)):
            self._budget.take(len(value), value.origin)
        if isinstance(value, Map):
            return Map({key: self(item, wrong) for key, item in value.items()}, value.origin, value.tag)
        if isinstance(value, Seq):
            return Seq([self(item, wrong) for item in value], value.origin, value.tag)
        if not isinstance(value, Text) or "$" not in value:
            return value
        try:
            return Text(self.text(value, value.origin), value.origin, value.tag)
        except BadTemplate as error:
            wrong(value.origin, str(error))
            return None

    def text(self, template: str, origin: Origin, depth: int = 0) -> str:
        """One text, interpolated.  Raises `BadTemplate`."""
        if depth > _DEEPEST:
            raise BadTemplate("Defaults are nested too deeply here.")
        if len(template) > _LONGEST:
            raise BadTemplate("This text is too long to have variables in it.")
        result, position, length = [], 0, 0
        while (dollar := template.find("$", position)) >= 0:
            result.append(template[position:dollar])
            name = _NAME.match(template, dollar + 1)
            if template.startswith("$", dollar + 1):
                result.append("$")
                position = dollar + 2
            elif name:
                result.append(self._value(name[0], origin))
                position = name.end()
            elif template.startswith("{", dollar + 1):
                inner = _braced(template, dollar + 1)
                result.append(self._expression(inner, origin, depth))
                position = dollar + 1 + len(inner) + 2
            else:
                raise BadTemplate("Behind `$` stands no name; a dollar sign itself is written `$$`.")
            length += len(result[-1])
            self._budget.take(len(result[-1]) // 64, origin)
            if length > _LONGEST:
                raise BadTemplate("With its variables this text is too long.")
        return "".join([*result, template[position:]])

    def _expression(self, inner: str, origin: Origin, depth: int) -> str:
        name = _NAME.match(inner)
        if name is None:
            raise BadTemplate(f"`${{{inner[:40]}}}` has no name in it.")
        rest, value = inner[name.end() :], self.values.get(name[0])
        if not rest:
            return self._value(name[0], origin)
        operator = next((word for word in _OPERATORS if rest.startswith(word)), None)
        if operator is None:
            raise BadTemplate(
                f"`${{{inner[:40]}}}` is no form of Compose; write for example `${{{name[0]}:-default}}`."
            )
        other = rest[len(operator) :]
        given = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("-"):
            return (value or "") if given else self.text(other, origin, depth + 1)
        if operator.endswith("+"):
            return self.text(other, origin, depth + 1) if given else ""
        if not given:
            because = self.text(other, origin, depth + 1)
            raise BadTemplate(f"The variable {name[0]} must be set{f': {because[:80]}' if because else ''}.")
        return value or ""

    def _value(self, name: str, origin: Origin) -> str:
        if name not in self.values:
            self.unset.setdefault(name, origin)
        return self.values.get(name, "")


def _braced(template: str, start: int) -> str:
    """What stands between the ``{`` at ``start`` and the ``}`` that belongs to it."""
    depth = 0
    for index in range(start, len(template)):
        character = template[index]
        if character == "{" and template[index - 1] == "$":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return template[start + 1 : index]
    raise BadTemplate("There is no `}` for a `${`.")


def read_env(text: str, given: Mapping[str, str], file: str) -> dict[str, str]:
    """The names and values of a file ``.env``; those that are ``given`` count in what its lines refer to.

    Raises `Unreadable` for values that are too large together.
    """
    found: dict[str, str] = {}
    known = Interpolation(ChainMap(dict(given), found), Budget())
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        if match is not None:
            raw = match[2]
            found[match[1]] = _env_value(_whole(raw, lines) if raw[:1] in _CLOSED else raw, known, file)
    return found


_CLOSED = {"'": re.compile(r"[^']*'"), '"': re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)}
"""The rest of a quoted value, with the quote that closes it."""


def _whole(raw: str, lines: Iterator[str]) -> str:
    """A quoted value with the lines up to the one that closes it."""
    parts, closed, start = [raw], _CLOSED[raw[0]], 1
    while not closed.match(parts[-1], start) and (more := next(lines, None)) is not None:
        parts.append(more)
        start = 0
    return "\n".join(parts)


def _env_value(raw: str, known: Interpolation, file: str) -> str:
    quote = raw[:1]
    closed = _CLOSED[quote].match(raw, 1) if quote in _CLOSED else None
    if closed is not None:
        text = raw[1 : closed.end() - 1]
        if quote == "'":
            return text
        text = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text)
    else:
        text = re.sub(r"(?<!\s)\s+#.*", "", raw).strip()
    try:
        return known.text(text, (file, 0))
    except BadTemplate:
        return text
