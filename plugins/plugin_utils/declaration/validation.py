# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Turns what YAML and templates made of a variable into plain data with the schema's structure.

`plain` turns Ansible's tagged values into builtin ones, `fit` compares them with a schema.  Both report
errors and replace wrong values by None, so that the readers get the types they expect and find the other errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import cache
from typing import Any, Optional, cast

try:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import extend

    MISSING_LIBRARY: Optional[str] = None
except ImportError:
    MISSING_LIBRARY = "jsonschema"
    """The library that the controller's Python lacks and `fit` needs."""

from . import schema as schemas
from .errors import VarPath, show, word

_DEEPEST = 12
_LARGEST = 2**64

_ELSEWHERE = {
    "external": "Leave it out: what is not declared here is not touched, and bridge, host and none are always there.",
    "name": "Leave it out: the key above it is the name.",
    "priority": "It is `gw_priority` that chooses the default route; the order of the links is the order written.",
    "container_name": "Leave it out: the key above it is the sandbox's name.",
    "image": "Leave it out: a sandbox is a network namespace; what runs in it is started by others.",
    "link_local_ips": "Leave it out: link-local addresses are not managed.",
    "config_only": "Leave it out: write the settings with the network, or share them with a YAML anchor.",
    "config_from": "Leave it out: write the settings with the network, or share them with a YAML anchor.",
}
"""Keys of Compose that are not ours, and what to do instead."""


