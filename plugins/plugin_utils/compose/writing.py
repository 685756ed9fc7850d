# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What Compose files declare as YAML, to go on from; and a Compose file that takes Docker's networks away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ..declaration.errors import VarPath
from ..declaration.validation import plain

_NOTE = "# Made from {files} by cnm.fabric.compose.\n"
_HEAD = _NOTE + "# For the host's host_vars, instead of {variables}.\n---\n"
_OVERRIDE = (
    _NOTE + "# Start the containers with it, so that they get their networks from cnm.fabric and none from Docker:\n"
    "#   docker compose {arguments} up --detach\n"
)
_TAKEN = ("networks", "ports", "links", "external_links", "mac_address")


_TEMPLATE = ("{{", "{%", "{#")


class _Dumper(yaml.SafeDumper):
    """Writes texts so that Ansible takes them as they are: a template in one would be run on the controller."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if any(mark in text for mark in _TEMPLATE):
        return dumper.represent_scalar("!unsafe", text, style='"')
    return dumper.represent_str(text)


_Dumper.add_representer(str, _text)


def declarations(variables: Mapping[str, Mapping[str, Any]], names: Sequence[str], files: Sequence[str]) -> str:
    """The variables with entries as a file of YAML; ``names`` are those of the variables they came from."""
    data: dict[str, Any] = plain(dict(variables), VarPath("", []))
    said = {name: value for name, value in data.items() if value}
    text = yaml.dump(said, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return _HEAD.format(files=", ".join(files), variables=" and ".join(names)) + text


def override(services: Mapping[str, Sequence[str]], files: Sequence[str], itself: str) -> str:
    """A Compose file that starts the services, each with keys that it has, without networks of Docker's."""
    arguments = " ".join(f"-f {name}" for name in [*files, itself])
    lines = [_OVERRIDE.format(files=", ".join(files), arguments=arguments), "services:\n"]
    for name, keys in services.items():
        lines.append(f"  {_quoted(name)}:\n    network_mode: none\n")
        lines += [f"    {key}: !reset null\n" for key in _TAKEN if key in keys]
    return "".join(lines)


def _quoted(name: str) -> str:
    text: str = yaml.safe_dump(str(name), default_style=None)
    return text.splitlines()[0]
