# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What to write instead of a key that is not known where it stands: it may be known elsewhere, or be a container's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Optional

from .errors import secret, word
from .schema import ENTRIES, Schema

Place = tuple[str, ...]
"""The way to a key in an entry: ``("ipam", "config", "[]", "subnet")``; ``*`` stands for a name of the user's."""

_ITEM, _ANY = "[]", "*"
_HIDDEN = "…"
_MOST_SHOWN = 5
_PLAIN = re.compile(r"(?!(?:\d+(?:\.\d*)?|true|false|yes|no|on|off|null)$)[A-Za-z0-9_/][A-Za-z0-9_./-]*", re.IGNORECASE)
"""Text that is text in YAML's flow style without quotes."""

_INSTEAD = {
    "external": "Leave it out: what is not declared here is not touched, and bridge, host and none are always there.",
    "name": "Leave it out: the key above it is the name.",
    "priority": "It is `gw_priority` that chooses the default route; the order of the links is the order written.",
    "container_name": "Leave it out: the key above it is the sandbox's name.",
    "config_only": "Leave it out: write the settings with the network, or share them with a YAML anchor.",
    "config_from": "Leave it out: write the settings with the network, or share them with a YAML anchor.",
    "links": "Leave it out: sandboxes on one network find each other by their names; `aliases` gives them more.",
    "scale": "Write `deploy: {replicas: 3}` with a service (cnm_services).",
}
"""Keys of Compose that are not ours, and what to do instead."""

_ABOUT_CONTAINERS = """
annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs cpu_count cpu_percent
cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec depends_on device_cgroup_rules
devices develop entrypoint env_file environment extends external_links gpus group_add healthcheck image init
ipc isolation label_file labels logging mem_limit mem_reservation mem_swappiness memswap_limit models oom_kill_disable
oom_score_adj pid pids_limit platform post_start pre_stop privileged profiles provider pull_policy read_only resources
restart restart_policy rollback_config runtime secrets security_opt shm_size stdin_open stop_grace_period stop_signal
storage_opt tmpfs tty ulimits update_config use_api_socket user userns_mode uts volumes volumes_from working_dir
"""
OF_CONTAINERS = frozenset(_ABOUT_CONTAINERS.split())
"""Keys of a Compose service, and of its ``deploy``, that are about the container and not about its networks."""

_HAVE_CONTAINERS = ("networks", "replicas")
"""Of such a mapping one of these is a key."""


