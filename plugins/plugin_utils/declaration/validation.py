# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Turns what YAML and templates made of a variable into plain data with the schema's structure.

`plain` turns Ansible's tagged values into builtin ones, `fit` compares them with a schema.  Both report
errors and replace wrong values by None, so that the readers get the types they expect and find the other errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
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

from ...module_utils.plan.records import dataclass
from . import schema as schemas
from .errors import VarPath, secret, show, word
from .keys import did_you_mean, flow, instead_of, of_containers

_DEEPEST = 12
_LARGEST = 2**64


def plain(value: Any, path: VarPath, depth: int = 0) -> Any:
    """The value in builtin types (dict with text keys, list, str, int, float, bool, None).

    Other values are noted and become None.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        return text if text.isascii() else _plain_text(text, path)
    if isinstance(value, int):
        return _plain_number(value, path)
    if isinstance(value, float):
        return float(value)
    if depth >= _DEEPEST and isinstance(value, (Mapping, list, tuple)):
        path.wrong("This is nested too deeply.", "Nothing here has so many levels; is it a YAML anchor inside itself?")
        return None
    if isinstance(value, Mapping):
        return {
            # A path is made where something may be wrong: most of a large fleet's variables are such texts.
            plain_key(key, path): item
            if item.__class__ is str and item.isascii()
            else plain(item, _below(path, key), depth + 1)
            for key, item in value.items()
        }
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
        found = str.__str__(key)
        return found if found.isascii() else _plain_text(found, path / key) or word(found)
    text = show(key)
    (path / text).wrong(
        f"To YAML this key is not text, but {_noun(key)}.", f'Put it in quotes as you mean it, like "{text}".'
    )
    return text


@dataclass(frozen=True)
class _Flaw:
    """What a schema's error means to the person: ``drop`` are the keys below the error's path to take out.

    It stands at the only one of these, or else at the error's path.
    """

    problem: str
    remedy: str = ""
    drop: tuple[str, ...] = ()


def fit(value: Any, schema: schemas.Schema, root: VarPath) -> Any:
    """Note where the plain value differs from the schema → the value with None in place of those parts."""
    drops: list[list[Any]] = []
    for error in _validator(schema["title"]).iter_errors(value):
        if error.validator == "additionalProperties":
            flaws = _unknown_keys(error, schema, value)
        else:
            flaws = _SENTENCES.get(str(error.validator), _any)(error)
        for flaw in flaws:
            way: list[Any] = [*error.absolute_path]
            where = root
            for part in [*way, *(flaw.drop if len(flaw.drop) == 1 else ())]:
                where = where / part
            where.wrong(flaw.problem, flaw.remedy, None if flaw.drop else error.instance)
            drops += [[*way, key] for key in flaw.drop] or [way]
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
    known = {schema["title"]: schema for schema in (*schemas.ENTRIES.values(), schemas.SETTINGS, schemas.COMPOSE)}
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
    if isinstance(value, str) and "string" in rule.get("items", {}).get("type", ()):
        remedy = _as_list(value, [*error.absolute_path], examples or ()) or remedy
    elif "enum" in rule:
        remedy = f"Write {' or '.join(item for item in rule['enum'] if item)}."
    elif "string" in rule["type"] and isinstance(value, (int, float)):
        remedy = "Put it in quotes, so that YAML keeps it as it is written."
    if value is None:
        return [_Flaw(f"This item is empty; it must be {wanted}.", remedy)]
    return [_Flaw(f"This must be {wanted}; it is {_noun(value)}.", remedy)]


def _unknown_keys(error: ValidationError, schema: schemas.Schema, entry: Any) -> list[_Flaw]:
    mapping, known = cast("dict[str, Any]", error.instance), _rule(error)["properties"]
    unknown = [key for key in mapping if key not in known]
    foreign = of_containers(unknown, known)
    flaws = [
        _Flaw(
            f"There is no key `{word(key)}` here.",
            instead_of(key, mapping, list(error.absolute_path), schema, entry, known),
            (key,),
        )
        for key in unknown
        if key not in foreign
    ]
    if foreign:
        *others, last = [f"`{key}`" for key in foreign]
        names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        remedy = f"Leave {'them' if others else 'it'} out: what runs in a sandbox is started by others."
        flaws.append(_Flaw(f"{names} the container's, not the network's.", remedy, foreign))
    return flaws


def _as_list(text: str, at: list[Any], examples: Iterable[Any]) -> str:
    """What a text is as the list it must be; and as the mapping it could be, if there is an example of one."""
    items = text.replace(",", " ").split()
    if not items or secret(".".join(map(str, at))):
        return ""
    key = f"{at[-1]}: " if at and isinstance(at[-1], str) else ""
    options = next((options for example in examples if isinstance(example, dict) for options in example.values()), None)
    mapping = f", or `{key}{{{flow(items[0])}: {_inner(options)}}}`" if isinstance(options, dict) else ""
    return f"Write `{key}{flow(items)}`{mapping}."


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
