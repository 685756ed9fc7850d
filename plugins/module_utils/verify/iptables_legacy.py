# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads rules of iptables-legacy, which are not in nftables, in the words of nft.  Pure.

What is not understood becomes a condition that may hold or not.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

_HOOKS = {name.upper(): name for name in ("prerouting", "input", "forward", "output", "postrouting")}
_TABLES = ("raw", "mangle", "filter", "security")
_VERDICTS = {"DROP": "drop", "REJECT": "reject", "ACCEPT": "accept", "RETURN": "return", "QUEUE": "queue"}
_STATES = {"INVALID": "0x1", "ESTABLISHED": "0x2", "RELATED": "0x4", "NEW": "0x8"}
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "esp": 50, "ipv6-icmp": 58, "icmpv6": 58}


def as_nft(text: str) -> dict[str, str]:
    """The tables that ``iptables-save`` prints, by name, as ``nft list table`` would print them."""
    result = {}
    for name, lines in _tables(text):
        chains: dict[str, list[str]] = {}
        for line in lines:
            if line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                verdict = "drop" if policy == "DROP" else "accept"
                hook = _HOOKS.get(chain)
                chains[chain] = [f"type filter hook {hook} priority 0; policy {verdict};"] if hook else []
        for line in lines:
            words = _words(line)
            if len(words) > 1 and words[1] in chains:
                chains[words[1]].append(_rule(words[2:]))
        if name in _TABLES:
            blocks = (f"chain {chain} {{\n" + "\n".join(rules) + "\n}" for chain, rules in chains.items())
            result[name] = f"table ip {name} {{\n" + "\n".join(blocks) + "\n}"
    return result


def _tables(text: str) -> Iterator[tuple[str, list[str]]]:
    for part in f"\n{text}".split("\n*")[1:]:
        name, *lines = part.splitlines()
        yield name.strip(), lines


def _words(line: str) -> list[str]:
    """The words of a line that adds a rule; none of others."""
    try:
        return shlex.split(line) if line.startswith("-A ") else []
    except ValueError:
        return []


def _rule(words: list[str]) -> str:
    protocol, verdict = "", ""
    conditions: list[str] = []
    negated = False
    left = iter(words)
    for word in left:
        if word == "!":
            negated = True
            continue
        unlike, negated = "!= " if negated else "", False
        if word == "-p":
            protocol = next(left, "")
            number = _PROTOCOLS.get(protocol, protocol)
            conditions.append(f"meta l4proto {unlike}{number}")
        elif word in ("--dport", "--dports"):
            ports = next(left, "").replace(":", "-").replace(",", ", ")
            conditions.append(f"{protocol or 'th'} dport {unlike}{f'{{ {ports} }}' if ',' in ports else ports}")
        elif word in ("--ctstate", "--state"):
            states = ",".join(_STATES.get(each, "0x0") for each in next(left, "").split(","))
            conditions.append(f"ct state {unlike}{states}")
        elif word == "--icmp-type":
            conditions.append(f"icmp type {unlike}{next(left, '')}")
        elif word == "-i" and not unlike:
            conditions.append(f'iifname "{next(left, "")}"')
        elif word in ("-m", "--comment", "--reject-with"):
            next(left, "")
        elif word in ("-j", "-g"):
            target = next(left, "")
            verdict = _VERDICTS.get(target, f"{'jump' if word == '-j' else 'goto'} {target}")
        else:
            conditions.append(f"{unlike}{word}")
    return " ".join([*conditions, verdict])
