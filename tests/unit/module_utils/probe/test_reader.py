# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the probe reads of a host's resolver settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.probe.reader import (
    flushing,
    link_managers,
    read_resolv_conf,
    resolvers,
)

NOTHING: dict[str, list[str]] = {"servers": [], "search": [], "options": []}


def files(directory: Path, *texts: str) -> list[Path]:
    """A file a text: resolv.conf first, then those that stand behind a stub."""
    paths = [directory / f"{number}.conf" for number in range(len(texts))]
    for path, text in zip(paths, texts):
        path.write_text(text, encoding="utf-8")
    return paths


def test_servers_keep_their_order_and_options_add_up() -> None:
    text = "nameserver 192.0.2.2\nnameserver 192.0.2.1\noptions ndots:2\noptions timeout:1 rotate\n"
    assert read_resolv_conf(text) == {
        "servers": ["192.0.2.2", "192.0.2.1"],
        "search": [],
        "options": ["ndots:2", "timeout:1", "rotate"],
    }


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("search a.example b.example\n", ["a.example", "b.example"]),
        ("search a.example\nsearch b.example\n", ["b.example"]),
        ("search a.example\ndomain b.example\n", ["b.example"]),
        ("domain a.example\nsearch b.example c.example\n", ["b.example", "c.example"]),
        ("search .\n", ["."]),
    ],
)
def test_the_last_search_or_domain_line_counts(text: str, search: list[str]) -> None:
    assert read_resolv_conf(text)["search"] == search


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "# nameserver 192.0.2.1\n", "; search a.example\n", "nameserver\n", "sortlist 192.0.2.0\n", "  \t \n"],
)
def test_comments_and_invalid_lines_are_ignored(text: str) -> None:
    assert read_resolv_conf(text) == NOTHING


def test_blanks_tabs_trailing_comments_and_a_missing_last_newline_do_not_matter() -> None:
    assert read_resolv_conf("\tnameserver\t192.0.2.1 # the router\n nameserver 192.0.2.2;x")["servers"] == [
        "192.0.2.1",
        "192.0.2.2",
    ]


def test_the_zone_of_a_link_local_server_is_removed() -> None:
    assert read_resolv_conf("nameserver fe80::1%eth0\n")["servers"] == ["fe80::1"]


def test_without_a_stub_resolv_conf_is_used(tmp_path: Path) -> None:
    paths = files(tmp_path, "nameserver 192.0.2.1\nsearch a.example\n", "nameserver 192.0.2.9\n")
    assert resolvers(paths) == {"servers": ["192.0.2.1"], "search": ["a.example"], "options": []}


@pytest.mark.parametrize("stub", ["127.0.0.53", "127.0.0.1", "::1"])
def test_a_loopback_stub_is_replaced_by_its_upstreams(tmp_path: Path, stub: str) -> None:
    paths = files(
        tmp_path,
        f"nameserver {stub}\nsearch a.example\noptions edns0 trust-ad\n",
        "nameserver 192.0.2.9\nnameserver 2001:db8::9\nsearch elsewhere.example\n",
    )
    assert resolvers(paths) == {
        "servers": ["192.0.2.9", "2001:db8::9"],
        "search": ["a.example"],
        "options": ["edns0", "trust-ad"],
    }


def test_the_next_file_is_read_if_one_is_missing_or_has_only_stubs(tmp_path: Path) -> None:
    first, second, third = files(tmp_path, "nameserver 127.0.0.53\n", "nameserver 127.0.0.1\n", "nameserver 192.0.2.3")
    assert resolvers([first, tmp_path / "missing", second, third])["servers"] == ["192.0.2.3"]


def test_a_stub_beside_a_server_is_dropped(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "nameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    assert resolvers([path])["servers"] == ["192.0.2.1"]


def test_a_stub_without_known_upstreams_is_kept(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "nameserver 127.0.0.53\nsearch a.example\n")
    assert resolvers([path]) == {"servers": ["127.0.0.53"], "search": ["a.example"], "options": []}


def test_an_invalid_server_is_skipped(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "nameserver router\nnameserver 192.0.2.1\n")
    assert resolvers([path])["servers"] == ["192.0.2.1"]


def test_a_host_without_any_of_the_files_has_no_settings(tmp_path: Path) -> None:
    assert resolvers([tmp_path / "missing"]) == NOTHING


def test_a_file_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"# caf\xe9\nnameserver 192.0.2.1\n")
    assert resolvers([path])["servers"] == ["192.0.2.1"]


def test_an_enabled_service_that_flushes_all_tables_is_found(tmp_path: Path) -> None:
    config, wants = tmp_path / "nftables.conf", tmp_path / "sysinit.target.wants"
    config.write_text("#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {\n}\n")
    wants.mkdir()
    assert flushing(config, tmp_path) is None
    (wants / "nftables.service").touch()
    assert flushing(config, tmp_path) == str(config)
    config.write_text("# flush ruleset\ntable inet filter {\n}\n")
    assert flushing(config, tmp_path) is None
    assert flushing(tmp_path / "none.conf", tmp_path) is None


PROGRAMS = ("usr/sbin/NetworkManager", "usr/lib/systemd/systemd-networkd", "bin/udevadm")


def test_link_managers_are_those_whose_program_is_there_if_systemd_runs(tmp_path: Path) -> None:
    for path in PROGRAMS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert link_managers(tmp_path) == []
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert link_managers(tmp_path) == ["NetworkManager", "networkd", "udev"]
    (tmp_path / PROGRAMS[0]).unlink()
    assert link_managers(tmp_path) == ["networkd", "udev"]
