# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Forms that values must have before they become part of a text for nft, dnsmasq, the kernel or a person.

Each form is a function: it returns the value unchanged, or raises `FormError` with a sentence that shows the value
(printable and shortened) and says what it must be.  ``form.fits(value)`` returns whether it has the form.  Code that
builds a text checks its values with these even if they were checked before.  `fields` has the form of each plan field.

A pattern matches the whole text and admits no line end, control character or quote that is not part of the form.  Both
halves use this file; it imports only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Callable, Optional

from .constants import LINK_NAME, LONGEST_LINK_NAME, MAC
from .families import packed

_SHOWN = 60
_CACHED = 65536


class FormError(ValueError):
    """A value has the wrong form; the message shows it and says what it must be."""


def printable(text: object, longest: int = 2000) -> str:
    """An untrusted text, made safe for one line of a terminal or log.

    Characters that could move the cursor, end the line or reorder its letters are escaped; a longer text is cut.
    """
    shown = str(text)
    if len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    return shown if shown.isprintable() else "".join(map(_escaped, shown))


def printable_lines(text: str) -> str:
    """The same, of any length and with line breaks and tabs kept."""
    return text if text.isprintable() else "".join(c if c in "\n\t" else _escaped(c) for c in text)


def printable_data(data: Any) -> Any:
    """JSON data with all texts, keys included, passed through `printable_lines`."""
    if isinstance(data, str):
        return printable_lines(data)
    if isinstance(data, dict):
        return {printable_data(key): printable_data(value) for key, value in data.items()}
    return [printable_data(item) for item in data] if isinstance(data, (list, tuple)) else data


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def quoted(value: object) -> str:
    """A value for use in a sentence: quoted, printable and short."""
    return f"'{printable(value, _SHOWN)}'"


class Form:
    """A form of text: a pattern for the whole text and, if that is not enough, a check ``also``."""

    def __init__(
        self, noun: str, must: str, pattern: str, longest: int, also: Optional[Callable[[str], bool]] = None
    ) -> None:
        self._noun, self._must = noun, must
        self._pattern = pattern
        self._match: Callable[[str], Optional[re.Match[str]]] = self._first_match
        self._longest = longest
        self._also = also

    def _first_match(self, value: str) -> Optional[re.Match[str]]:
        # Compiled when it is needed: a module call needs few of the forms, and all of them take 40 ms.
        self._match = re.compile(self._pattern).fullmatch
        return self._match(value)

    def fits(self, value: object) -> bool:
        """Whether the value has the form."""
        return (
            isinstance(value, str)
            and len(value) <= self._longest
            and self._match(value) is not None
            and (self._also is None or self._also(value))
        )

    def __call__(self, value: Any) -> str:
        """The value if it is a text of this form.  Raises FormError."""
        # `fits` inlined: one call less for each of thousands of values in a plan.
        if (
            isinstance(value, str)
            and len(value) <= self._longest
            and self._match(value) is not None
            and (self._also is None or self._also(value))
        ):
            return value
        raise FormError(f"{quoted(value)} is not {self._noun}: {self._must}")


def word(value: Any, choices: Iterable[str], noun: str) -> str:
    """One of a few words.  Raises FormError."""
    if not isinstance(value, str) or value not in choices:
        raise FormError(f"{quoted(value)} is not {noun}: one of {', '.join(sorted(choices))}")
    return value


