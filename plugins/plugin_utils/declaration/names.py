# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Rules for names: of networks and sandboxes, of links, in DNS.

Names become file names, interface names and lines of resolver files; each rule is a full match, so nothing that could
end a line or leave a folder gets through.
"""

from __future__ import annotations

import re
from typing import Optional

from ...module_utils.plan.constants import LINK_NAME, LONGEST_LINK_NAME, RESERVED_LINK_NAMES
from ...module_utils.plan.records import dataclass
from .errors import VarPath


@dataclass(frozen=True)
class Rule:
    """What a name may look like; ``says`` completes "…" as a sentence of its own."""

    pattern: re.Pattern[str]
    longest: int
    says: str
    remedy: str
    reserved: tuple[str, ...] = ()


_DNS = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"

OBJECT = Rule(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*"),
    63,
    "A name has letters, digits, `_`, `.` and `-`, begins with a letter or a digit, and is at most 63 characters long.",
    "Choose a name like `web-1`.",
)
LINK = Rule(
    re.compile(LINK_NAME),
    LONGEST_LINK_NAME,
    "A link's name has 1 to 15 letters, digits, `_`, `.` and `-`, and does not begin with `.` or `-`.",
    "Choose a name like `eth0`.",
    RESERVED_LINK_NAMES,
)
LINK_PREFIX = Rule(
    re.compile(LINK_NAME),
    12,
    "The prefix of links' names has 1 to 12 letters, digits, `_`, `.` and `-`, and does not begin with `.` or `-`; a "
    "number follows it.",
    "Choose a prefix like `eth`.",
)
DNS_NAME = Rule(
    re.compile(_DNS),
    253,
    "A DNS name has letters, digits, `-` and `_`, in parts of at most 63 characters with dots between them.",
    "Choose a name like `web` or `web.example.com`.",
)
HOSTNAME = Rule(re.compile(_DNS), 64, DNS_NAME.says + " A hostname is at most 64 long.", "Choose a name like `web1`.")
SEARCH_DOMAIN = Rule(
    re.compile(rf"\.|{_DNS}\.?"),
    253,
    "A search domain is a DNS name, or `.` for none.",
    "Write a domain like `example.com`.",
)
RESOLVER_OPTION = Rule(
    re.compile(r"[a-z0-9-]+(?::[0-9]{1,5})?"),
    40,
    "This is not an option of resolv.conf.",
    "Write an option like `ndots:1` or `rotate`.",
)
PROJECT = Rule(
    re.compile(r"[a-z][a-z0-9_-]*"),
    32,
    "A project's name has small letters, digits, `_` and `-`, begins with a letter, and is at most 32 characters long.",
    "Choose a name like `default` or `lab-2`.",
)


def name(text: str, rule: Rule, path: VarPath) -> Optional[str]:
    """The name if it keeps the rule; otherwise None, and the error is noted."""
    if text in rule.reserved:
        path.wrong(f"The kernel keeps the name `{text}` for itself.", rule.remedy, text)
        return None
    if len(text) > rule.longest or not rule.pattern.fullmatch(text):
        path.wrong(rule.says, rule.remedy, text)
        return None
    return text