def closest(text: str, known: Iterable[str]) -> Optional[str]:
    """The known word that was probably meant, if there is one."""
    found = get_close_matches(text, sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(text: str, known: Iterable[str], otherwise: str = "") -> str:
    """A remedy: the closest known word, or ``otherwise``."""
    near = closest(text, known)
    return f"Did you mean `{near}`?" if near else otherwise


def plain(value: Any, path: VarPath, depth: int = 0) -> Any:
    """The value in builtin types (dict with text keys, list, str, int, float, bool, None).

    Other values are noted and become None.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, path)
    if isinstance(value, int):
        return _plain_number(value, path)
    if isinstance(value, float):
        return float(value)
    if depth >= _DEEPEST and isinstance(value, (Mapping, list, tuple)):
        path.wrong("This is nested too deeply.", "Nothing here has so many levels; is it a YAML anchor inside itself?")
        return None
    if isinstance(value, Mapping):
        return {plain_key(key, path): plain(item, _below(path, key), depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, path / index, depth + 1) for index, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        path.wrong("This is a YAML set.", "Write a list: one `- item` a line.")
        return None
    kind = "a date" if isinstance(value, date) else f"a value of type {type(value).__name__}"
    path.wrong(f"To YAML this is {kind}.", "Put it in quotes, so that it is text.")
    return None


def _plain_text(value: str, path: VarPath) -> Optional[str]:
    text = str.__str__(value)
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        path.wrong("This text is not valid Unicode.", "Write it with valid characters.", text)
        return None
    return text


def _plain_number(value: int, path: VarPath) -> Optional[int]:
    if abs(value) < _LARGEST:
        return int(value)
    path.wrong("This number is too large.", "If it is meant as text, put it in quotes.")
    return None


def _below(path: VarPath, key: Any) -> VarPath:
    return path / (key if isinstance(key, str) else show(key))


def plain_name(value: str) -> str:
    """A name that Ansible vouches for, of a host or a variable, without its tags."""
    return str.__str__(value)


def plain_key(key: Any, path: VarPath) -> str:
    """The key as text; a key that is not text is noted, and read as what it looks like."""
    if isinstance(key, str):
        return _plain_text(key, path / key) or word(str.__str__(key))
    text = show(key)
    (path / text).wrong(
        f"To YAML this key is not text, but {_noun(key)}.", f'Put it in quotes as you mean it, like "{text}".'
    )
    return text


@dataclass(frozen=True)
class _Flaw:
    """What a schema's error means to the person: ``drop`` is the key or index below the error's path to take out."""

    problem: str
    remedy: str = ""
    drop: Optional[str] = None


def fit(value: Any, schema: schemas.Schema, root: VarPath) -> Any:
    """Note where the plain value differs from the schema → the value with None in place of those parts."""
    drops: list[list[Any]] = []
    for error in _validator(schema["title"]).iter_errors(value):
        for flaw in _SENTENCES.get(str(error.validator), _any)(error):
            path: list[Any] = [*error.absolute_path, *([] if flaw.drop is None else [flaw.drop])]
            where = root
            for part in path:
                where = where / part
            where.wrong(flaw.problem, flaw.remedy, error.instance if flaw.drop is None else None)
            drops.append(path)
    for path in drops:
        value = _without(value, path)
    return value


def _without(value: Any, path: list[Any]) -> Any:
    """The value with None at the path; what is on the way there may already be gone."""
    if not path:
        return None
    inner = value
    for part in path[:-1]:
        inner = None if inner is None else inner[part]
    if inner is not None:
        inner[path[-1]] = None
    return value


@cache
def _validator(title: str) -> Draft202012Validator:
    known = {schema["title"]: schema for schema in (*schemas.ENTRIES.values(), schemas.SETTINGS)}
    # To JSON Schema 1.0 is an integer; to YAML, and to us, it is not.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    build: Any = extend
    return cast("Draft202012Validator", build(Draft202012Validator, type_checker=types)(known[title]))


def _is_integer(_checker: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _rule(error: ValidationError) -> dict[str, Any]:
    """The part of the schema that is not kept."""
    return cast("dict[str, Any]", error.schema)


def _type(error: ValidationError) -> list[_Flaw]:
    value, rule = error.instance, _rule(error)
    wanted, examples = rule["title"], rule.get("examples")
    remedy = f"Write for example {_yaml(examples[0])}." if examples else ""
    if "enum" in rule:
        remedy = f"Write {' or '.join(item for item in rule['enum'] if item)}."
    elif "string" in rule["type"] and isinstance(value, (int, float)):
        remedy = "Put it in quotes, so that YAML keeps it as it is written."
    if value is None:
        return [_Flaw(f"This item is empty; it must be {wanted}.", remedy)]
    return [_Flaw(f"This must be {wanted}; it is {_noun(value)}.", remedy)]


def _unknown_keys(error: ValidationError) -> list[_Flaw]:
    known = _rule(error)["properties"]
    flaws = []
    for key in cast("dict[str, Any]", error.instance):
        if key not in known:
            every = f"The keys here are {', '.join(sorted(known))}."
            remedy = _ELSEWHERE.get(key) or did_you_mean(key, known, every)
            flaws.append(_Flaw(f"There is no key `{word(key)}` here.", remedy, key))
    return flaws


def _enum(error: ValidationError) -> list[_Flaw]:
    if not isinstance(error.instance, str):
        return []  # of the wrong type, which is said already
    words = [item for item in _rule(error)["enum"] if item is not None]
    return [_Flaw(f"This must be one of {', '.join(words)}.", did_you_mean(str(error.instance), words))]


def _bound(error: ValidationError) -> list[_Flaw]:
    rule = _rule(error)
    return [_Flaw(f"This must be {rule['title']} from {rule['minimum']} to {rule['maximum']}.")]


def _pattern(error: ValidationError) -> list[_Flaw]:
    return [_Flaw(f"This must be {_rule(error)['title']}.", "Write true or false, without quotes.")]


def _any(error: ValidationError) -> list[_Flaw]:
    return [_Flaw(f"This must be {_rule(error)['title']}.")]


_SENTENCES: dict[str, Callable[[ValidationError], list[_Flaw]]] = {
    "type": _type,
    "additionalProperties": _unknown_keys,
    "enum": _enum,
    "minimum": _bound,
    "maximum": _bound,
    "pattern": _pattern,
}


def _noun(value: Any) -> str:
    """What a value is, for a sentence."""
    if isinstance(value, bool):
        return "true or false (an unquoted yes, no, on or off is that too)"
    if isinstance(value, int):
        return "a number"
    if value is None:
        return "empty"
    names = ((float, "a number with a fraction"), (str, "text"), (Mapping, "a mapping"), (list, "a list"))
    return next((name for kind, name in names if isinstance(value, kind)), f"of type {type(value).__name__}")


def _yaml(example: Any) -> str:
    """An example in YAML's flow style."""
    if isinstance(example, dict):
        return "`{" + ", ".join(f"{key}: {_inner(item)}" for key, item in example.items()) + "}`"
    return f"`{_inner(example)}`"


def _inner(example: Any) -> str:
    if isinstance(example, dict):
        return _yaml(example).strip("`")
    if isinstance(example, list):
        return f"[{', '.join(_inner(item) for item in example)}]"
    text = str(example)
    return f'"{text}"' if isinstance(example, str) and ":" in text else text