def number(value: Any, least: int, largest: int, noun: str) -> int:
    """A whole number from the least to the largest.  Raises FormError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= largest:
        raise FormError(f"{quoted(value)} is not {noun}: a whole number from {least} to {largest}")
    return value


def text(value: Any) -> str:
    """Any text for a file: no NUL, no lone surrogate, at most 64 MB.  Raises FormError."""
    if not isinstance(value, str) or len(value) > _LARGEST_TEXT or "\0" in value or _HALF(value):
        raise FormError(f"{quoted(value)} is not a text: without NUL and lone surrogates, at most 64 MB")
    return value


_LARGEST_TEXT = 1 << 26
_HALF = re.compile("[\ud800-\udfff]").search


# --- names -----------------------------------------------------------------------------------------------------------

_CONTROL = r"\0-\x1f\x7f-\xa0"
"""Control characters and the space that does not break, for classes of what is not admitted.  Whether other non-ASCII
characters are, `str.isprintable` says then: to compile a class that has thousands of them takes 3 ms.
"""
# The kernel refuses `/`, `:` and white space.  nft has no escape for `"`; a `*` at the end is its wildcard, and `\`
# escapes that.  We split its output at commas and braces.
_LINK_CHARACTERS = rf'[^{_CONTROL} "*,/:\\{{}}]{{1,{LONGEST_LINK_NAME}}}'
_NO_DOTS = r"(?!\.{1,2}(?:/|\Z))"
_LABEL = "[A-Za-z0-9_-]{1,63}"
_DNS = rf"{_LABEL}(?:\.{_LABEL})*"
_PROJECT = "[a-z][a-z0-9_-]{0,31}"
_NAMESPACE = "[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,62}"
_FILE = "[A-Za-z0-9_@][A-Za-z0-9_.@+-]{0,127}"


def _is_printable(value: str) -> bool:
    return value.isascii() or value.isprintable()


def _is_link(value: str) -> bool:
    return value.isascii() or (value.isprintable() and len(value.encode()) <= LONGEST_LINK_NAME)


project = Form(
    "a project's name",
    "small letters, digits, `_` and `-`, beginning with a letter, at most 32",
    _PROJECT,
    32,
)
object_name = Form(
    "a name",
    "letters, digits, `_`, `.` and `-`, beginning with a letter or a digit, at most 63",
    "[A-Za-z0-9][A-Za-z0-9_.-]*",
    63,
)
namespace_name = Form(
    "a namespace's name",
    "letters, digits, `_`, `.`, `@`, `+` and `-`, beginning with a letter, a digit or `_`, at most 63",
    _NAMESPACE,
    63,
)
link_name = Form(
    "a link's name that a rule can hold",
    '1 to 15 bytes, printable, without white space and without / : " \\ * , { }',
    _NO_DOTS + _LINK_CHARACTERS,
    LONGEST_LINK_NAME,
    _is_link,
)
plain_link_name = Form("a link's plain name", "1 to 15 letters, digits, `_`, `.` and `-`", LINK_NAME, LONGEST_LINK_NAME)
host_name = Form("a host's name", "one printable line, at most 255 characters", f"[^{_CONTROL}]+", 255, _is_printable)
role = Form(
    "a role",
    "printable, without white space, quotes and backslashes, at most 200 characters",
    rf'[^{_CONTROL} "\\]*',
    200,
    _is_printable,
)
file_name = Form(
    "a file's name",
    "letters, digits, `_`, `.`, `@`, `+` and `-`, beginning with a letter, a digit, `_` or `@`, at most 128",
    _FILE,
    128,
)
dns_name = Form(
    "a DNS name", "letters, digits, `-` and `_` in parts of at most 63 with dots between them, at most 253", _DNS, 253
)
digest = Form("a digest", "64 hexadecimal digits", "[0-9a-f]{64}", 64)


# --- addresses -------------------------------------------------------------------------------------------------------

_ADDRESS = "[0-9a-f:.]+"
_LENGTH = "/(?:0|[1-9][0-9]{0,2})"


@lru_cache(_CACHED)
def _packed(value: str) -> bytes:
    """An address in network form; empty if the text is not an address (a scope or leading zeros are not allowed)."""
    try:
        return packed(value)
    except (OSError, ValueError):
        return b""


def _is_address(value: str) -> bool:
    return bool(_packed(value))


def _is_interface(value: str) -> bool:
    bare, _slash, length = value.partition("/")
    packed = _packed(bare)
    return bool(packed) and int(length) <= len(packed) * 8


def _is_prefix(value: str) -> bool:
    bare, _slash, length = value.partition("/")
    if value == "default" or not _is_interface(value):
        return value == "default"
    packed = _packed(bare)
    return not int.from_bytes(packed, "big") & ((1 << (len(packed) * 8 - int(length))) - 1)


address = Form("an IP address", "write one like 10.0.0.1 or fd00::1", _ADDRESS, 45, _is_address)
interface = Form(
    "an address with its prefix length",
    "write one like 10.0.0.1/24 or fd00::1/64",
    _ADDRESS + _LENGTH,
    49,
    _is_interface,
)
prefix = Form("a prefix", "write one like 10.0.0.0/24 or fd00::/64", _ADDRESS + _LENGTH, 49, _is_prefix)
destination = Form(
    "a destination", "write `default` or a prefix like 10.0.0.0/24", f"default|{_ADDRESS}{_LENGTH}", 49, _is_prefix
)
mac = Form("a MAC address", "write one like 02:42:0a:00:00:01, in small letters", MAC, 17)


# --- the kernel's parameters, files, owners --------------------------------------------------------------------------

# A slash stands for a dot in a link's name, so a part must not become `.` or `..`.
_PART = rf"(?!/{{1,2}}(?:\.|\Z))[^{_CONTROL} \"*,.:\\{{}}]+"
_PATH = rf"(?:/{_NO_DOTS}[^{_CONTROL}/]+)+"
_NAMES = f"/run/cnm/{_PROJECT}/names"

sysctl_name = Form(
    "the name of a network's sysctl", "write one like net.ipv4.ip_forward", rf"net(?:\.{_PART})+", 200, _is_printable
)
sysctl_value = Form(
    "a sysctl's value", "words in one line with a space between them", r"\S+(?: \S+)*", 1000, str.isprintable
)
path = Form("a path", "absolute, printable, without `.` and `..` in it", _PATH, 4096, _is_printable)
directory = Form(
    "a directory of ours",
    "/etc/netns/NAME, /run/cnm/PROJECT/names or /run/cnm/PROJECT/evpn",
    f"/etc/netns/{_NAMESPACE}|{_NAMES}|/run/cnm/{_PROJECT}/evpn",
    128,
)
names_directory = Form("a directory of names", "/run/cnm/PROJECT/names", _NAMES, 128)
_CONTAINER = Form("a container", "its name or id", "[A-Za-z0-9][A-Za-z0-9_.-]*", 255)
OWNERS: dict[str, Form] = {
    "docker": _CONTAINER,
    "podman": _CONTAINER,
    "pid": Form("a process id", "write the number that ps shows", "[1-9][0-9]{0,6}", 7),
    "machine": Form("a machine", "its name", "[A-Za-z0-9][A-Za-z0-9_.-]*", 64),
    "path": path,
}
"""Forms of owners' names for namespaces; none begins with `-`, as programs would take it for an option."""
watched_owner = Form(
    "whose starts and ends are watched",
    "docker, docker.service, podman, machine, pid, path, or a directory of namespaces: letters, digits and `_ . : + -`",
    rf"docker|docker\.service|podman|machine|pid|path|(?:/{_NO_DOTS}[A-Za-z0-9_.:+-]+)+",
    1024,
)


