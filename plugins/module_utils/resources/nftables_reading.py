# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads the output of ``nft list table``.  A child process runs nft, which may crash on foreign tables."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ..kernel import contained
from ..kernel.host import Host
from ..plan.base import Key
from ..plan.marks import role_of
from ..plan.nftables import Chain, Nftables, NftSet

UNREADABLE = "unreadable"
"""Stands for the flags of a table that exists and cannot be listed."""

_USERS = "user_"
"""Name prefix of the user's own chains, sets and maps."""

_COMMENT = re.compile(r'^\tcomment "(.*)"$')
_FLAGS = re.compile(r"^\tflags (.*)$")
_BLOCK = re.compile(r"^\t(set|map|chain) (\S+) \{$")
_ELEMENTS = re.compile(r"elements = \{(.*?)\}", re.DOTALL)

_DYNAMIC = re.compile(r"\bflags [a-z,]*\bdynamic\b")


def parse(text: str, project: str, namespace: str, user_chains: frozenset[str]) -> Optional[Nftables]:
    """The table in the output, its statements as nft prints them; None if there is none."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("table "):
        return None
    family, name = lines[0].split()[1:3]
    comment = flags = ""
    body: list[str] = []
    blocks: list[tuple[str, str, list[str]]] = []
    user_lines: list[str] = []
    in_users = False
    for line in lines[1:]:
        in_users = in_users or bool((match := _BLOCK.match(line)) and match[2].startswith(_USERS))
        if in_users:
            user_lines.append(line)
            in_users = line != "\t}"
        if match := _COMMENT.match(line):
            comment = match[1]
        elif match := _FLAGS.match(line):
            flags = match[1]
        elif match := _BLOCK.match(line):
            body = []
            if match[2] in user_chains or not match[2].startswith(_USERS):
                blocks.append((match[1], match[2], body))
        elif line == "\t}":
            body = []
        else:
            body.append(line.strip())
    return Nftables(
        namespace,
        family,
        name,
        role_of(comment, project) or "",
        tuple(_nft_set(block, lines_of) for noun, block, lines_of in blocks if noun != "chain"),
        tuple(_chain(block, lines_of, block in user_chains) for noun, block, lines_of in blocks if noun == "chain"),
        flags,
        "\n".join(user_lines),
    )


def _nft_set(name: str, lines: Sequence[str]) -> NftSet:
    text = "\n".join(lines)
    match = _ELEMENTS.search(text)
    declaration = " ".join(f"{line.strip()};" for line in _ELEMENTS.sub("", text).splitlines() if line.strip())
    # What packets put into a set is no part of a plan.
    planned = match is not None and not _DYNAMIC.search(declaration)
    elements = sorted(item.strip() for item in match[1].split(",")) if match and planned else []
    return NftSet(name, declaration, tuple(elements))


def _chain(name: str, lines: Sequence[str], user: bool) -> Chain:
    hook = lines[0].rstrip(";") if lines and lines[0].startswith("type ") else ""
    rules = () if user else tuple(lines[1:] if hook else lines)
    return Chain(name, hook, rules, user)


def user_chains(table: Nftables) -> frozenset[str]:
    """Names of the user's chains."""
    return frozenset(chain.name for chain in table.chains if chain.user)


def listed(host: Host, tables: Sequence[Nftables], wanted_by: Mapping[Key, Nftables]) -> dict[Key, Optional[Nftables]]:
    """Each table as found: None if absent, ``flags`` UNREADABLE if nft crashes on it or prints garbage."""
    result: dict[Key, Optional[Nftables]] = {table.key: None for table in tables}
    if host.nft is None:
        return result
    there = [item for item in tables if (item.family, item.name) in host.tables(item.namespace)]
    with host.nft.together() as run:
        answers = contained.each(
            lambda item: host.run_in(item.namespace, run, f"list table {item.family} {item.name}"), there
        )
    for item, answer in zip(there, answers):
        want = wanted_by.get(item.key)
        found = None
        with contextlib.suppress(ValueError, LookupError):
            found = parse(answer.text, host.project, item.namespace, user_chains(want) if want else frozenset())
        if found is None:
            role = role_of(host.tables(item.namespace)[item.family, item.name].comment, host.project)
            found = replace(item, role=role or "", flags=UNREADABLE)
        result[item.key] = found
    return result
