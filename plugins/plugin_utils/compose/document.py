# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The text of one Compose file → what it says, with lines.

YAML 1.2's few plain types, as Compose's own reader has them: to PyYAML's an unquoted ``22:22`` is a number of base 60,
and ``on`` is true.  Numbers with a fraction and dates stay text.  Nothing is constructed but text, whole numbers,
booleans, null, mappings and lists; how much is limited, as a few aliases may stand for billions of values.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from .located import Map, Number, Origin, Reset, Seq, Text

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DEEPEST = 40
_MOST = 200_000
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_STANDARD = "tag:yaml.org,2002:"
_TAGS = ("!reset", "!override")
_PLAIN_TAGS = ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "binary", "merge")


class Unreadable(Exception):
    """A file that cannot be read: ``problem`` as a sentence, ``remedy``, and where."""

    def __init__(self, problem: str, remedy: str, origin: Origin) -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.origin = problem, remedy, origin


class _Loader(_Base):  # type: ignore[misc]
    """Leaves plain scalars as text."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def read_document(text: str, file: str) -> Any:
    """What the one document of a file says; None for an empty file.  Raises `Unreadable`."""
    try:
        _check_size(text, file)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        line = mark.line + 1 if mark is not None else 0
        raise Unreadable(f"This is not YAML: {problem}.", "Check quotes and indentation.", (file, line)) from error
    return None if node is None else _Builder(file).build(node, 0)


def _check_size(text: str, file: str) -> None:
    """Refuse what is nested too deeply before anything recursive looks at it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                origin = (file, event.start_mark.line + 1 if event.start_mark else 0)
                raise Unreadable("This is nested too deeply.", f"Use at most {_DEEPEST} levels.", origin)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Builder:
    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0

    def build(self, node: Any, depth: int) -> Any:
        origin = self._origin(node)
        self._count += 1 + (len(node.value) // 64 if isinstance(node, yaml.ScalarNode) else 0)
        if self._count > _MOST or depth > _DEEPEST:
            raise Unreadable(
                "With its aliases this file says more than can be read.",
                "Is there an anchor inside itself, or aliases of aliases?",
                origin,
            )
        tag = self._tag(node, origin)
        if isinstance(node, yaml.MappingNode):
            return Map(self._items(node, depth), origin, tag)
        if isinstance(node, yaml.SequenceNode):
            return Seq([self.build(item, depth + 1) for item in node.value], origin, tag)
        value = self._scalar(node, origin, tag)
        return Reset(origin, tag) if tag and value is None else value

    def _origin(self, node: Any) -> Origin:
        return (self._file, node.start_mark.line + 1)

    @staticmethod
    def _tag(node: Any, origin: Origin) -> str:
        if node.tag in _TAGS:
            return str(node.tag)
        if not node.tag.startswith(_STANDARD) or node.tag.removeprefix(_STANDARD) not in _PLAIN_TAGS:
            tag = node.tag if node.tag.isprintable() else repr(node.tag)
            raise Unreadable(f"Compose has no tag {tag[:60]}.", "It has !reset and !override.", origin)
        return ""

    @staticmethod
    def _scalar(node: Any, origin: Origin, tag: str) -> Any:
        text: str = node.value
        if not node.style and (tag or node.tag == f"{_STANDARD}str"):
            if text in _WORDS:
                return _WORDS[text]
            if _NUMBER.fullmatch(text):
                return Number(int(text), origin)
        return Text(text, origin, tag)

    def _items(self, node: Any, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            origin = self._origin(key)
            if not isinstance(key, yaml.ScalarNode):
                raise Unreadable("A key must be text.", "Write `name: value`.", origin)
            if key.value == "<<" and not key.style:
                for mapping in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(mapping, yaml.MappingNode):
                        raise Unreadable("Only mappings can be merged.", "Write `<<: *anchor`.", origin)
                    merged = {**self.build(mapping, depth + 1), **merged}
                    self._count += len(merged)
                continue
            if key.value in own:
                raise Unreadable(f"The key `{key.value[:60]}` is here twice.", "Keep one of them.", origin)
            own[Text(key.value, origin)] = self.build(value, depth + 1)
        # A dictionary that gets a key it has keeps the old one, and with it the line.
        for key in own:
            merged.pop(key, None)
        return {**merged, **own}