# --- lines of files --------------------------------------------------------------------------------------------------

_are_lines = re.compile(r"[^\0-\t\x0b-\x1f\x7f-\xa0]*").fullmatch

search_domain = Form("a search domain", "a DNS name, or `.` for none", rf"\.|{_DNS}\.?", 254)
resolver_option = Form("an option of resolv.conf", "write one like ndots:1", "[a-z0-9-]+(?::[0-9]{1,5})?", 40)


def lines(value: Any) -> str:
    """The text of a file of ours: printable lines, each with a line end.  Raises FormError."""
    complete = isinstance(value, str) and len(value) <= _LARGEST_TEXT and (not value or value[-1] == "\n")
    if not complete or not _are_lines(value) or not (value.isascii() or value.replace("\n", "").isprintable()):
        raise FormError(f"{quoted(value)} is not a file's text: printable lines, each with its end")
    return value  # type: ignore[no-any-return]


one_line = Form("a line", "one without an end of a line in it, at most 4096 characters", r"[^\0\n\ud800-\udfff]*", 4096)

_NUMBER = "=[0-9]{1,7}"
_CONFIG: dict[str, str] = {
    **dict.fromkeys(
        ("bind-interfaces", "bind-dynamic", "no-hosts", "no-resolv", "strict-order", "no-ident", "no-poll"), ""
    ),
    **dict.fromkeys(("port", "dns-forward-max", "cache-size", "edns-packet-max"), _NUMBER),
    **dict.fromkeys(("addn-hosts", "servers-file"), f"={_NAMES}/{_FILE}"),
    **dict.fromkeys(("user", "group"), "=[a-z_][a-z0-9_-]{0,31}"),
    "listen-address": f"={_ADDRESS}",
    "local": f"=/(?:{_DNS})?/",
}
"""Permitted values by key of a resolver's configuration; no key runs, writes or includes anything."""
config_line = Form(
    "a line of a resolver's configuration",
    f"a value for one of {', '.join(sorted(_CONFIG))}",
    "|".join(key + value for key, value in _CONFIG.items()),
    320,
)


# --- nft -------------------------------------------------------------------------------------------------------------

_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_.-]*"
_IPV4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_COLONS = r"[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:(?:\.[0-9]{1,3}){3})?"
"""IPv6 and MAC addresses; nothing that nft would take for a host name and look up in DNS."""
_COUNT = "(?:0x[0-9a-f]{1,32}|[0-9]{1,10})"
_TOKEN = "|".join(
    (
        f'"{_LINK_CHARACTERS}"',
        f"{_COUNT}(?:-{_COUNT})?",
        f"{_IPV4}(?:/[0-9]{{1,2}}|-{_IPV4})?",
        f"{_COLONS}(?:/[0-9]{{1,3}}|-{_COLONS})?",
        "tcp|udp|sctp|dccp|udplite|icmp|icmpv6|ipv6-icmp|esp|ah|gre",
    )
)
_KEY = rf"(?:{_TOKEN})(?: \. (?:{_TOKEN}))*"
_VERDICT = f"(?:accept|drop|return|continue|(?:jump|goto) {_IDENTIFIER})"
_STRING = re.compile('"[^"]*"')
_SIMPLE = re.compile(r'[^"\\#;{}()]+(?:"[^"\\]*"[^"\\#;{}()]*)*').fullmatch
_COMMANDS = re.compile(r"\b(?:include|define|redefine|undefine)\b").search
_BRACKETS = {"{": "}", "(": ")"}

