# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Forms of data that hosts report and stores keep: small readers that are combined into tables.  Pure.

A form takes a value and returns it in builtin types, or raises `Unfit`.  A form with parts drops each part that does
not fit and adds an error to `ReportErrors`, so one bad entry affects only itself.  All forms have limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from ipaddress import ip_address, ip_network
from typing import Any, Union

from ..module_utils.plan import forms
from ..module_utils.plan.families import LENGTH, family_of

ReportErrors = list[tuple[str, str]]
"""``(path, why)`` of each dropped value; the path is relative to the form that got the list."""
Form = Callable[[Any, ReportErrors], Any]

LONGEST = 4096
"""Default limit of a text, in characters."""
MOST = 65536
"""Default limit of a list or mapping, in entries."""
_DEEPEST = 12
_SHOWN = 40
_MOST_DIGITS = 64


class Unfit(Exception):
    """The value does not have the form; the message is a clause that says why."""


def printable(text: str, longest: int = _SHOWN) -> str:
    """A host's text for output: one line, shortened, without terminal control characters."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(character if character.isprintable() else "?" for character in cut)


def shown(value: Any) -> str:
    """A value for a message, in a few characters."""
    if isinstance(value, str):
        return f"`{printable(str.__str__(value))}`"
    if value is None or isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        return str(int(value)) if abs(value) < 2**_MOST_DIGITS else "a very large number"
    return "a list" if isinstance(value, (list, tuple)) else "a mapping" if isinstance(value, Mapping) else "a value"


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str):
        raise Unfit(f"it is {shown(value)}, not a text")
    text = str.__str__(value)
    if len(text) > longest:
        raise Unfit(f"it is a text of {len(text)} characters, more than {longest}")
    return text


def text(longest: int = LONGEST) -> Form:
    """A printable text of one line."""

    def read(value: Any, _errors: ReportErrors) -> str:
        found = _text(value, longest)
        if not found.isprintable():
            raise Unfit(f"{shown(found)} has characters that cannot be printed")
        return found

    return read


def written(longest: int = LONGEST) -> Form:
    """Any text that can be encoded in UTF-8: for texts that are only shown as JSON or get other checks."""

    def read(value: Any, _errors: ReportErrors) -> str:
        found = _text(value, longest)
        try:
            found.isascii() or found.encode()
        except UnicodeEncodeError:
            raise Unfit(f"{shown(found)} is not valid Unicode") from None
        return found

    return read


def words(longest: int) -> Form:
    """Text for output only: made printable in one line and shortened, never refused."""

    def read(value: Any, _errors: ReportErrors) -> str:
        return printable(_text(value, MOST), longest)

    return read


def lined(longest: int) -> Form:
    """Text of several lines for output only: each made printable and shortened, none refused."""

    def read(value: Any, _errors: ReportErrors) -> str:
        rows = _text(value, longest).split("\n")
        return "\n".join(row if row.isprintable() else printable(row, len(row)) for row in rows)

    return read


def matching(pattern: str, longest: int, noun: str) -> Form:
    """Text of which the pattern matches the whole."""
    matches = re.compile(pattern).fullmatch

    def read(value: Any, _errors: ReportErrors) -> str:
        found = _text(value, longest)
        if matches(found) is None:
            raise Unfit(f"{shown(found)} is not a valid {noun}")
        return found

    return read


def like(form: forms.Form, empty: bool = False) -> Form:
    """Text of a form that both halves use; with ``empty`` also an empty text."""

    def read(value: Any, _errors: ReportErrors) -> str:
        found = _text(value, LONGEST)
        if not form.fits(found) and not (empty and not found):
            try:
                form(found)
            except forms.FormError as problem:
                raise Unfit(str(problem)) from None
        return found

    return read


def choice(*words: Union[str, int]) -> Form:
    """One of these words or numbers; Ansible may deliver them in types of its own."""
    plain = [str.__str__(word) if isinstance(word, str) else word for word in words]

    def read(value: Any, _errors: ReportErrors) -> Any:
        for word in plain:
            # True must not count as 1.
            if word == value and isinstance(value, type(word)) and not isinstance(value, bool):
                return word
        raise Unfit(f"{shown(value)} is not one of {', '.join(map(str, plain))}")

    return read


def number(least: int, most: int) -> Form:
    """A whole number."""

    def read(value: Any, _errors: ReportErrors) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Unfit(f"{shown(value)} is not a whole number")
        if not least <= value <= most:
            raise Unfit(f"{shown(value)} is not between {least} and {most}")
        return int(value)

    return read


def flag(value: Any, _errors: ReportErrors) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Unfit(f"{shown(value)} is neither true nor false")
    return value


def optional(form: Form) -> Form:
    """The form, or null."""
    return lambda value, errors: None if value is None else form(value, errors)


def _spelling(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A function that returns an address's canonical spelling, or "" if it is invalid or has a zone."""

    @lru_cache(maxsize=65536)
    def read(found: str) -> str:
        try:
            return str(parse(found)) if "%" not in found else ""
        except ValueError:
            return ""

    return read


_address, _prefix = _spelling(ip_address), _spelling(partial(ip_network, strict=False))


def _spelled(spelling: Callable[[str], str], most: int, noun: str) -> Form:
    def read(value: Any, _errors: ReportErrors) -> str:
        found = _text(value, most)
        known = spelling(found)
        if not known:
            raise Unfit(f"{shown(found)} is not a valid {noun}")
        return known

    return read


