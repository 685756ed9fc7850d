# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Hostile text on its way to nft, dnsmasq and files, with the real ones: nothing but the wanted object comes of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile
import pytest
from host import run_command, sh

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, netlink, nft
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.conntrack import forget_moved, forget_udp
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.nft import NftError
from ansible_collections.cnm.fabric.plugins.module_utils.plan import forms
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import PlanError
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import decode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.forms import FormError
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import (
    HOST_TASKS,
    INGRESS_TASKS,
    VIP_TASKS,
    Chain,
    Nftables,
    NftSet,
    task_set,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File
from ansible_collections.cnm.fabric.plugins.module_utils.resources.file import FileKind
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import script, transaction
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables_reading import parse
from ansible_collections.cnm.fabric.plugins.module_utils.resources.resolver import _text
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.host_table import (
    HostRules,
    host_table,
    unnameable_link_warnings,
)

SPEAKERS: list[Callable[[], nft.Nft]] = [nft.Library, lambda: nft.Program(run_command)]
OURS = Nftables(
    "",
    "inet",
    "cnm",
    "host",
    (NftSet("bridges", "type ifname;", ('"br0"',)),),
    (Chain("forward", "type filter hook forward priority 0; policy accept", ("oifname @bridges drop",)),),
)


@pytest.fixture(params=SPEAKERS, ids=["library", "program"])
def speaker(request: pytest.FixtureRequest) -> nft.Nft:
    made: nft.Nft = request.param()
    return made


def _tables_after(speaker: nft.Nft, texts: Sequence[str]) -> set[str]:
    """What tables there are after each of the texts was tried in the namespace."""
    for text in texts:
        try:
            speaker.run(text)
        except NftError:
            continue
    return set(speaker.run("list tables").splitlines())


def _forged() -> Iterator[tuple[hostile.Path, Nftables]]:
    """Tables with hostile text in each place, as no plan could have them: past what decoding checks."""
    sample = {"kind": "nftables", **hostile.SAMPLES["nftables"]}
    genuine = decode(sample)
    assert isinstance(genuine, Nftables)
    for path in hostile.positions(hostile.SAMPLES["nftables"]):
        for text in (
            () if path[-1] is None else (*hostile.TEXTS, "c { type filter hook input priority 0; }; add table ip pwned")
        ):
            data = hostile.replaced(hostile.SAMPLES["nftables"], path, text)
            sets = tuple(NftSet(**{**item, "elements": tuple(item["elements"])}) for item in data["sets"])
            chains = tuple(Chain(**{**item, "rules": tuple(item["rules"])}) for item in data["chains"])
            rest = {name: data[name] for name in ("family", "name", "role")}
            yield path, replace(genuine, namespace="", sets=sets, chains=chains, **rest)


def test_a_forged_table_is_refused_or_is_that_table_alone(speaker: nft.Nft) -> None:
    """Whatever a value says, nft gets no command that is not ours."""
    texts: dict[str, str] = {}
    refused = 0
    for _path, table in _forged():
        try:
            texts[script(table, "default")] = table.name
        except FormError as refusal:
            assert str(refusal).isprintable()
            refused += 1
    assert refused > 300
    for text, name in texts.items():
        assert namespaces.run_in_new(_tables_after, speaker, [text]) <= {f"table inet {name}", f"table bridge {name}"}


def test_hostile_found_text_becomes_no_command(speaker: nft.Nft) -> None:
    """A sandbox's root can put anything in our table there; what we say to change it back is ours."""
    for _path, found in _forged():
        try:
            text = transaction(OURS, OURS, replace(found, name="cnm", family="inet"), "default")
        except FormError:
            continue
        made = [script(replace(OURS, chains=(), sets=()), "default"), text]
        assert namespaces.run_in_new(_tables_after, speaker, made) == {"table inet cnm"}


def test_every_decoded_table_creates_only_itself(speaker: nft.Nft) -> None:
    accepted = {}
    for path in hostile.positions(hostile.SAMPLES["nftables"]):
        for text in hostile.TEXTS:
            data = hostile.replaced(hostile.SAMPLES["nftables"], path, text)
            try:
                table = decode({"kind": "nftables", **data})
            except PlanError:
                continue
            assert isinstance(table, Nftables)
            accepted[script(table, "default")] = f"table {table.family} {table.name}"
    assert accepted
    for text, wanted in accepted.items():
        assert namespaces.run_in_new(_tables_after, speaker, [text]) <= {wanted}


# --- links of others -------------------------------------------------------------------------------------------------

ODD_LINKS = [
    'a"b',
    "eth*",
    "a,b",
    "a}b",
    "a\\b",
    "a;b#c",
    "$(id)",
    "@all",
    "-rf",
    "'x'",
    "brücke",
    "a\x1b[2J",
    "a\u202eb",
]


def _with_odd_links(names: Sequence[str]) -> list[str]:
    with netlink.Netlink() as socket:
        socket.send([netlink.new_link(name, "bridge") for name in names])
        return [link["name"] for link in socket.links() if link["kind"] == "bridge"]


def _loaded(speaker: nft.Nft, text: str) -> str:
    speaker.run(text)
    return speaker.run("list table inet cnm")


def test_hostile_names_of_bridges_do_not_stop_a_plan(speaker: nft.Nft) -> None:
    """Those that nft can hold are held as they are, of the others a warning says that no rule names them."""
    names = namespaces.run_in_new(_with_odd_links, ODD_LINKS)
    assert sorted(names) == sorted(ODD_LINKS)
    facts = Facts(bridges=tuple(names), routes=(("default", 'up"l', "192.0.2.1"),), forwarding_links={4: ("a}b",)})
    rules = HostRules("default", [], {}, [], (4, 6), ["a}b", "a;b#c"], facts.bridges, True, facts.uplinks)
    table = host_table(rules)
    printed = namespaces.run_in_new(_loaded, speaker, script(table, "default"))
    found = parse(printed, "default", "", frozenset({"user_forward"}))
    assert found is not None
    held = {item.name: item.elements for item in found.sets}["foreign_bridges"]
    fitting = [name for name in ODD_LINKS if forms.link_name.fits(name)]
    assert set(held) == {f'"{name}"' for name in fitting}
    assert {"a;b#c", "$(id)", "@all", "-rf", "'x'", "brücke"} == set(fitting)
    warned = unnameable_link_warnings(facts)
    assert len(warned) == len(set(ODD_LINKS) - set(fitting)) + 1
    assert all(text.isprintable() for text in warned)


# --- programs and files ----------------------------------------------------------------------------------------------


def test_dnsmasq_reads_no_line_of_a_configuration_that_is_not_ours(tmp_path: Path) -> None:
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin")
    assert program
    accepted = []
    for text in (*hostile.TEXTS, "port=20053", "local=//"):
        for line in (text, f"port=20053{text}", f"addn-hosts=/run/cnm/default/names/{text}", f"local=/{text}/"):
            try:
                resource: Any = decode({"kind": "resolver", "namespace": "c1", "config": [line]})
            except PlanError:
                continue
            accepted.append(line)
            file = tmp_path / "dnsmasq.conf"
            file.write_text(_text((*resource.config, "keep-in-foreground")), encoding="utf-8")
            done = subprocess.run(
                [program, "--test", f"--conf-file={file}"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (line, done.stderr)
            assert len(file.read_text(encoding="utf-8").splitlines()) == 2
    assert {"port=20053", "local=//"} <= set(accepted)
    for line in ("port=53\ndhcp-script=/tmp/x", "a\0b"):
        with pytest.raises(FormError):
            _text([line])


def test_no_file_is_written_outside_our_directories(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for directory in (str(tmp_path), f"/etc/netns/../..{tmp_path}", f"/run/cnm/default/names/../../../..{tmp_path}"):
        with pytest.raises(FormError):
            FileKind().create(None, [File(directory, "", {"victim": "pwned\n"})])  # type: ignore[arg-type]
    for name in (f"../../..{victim}", str(victim), "..", "a/b", "-x", "a\0b", ""):
        with pytest.raises(FormError):
            FileKind().create(None, [File("/run/cnm/hostile/names", "", {name: "pwned\n"})])  # type: ignore[arg-type]
    sh("rmdir /run/cnm/hostile/names /run/cnm/hostile; rmdir /run/cnm 2>/dev/null || true")
    assert list(tmp_path.iterdir()) == []


def test_elements_become_neither_options_nor_endless_loops() -> None:
    said: list[list[str]] = []

    def run(arguments: list[str]) -> tuple[int, str, str]:
        said.append(arguments[1:])
        return (
            0,
            "ipv4 2 tcp 6 9 src=10.0.0.2 dst=10.0.0.9 sport=1 dport=80 src=10.0.0.3 dst=10.0.0.2 sport=80 dport=1\n",
            "",
        )

    elements = [
        *hostile.TEXTS,
        "udp . 53-99999",
        "udp . 1-99999999999999999999",
        "--help . udp . 53",
        "10.0.0.1 . udp . x",
    ]
    forget_udp(run, [*elements, "10.0.0.1 . udp . 53 : 10.0.0.2 . 53"])
    assert said
    before = [
        task_set(*which, elements=tuple(elements)) for which in ((VIP_TASKS, 4), (INGRESS_TASKS, 4), (HOST_TASKS, 6))
    ]
    forget_moved(run, before, before[:1], lambda: True)
    known = ("-L", "-D", "-f", "-p", "--dst-nat", "--orig-dst", "--orig-port-dst", "--reply-src")
    assert all(word in known for arguments in said for word in arguments if word.startswith("-"))