def closest(text: str, known: Iterable[str]) -> Optional[str]:
    """The known word that was probably meant, if there is one."""
    found = get_close_matches(text, sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(text: str, known: Iterable[str], otherwise: str = "") -> str:
    """A remedy: the closest known word, or ``otherwise``."""
    near = closest(text, known)
    return f"Did you mean `{near}`?" if near else otherwise


def of_containers(unknown: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Which unknown keys of a mapping with these known ones are about a container, sorted."""
    has_containers = any(key in known for key in _HAVE_CONTAINERS)
    return tuple(sorted(key for key in unknown if has_containers and key in OF_CONTAINERS))


def instead_of(
    key: str, mapping: Mapping[str, Any], at: Sequence[Any], schema: Schema, entry: Any, known: Iterable[str]
) -> str:
    """A remedy for an unknown key of a mapping.

    ``at`` is the way to the mapping in the ``entry``, whose schema is given; ``known`` are the keys there.
    """
    return (
        _deeper(key, mapping, at, schema, entry)
        or _INSTEAD.get(key)
        or _of_another_kind(key, at, schema)
        or did_you_mean(key, known, f"The keys here are {', '.join(sorted(known))}.")
    )


def _deeper(key: str, mapping: Mapping[str, Any], at: Sequence[Any], schema: Schema, entry: Any) -> str:
    """A remedy if the key is known below the mapping, or else elsewhere in the same entry."""
    here = _generic(at, schema)
    is_entry = any(schema is each for each in ENTRIES.values())
    found = [place for place in _places(schema) if place[-1] == key and (is_entry or place[:1] == here[:1])]
    if not found:
        return ""
    below = [place for place in found if place[: len(here)] == here]
    place = _named((below or found)[0], at, entry)
    dotted = ".".join(part for part in place if part != _ITEM)
    return f"It is `{dotted}`: write `{_written(place, schema, mapping)}`."


def _of_another_kind(key: str, at: Sequence[Any], schema: Schema) -> str:
    """A remedy if the key is known in an entry of another kind."""
    for variable, other in ENTRIES.items():
        places = [place for place in _places(other) if place[-1] == key and _ANY not in place and _ITEM not in place]
        if places and not at and other is not schema and any(schema is each for each in ENTRIES.values()):
            return f"It is `{'.'.join(places[0])}` of {variable}."
    return ""


def _places(schema: Schema, above: Place = ()) -> Iterator[Place]:
    for key, inner in schema.get("properties", {}).items():
        yield (*above, key)
        yield from _places(inner, (*above, key))
    for step, inner in ((_ITEM, schema.get("items")), (_ANY, schema.get("additionalProperties"))):
        if isinstance(inner, dict):
            yield from _places(inner, (*above, step))


def _inner(schema: Schema, step: Any) -> tuple[str, Schema]:
    """A step of a way through data as a step of a place, and the schema behind it."""
    if isinstance(step, int) or step == _ITEM:
        return _ITEM, schema["items"]
    if step in schema.get("properties", {}):
        return step, schema["properties"][step]
    return _ANY, schema["additionalProperties"]


def _generic(at: Sequence[Any], schema: Schema) -> Place:
    result = []
    for step in at:
        part, schema = _inner(schema, step)
        result.append(part)
    return tuple(result)


def _named(place: Place, at: Sequence[Any], entry: Any) -> Place:
    """The place with names in place of ``*``: those on the way, else the first one in the entry."""
    result: list[str] = []
    for index, part in enumerate(place):
        if part == _ANY:
            names = list(entry) if isinstance(entry, (Mapping, list)) else []
            name = at[index] if index < len(at) else next(iter(names), "NAME")
            result.append(word(name) if isinstance(name, str) else "NAME")
        else:
            result.append(part)
        entry = entry.get(result[-1]) if isinstance(entry, Mapping) else None
    return tuple(result)


def _written(place: Place, schema: Schema, mapping: Mapping[str, Any]) -> str:
    """A place as it is written in YAML, with what the mapping has for the last key: ``deploy: {replicas: 3}``."""
    (part, inner), rest = _inner(schema, place[0]), place[1:]
    value = f"{_written(rest, inner, mapping)}" if rest else flow(mapping[place[-1]], place[-1])
    if rest and rest[0] != _ITEM:
        value = f"{{{value}}}"
    if part == _ITEM:
        return f"[{value}]"
    needed = [key for key in schema.get("needs", ()) if key != place[-1]] if not rest else []
    given = {key: mapping.get(key) or schema["properties"][key]["examples"][0] for key in needed}
    return ", ".join([*(f"{key}: {flow(item, key)}" for key, item in given.items()), f"{place[0]}: {value}"])


def flow(value: Any, key: str = "") -> str:
    """A value of the user's in YAML's flow style, in one short line; nothing of what is large, or secret by its key."""
    if secret(key) or isinstance(value, Mapping):
        return _HIDDEN
    if isinstance(value, list):
        short = len(value) <= _MOST_SHOWN and not any(isinstance(item, (list, Mapping)) for item in value)
        return f"[{', '.join(flow(item) for item in value)}]" if short else _HIDDEN
    if isinstance(value, str):
        text = word(value)
        return text if text == value and _PLAIN.fullmatch(value) else json.dumps(text, ensure_ascii=False)
    return json.dumps(value)
