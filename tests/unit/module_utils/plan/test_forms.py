# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Forms of values that become text: what fits, and that nothing fits that would be read as more than one value."""

from __future__ import annotations

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan import forms
from ansible_collections.cnm.fabric.plugins.module_utils.plan.forms import FormError

FITS = {
    "project": ["default", "lab-2", "a_b"],
    "object_name": ["c1", "web-1.example", "redis.1"],
    "namespace_name": ["c1", "_x", "user@host", "ov-001000-ab12c"],
    "link_name": ["eth0", "eth0.10", "br-0123456789ab", "...", "a#b", "a;b", "$(id)", "é" * 7, "-a"],
    "host_name": ["node1", "192.0.2.1", "[2001:db8::1]:22", "my host"],
    "role": ["", "sandbox/c1", "endpoint/ps-bridge/c1", "adopted/network/x", "port:single_object/veth"],
    "file_name": ["hosts", "@07638fed68fd", "ps-bridge", "resolv.conf"],
    "dns_name": ["c1", "c1.ps-bridge", "_sip._tcp.example.com"],
    "digest": ["0" * 64],
    "address": ["10.0.0.1", "::1", "fd00::1", "::ffff:192.0.2.1"],
    "interface": ["10.0.0.1/24", "fd00::1/64", "10.0.0.1/0"],
    "prefix": ["10.0.0.0/24", "fd00::/64", "10.0.0.1/32", "0.0.0.0/0"],
    "destination": ["default", "10.0.0.0/8", "fd00::/8"],
    "mac": ["02:42:0a:00:00:01"],
    "sysctl_name": ["net.ipv4.ip_forward", "net.ipv6.conf.eth0/10.accept_ra", "net.bridge.bridge-nf-call-iptables"],
    "sysctl_value": ["1", "4096 16384 4194304", "fq_codel"],
    "path": ["/run/netns/other", "/var/lib/with a space/x", "/..x/y"],
    "directory": ["/etc/netns/c1", "/run/cnm/default/names"],
    "names_directory": ["/run/cnm/default/names", "/run/cnm/lab-2/names"],
    "search_domain": [".", "example.com", "example.com."],
    "resolver_option": ["ndots:0", "rotate", "use-vc"],
    "config_line": ["port=20053", "bind-interfaces", "local=//", "servers-file=/run/cnm/default/names/@07638fed68fd"],
    "nft_name": ["cnm", "user_forward", "ports4_any"],
    "nft_comment": ["cnm:default:host", "with a space"],
    "nft_element": [
        '"br-x" . 10.0.0.0/24',
        "tcp . 80-90 : 10.0.0.2 . 80",
        "70555195 . 02:42:0a:00:00:01",
        "1 . 0xfe800000000000000000000000000001",
        "fd00::/64 . 0-65535",
        "10.0.0.9 : 0x0a000009",
        '"eth0" : jump c',
        "10.0.0.0/24 : fd00::1",
    ],
    "nft_any_element": ["established", '10.0.0.1 timeout 1h comment "mine"', '"eth*"'],
    "nft_declaration": [
        "type ifname;",
        "type ipv4_addr . inet_service : verdict; flags interval;",
        "typeof @th,96,24;",
    ],
    "nft_any_declaration": ['type ipv4_addr; flags dynamic,timeout; size 65535; comment "a;b";'],
    "nft_hook": [
        "",
        "type filter hook forward priority -1; policy accept",
        "type nat hook output priority filter + 10",
    ],
    "nft_statement": [
        'iifname "a;b#c" accept',
        "meta protocol { 8021q, 8021ad } drop",
        "jump { ip saddr 192.0.2.1 drop; accept; }",
        "ct state established,related goto mark_and_accept",
    ],
}

HOSTILE = [
    '"; add table ip pwned;',
    '" }; add table ip pwned; #',
    "x }; add table ip pwned",
    "x\nadd table ip pwned",
    "x\r\nadd table ip pwned",
    "x\n",
    "\n",
    "x\0y",
    "x\x1b[31my",
    "x\x85y",
    "x\u2028y",
    "x\u202ey",
    "x\udcffy",
    "x" * 2_000_000,
    'include "/etc/passwd"; }',
    'jump { include "/etc/passwd"; }',
    "x\\",
    "x\\\ny",
]
"""What no form takes: it ends a statement or a line, or is not for eyes."""
ANY_LINE = ("host_name", "sysctl_value", "nft_comment")
"""Forms of any words in one line, which nft sees in quotes if at all."""


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FITS.items() for value in values])
def test_a_fitting_value_is_returned_unchanged(name: str, value: str) -> None:
    assert getattr(forms, name)(value) == value