address = _spelled(_address, 45, "address")
"""An IP address without a zone, in canonical spelling."""
prefix = _spelled(_prefix, 50, "prefix")
"""A prefix in canonical spelling, without host bits."""


def addresses(value: Any, errors: ReportErrors) -> dict[str, str]:
    """``{"ipv4": "10.0.0.2", "ipv6": "fd00::2"}``, or one of them; a separate function for speed."""
    if value.__class__ is dict and all(
        key in _FAMILIES and item.__class__ is str and _FAMILIES[key] == family_of(item) and _address(item) == item
        for key, item in value.items()
    ):
        return dict(value)
    found: dict[str, str] = _ADDRESSES(value, errors)
    return found


_FAMILIES = {"ipv4": 4, "ipv6": 6}


def _family(wanted: int) -> Form:
    def read(value: Any, errors: ReportErrors) -> str:
        found: str = address(value, errors)
        if family_of(found) != wanted:
            raise Unfit(f"{shown(value)} is of the other family")
        return found

    return read


@lru_cache(maxsize=65536)
def _with_length(found: str) -> bool:
    bare, slash, length = found.partition("/")
    known = _address(bare)
    if not known:
        return False
    return not slash or (length.isascii() and length.isdigit() and int(length) <= LENGTH[family_of(known)])


def address_with_length(value: Any, _errors: ReportErrors) -> str:
    """An IP address with or without a prefix length."""
    found = _text(value, 50)
    if not _with_length(found):
        raise Unfit(f"{shown(found)} is not an IP address")
    return found


def listing(form: Form, most: int = MOST) -> Form:
    """A list whose items all have the form."""

    def read(value: Any, errors: ReportErrors) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise Unfit(f"it is {shown(value)}, not a list")
        if len(value) > most:
            raise Unfit(f"it is a list of {len(value)} entries, more than {most}")
        read_items = (_part(form, item, errors, "[{}]", index) for index, item in enumerate(value))
        return [item for item in read_items if item is not _LEFT_OUT]

    return read


def mapping(key: Form, form: Form, most: int = MOST) -> Form:
    """A mapping with a form for its keys and one for its values."""

    def read(value: Any, errors: ReportErrors) -> dict[str, Any]:
        found = _mapping(value, most)
        result: dict[str, Any] = {}
        for given, item in found.items():
            try:
                name = key(given, errors)
            except Unfit as problem:
                errors.append((f".{_name(given)}", f"its key is invalid: {problem}"))
                continue
            read_value = _part(form, item, errors, ".{}", name)
            if read_value is not _LEFT_OUT:
                result[name] = read_value
        return result

    return read


def record(forms: Mapping[str, Form], needed: tuple[str, ...] = ()) -> Form:
    """A mapping with these keys.  Those ``needed`` are required; unknown keys are dropped with an error."""

    def read(value: Any, errors: ReportErrors) -> dict[str, Any]:
        found = _mapping(value, MOST)
        result: dict[str, Any] = {}
        for name, item in found.items():
            form = forms.get(name) if isinstance(name, str) else None
            if form is None:
                errors.append((f".{_name(name)}", "unknown key"))
            elif name in needed:
                result[str.__str__(name)] = form(item, errors)
            elif (read_value := _part(form, item, errors, ".{}", name)) is not _LEFT_OUT:
                result[str.__str__(name)] = read_value
        missing = [name for name in needed if name not in result]
        if missing:
            raise Unfit(f"it lacks {', '.join(missing)}")
        return result

    return read


_LEFT_OUT = object()
_ADDRESSES = record({key: _family(number) for key, number in _FAMILIES.items()})


def _part(form: Form, item: Any, errors: ReportErrors, path: str, key: Any) -> Any:
    """A part as its form returns it, or `_LEFT_OUT` and an error; errors of its own parts get ``path`` of the key."""
    before = len(errors)
    try:
        found = form(item, errors)
    except Unfit as problem:
        found = _LEFT_OUT
        errors.append(("", str(problem)))
    if len(errors) > before:
        errors[before:] = [(path.format(key) + inner, why) for inner, why in errors[before:]]
    return found


def _mapping(value: Any, most: int) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise Unfit(f"it is {shown(value)}, not a mapping")
    if len(value) > most:
        raise Unfit(f"it has {len(value)} keys, more than {most}")
    return value


def _name(key: Any) -> str:
    return printable(str.__str__(key)) if isinstance(key, str) else shown(key)


def plain(most: int = MOST, longest: int = LONGEST) -> Form:
    """Any JSON data with a limited number of values, in builtin types."""
    read_value = written(longest)

    def read(value: Any, errors: ReportErrors) -> Any:
        return _plain(value, read_value, errors, [most], 0)

    return read


def _plain(value: Any, read_value: Form, errors: ReportErrors, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise Unfit("it has too many values")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return read_value(value, errors)
    if isinstance(value, int):
        return number(-(2**63), 2**63)(value, errors)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit("it is not a JSON number")
        return float(value)
    if depth >= _DEEPEST:
        raise Unfit("it is nested too deeply")
    if isinstance(value, Mapping):
        return {
            read_value(key, errors): _plain(item, read_value, errors, left, depth + 1) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, read_value, errors, left, depth + 1) for item in value]
    raise Unfit("it is not JSON data")