nft_name = Form("a name for nft", "letters, digits, `_`, `.` and `-`, not beginning with a digit", _IDENTIFIER, 127)
nft_comment = Form(
    "a comment for nft",
    "printable, without quotes and backslashes, at most 128 bytes",
    rf'[^{_CONTROL}"\\]*',
    128,
    lambda value: _is_printable(value) and len(value.encode()) <= 128,
)
nft_element = Form(
    "an element of a set of ours",
    'numbers, addresses, ranges, protocols and "links" joined by " . "; in a map " : " and the value follow',
    rf"{_KEY}(?: : (?:{_KEY}|{_VERDICT}))?",
    512,
    _is_printable,
)
nft_any_element = Form(
    "an element of a set",
    "printable, without , \\ and braces, without ; # and parentheses outside of quotes, its quotes closed",
    r'[^"\\#;{}(),]*(?:"[^"\\{},]*"[^"\\#;{}(),]*)*',
    1024,
    lambda value: value.isprintable() and not value.isspace() and value != "",
)
nft_declaration = Form(
    "a set's declaration",
    "`type TYPE;` or `typeof EXPRESSION;`, then flags, size or timeout",
    "(?:type|typeof) [A-Za-z0-9_@,.: ]+;"
    "(?: (?:(?:flags|timeout|gc-interval|size|policy) [A-Za-z0-9_, ]+|auto-merge|counter);)*",
    256,
)
nft_any_declaration = Form(
    "a set's declaration",
    "`type TYPE;` or `typeof EXPRESSION;`, printable, without # \\ and braces, its quotes closed",
    r'(?:type|typeof) [^"\\#{}]+(?:"[^"\\]*"[^"\\#{}]*)*;',
    1024,
    lambda value: value.isprintable() and not _COMMANDS(_STRING.sub("", value)),
)
nft_hook = Form(
    "a hook",
    "write one like type filter hook forward priority 0; policy accept",
    rf'(?:type [a-z]+ hook [a-z]+(?: device "{_LINK_CHARACTERS}")? priority [a-z0-9 +-]{{1,32}}'
    "(?:; policy (?:accept|drop))?)?",
    160,
    _is_printable,
)


def nft_quoted(value: Any) -> str:
    """A comment as nft's string.  Raises FormError."""
    return f'"{nft_comment(value)}"'


def nft_link(value: Any) -> str:
    """A link's name as nft's string.  Raises FormError."""
    return f'"{link_name(value)}"'


@lru_cache(_CACHED)
def _is_statement(value: str) -> bool:
    if not value.isprintable() or not value.strip():
        return False
    return _SIMPLE(value) is not None or _is_closed(value)


def _is_closed(value: str) -> bool:
    """Whether quotes and brackets are balanced, `;` occurs only in braces, and there is no nft command."""
    bare = _STRING.sub('""', value)
    if set('"\\#') & set(bare.replace('""', "")) or _COMMANDS(bare):
        return False
    expected: list[str] = []
    for character in re.findall("[{}();]", bare):
        if character in _BRACKETS:
            expected.append(_BRACKETS[character])
        elif character == ";":
            if "}" not in expected:
                return False
        elif not expected or expected.pop() != character:
            return False
    return not expected


def nft_elements(values: Sequence[str]) -> str:
    """Elements of a set, joined by commas.  Raises FormError for the first of wrong form.

    One match checks all: checking tens of thousands one by one takes as long as nft takes to load them.
    """
    joined = ", ".join(values)
    if not _are_elements(joined) or joined.count(",") != len(values) - 1 or not joined.isprintable():
        return ", ".join(map(nft_any_element, values))
    return joined


_are_elements = re.compile(r'[^"\\#;{}()]*(?:"[^"\\{},]*"[^"\\#;{}()]*)*').fullmatch


def nft_statement(value: Any) -> str:
    """A single rule that cannot end early and begin another command.  Raises FormError."""
    if not isinstance(value, str) or len(value) > _LONGEST_RULE or not _is_statement(value):
        raise FormError(
            f"{quoted(value)} is not a single nft statement: write each on its own, printable, without line breaks and "
            "backslashes, without `;` and `#` outside of quotes, and with its brackets closed"
        )
    return value


_LONGEST_RULE = 1 << 20


def nft_block(value: Any) -> str:
    """The user's chains and sets as nft printed them: complete blocks for use in a table's.  Raises FormError."""
    lines = text(value).split("\n")
    if not all(line.replace("\t", " ").isprintable() for line in lines) or not _is_closed(" ".join(lines)):
        raise FormError(f"{quoted(value)} is not a list of chains and sets as nft prints it")
    return value  # type: ignore[no-any-return]