def _hostile(name: str) -> list[object]:
    texts = [value for value in HOSTILE if name not in ANY_LINE or not value.isprintable() or len(value) > 1000]
    return [*texts, None, 7, b"x", ["x"]]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in FITS for value in _hostile(name)], ids=lambda value: repr(value)[:24]
)
def test_hostile_text_is_refused_by_every_form(name: str, value: object) -> None:
    with pytest.raises(FormError) as caught:
        getattr(forms, name)(value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", FITS)
def test_a_fitting_text_with_an_end_of_line_does_not_fit(name: str) -> None:
    for value in FITS[name]:
        for end in ("\n", "\r", "\r\n", "\x0b", "\0"):
            with pytest.raises(FormError):
                getattr(forms, name)(value + end)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("link_name", "."),
        ("link_name", ".."),
        ("link_name", "eth*"),
        ("link_name", "a,b"),
        ("link_name", "a{b"),
        ("link_name", "a:b"),
        ("link_name", "é" * 8),
        ("link_name", "x" * 16),
        ("namespace_name", "-n"),
        ("namespace_name", "../x"),
        ("object_name", "-rf"),
        ("file_name", ".."),
        ("file_name", "a/b"),
        ("file_name", "-a"),
        ("directory", "/etc/netns/.."),
        ("directory", "/etc/netns/a/b"),
        ("directory", "/etc/netns/../cron.d"),
        ("directory", "/etc/cron.d"),
        ("names_directory", "/run/cnm/default/names/.."),
        ("path", "/a/../b"),
        ("path", "/a/."),
        ("path", "a/b"),
        ("path", "//a"),
        ("sysctl_name", "kernel.core_pattern"),
        ("sysctl_name", "net.ipv4.//.kernel"),
        ("sysctl_name", "net./.x"),
        ("sysctl_name", "net..x"),
        ("sysctl_value", " 1"),
        ("address", "10.0.0.01"),
        ("address", "10.0.0.٣"),
        ("address", "fe80::1%eth0"),
        ("address", "FD00::1"),
        ("address", "1"),
        ("interface", "10.0.0.1/33"),
        ("interface", "10.0.0.1/024"),
        ("interface", "10.0.0.1"),
        ("prefix", "10.0.0.1/24"),
        ("mac", "02:42:0A:00:00:01"),
        ("digest", "A" * 64),
        ("nft_element", "example.com"),
        ("nft_element", "ssh"),
        ("nft_element", "10.0.0.1, 10.0.0.2"),
        ("nft_element", '"a" : queue'),
        ("nft_declaration", "type ipv4_addr; elements = { 10.0.0.1 };"),
        ("nft_statement", "accept; drop"),
        ("nft_statement", "accept # and more"),
        ("nft_statement", "a } { b"),
        ("config_line", "conf-dir=/tmp"),
        ("config_line", "dhcp-script=/tmp/x"),
        ("config_line", "addn-hosts=/etc/shadow"),
        ("config_line", "addn-hosts=/run/cnm/default/names/../../../x"),
        ("host_name", ""),
    ],
)
def test_near_misses(name: str, value: str) -> None:
    with pytest.raises(FormError):
        getattr(forms, name)(value)


def test_a_file_of_ours_has_whole_printable_lines() -> None:
    text = "# cnm:default:names\n10.0.0.2 c1.net c1\nserver=/#/\n\nbücher\n"
    assert forms.lines(text) == text
    assert forms.lines("") == ""
    for bad in ("10.0.0.2 c1", "10.0.0.2 c1\r\n", "\0\n", "\x1b[2J\n", "\u2028\n", "\udcff\n", "\u202e\n", None, b"\n"):
        with pytest.raises(FormError):
            forms.lines(bad if not isinstance(bad, str) else "# cnm:default:names\n" + bad)


def test_text_printed_by_nft_cannot_leave_its_table() -> None:
    block = '\tchain user_forward {\n\t\tiifname "a}b" accept\n\t}\n\n\tset user_x {\n\t\ttype ipv4_addr\n\t}'
    assert forms.nft_block(block) == block
    for bad in (
        "\tchain user_x {\n\t}\n}\nadd table ip pwned {",
        '\tchain user_x {\n\t\tinclude "/etc/passwd"\n\t}',
        "\tchain user_x {",
        '\tchain user_x {\n\t\tcomment "\n\t}',
    ):
        with pytest.raises(FormError):
            forms.nft_block(bad)


def test_foreign_text_is_shown_printable_and_short() -> None:
    assert forms.printable("sshd") == "sshd"
    assert forms.printable("a\x1b]0;x\x07\nb\u202ec\udcff\x9b") == "a\\x1b]0;x\\x07\\nb\\u202ec\\udcff\\x9b"
    assert len(forms.printable("x" * 5000, 100)) == 100
    assert forms.printable_lines("a\tb\nc\x1b") == "a\tb\nc\\x1b"
    assert forms.quoted("x" * 100) == "'" + "x" * 59 + "…'"


def test_words_and_numbers() -> None:
    assert forms.word("tcp", ("tcp", "udp"), "a protocol") == "tcp"
    assert forms.number(7, 1, 9, "a port") == 7
    for value in (True, 7.0, "7", 0, 10, None):
        with pytest.raises(FormError):
            forms.number(value, 1, 9, "a port")
    for word in ("icmp", None, ["tcp"], "tcp\n"):
        with pytest.raises(FormError):
            forms.word(word, ("tcp", "udp"), "a protocol")


@pytest.mark.parametrize("name", ["role", "interface", "nft_any_element", "nft_statement", "dns_name", "path"])
def test_a_long_text_that_almost_fits_is_refused_at_once(name: str) -> None:
    """No pattern tries one text in many ways."""
    for seed in ("a" * 60_000, "/a" * 30_000, '"a"' * 20_000, "10.0.0.1 " + "a.a " * 10_000, "{a" * 30_000):
        with pytest.raises(FormError):
            getattr(forms, name)(seed + "\n")


def test_no_pattern_has_a_class_that_takes_long_to_compile() -> None:
    """Python goes through each character of a range: those beyond ASCII are for `str.isprintable`."""
    assert [
        name for name in FITS if isinstance(form := getattr(forms, name), forms.Form) and not form._pattern.isascii()
    ] == []
