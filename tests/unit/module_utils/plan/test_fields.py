# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Every field of every kind, from the registry, with hostile text: refused, or it stays that one value."""

from __future__ import annotations

import json
import os.path
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import hostile
import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine, journal, reporting
from ansible_collections.cnm.fabric.plugins.module_utils.engine.journal import Journal
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import PlanError, Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import can_be_put_back, decode, encode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.fields import FOUND, PLANNED
from ansible_collections.cnm.fabric.plugins.module_utils.plan.kinds import KINDS
from ansible_collections.cnm.fabric.plugins.module_utils.plan.kinds import PARTS as KIND_PARTS
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Chain, Nftables, NftSet
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerEndpoint, PeerTable
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Difference, Operation
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import script
from ansible_collections.cnm.fabric.plugins.module_utils.resources.registry import kinds
from ansible_collections.cnm.fabric.plugins.module_utils.resources.sysctl import sysctl_path
from ansible_collections.cnm.fabric.plugins.module_utils.state import files

PARTS = {cls.__name__: cls for cls, _several in KIND_PARTS.values()}
CLASSES: dict[str, Any] = {**KINDS, **PARTS}


def names_of(cls: Any) -> set[str]:
    return {spec.name for spec in fields(cls)}


def test_every_kind_has_a_sample_with_every_field() -> None:
    assert {kind.name for kind in kinds()} == set(KINDS) == set(hostile.SAMPLES)
    for kind, data in hostile.SAMPLES.items():
        resource = decode({"kind": kind, **data})
        assert set(data) == {name for name in names_of(KINDS[kind]) if (kind, name) not in hostile.FOUND_ONLY}
        for name, value in vars(resource).items():
            for part in value if isinstance(value, tuple) else (value,):
                if is_dataclass(part):
                    stated = [item for item in _listed(data[name]) if set(item) == names_of(type(part))]
                    assert stated, f"no sample of {kind}.{name} says every field"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("table", [PLANNED, FOUND], ids=["planned", "found"])
def test_fields_and_forms_correspond(table: dict[str, dict[str, Any]]) -> None:
    held = set(KIND_PARTS)
    for name, cls in CLASSES.items():
        assert set(table[name]) == {field for field in names_of(cls) if (name, field) not in held}, name
    assert set(table) == set(CLASSES)


def _is_within(directory: str, path: str) -> bool:
    return os.path.dirname(os.path.normpath(path)) == os.path.normpath(directory)


def _namespace(item: Any) -> bool:
    """Its own name, and the namespaces that other things are in, lead to one place each."""
    names = [getattr(item, "name", "") if item.kind == "namespace" else getattr(item, "namespace", "")]
    names += [item.peer.namespace] if getattr(item, "peer", None) else []
    return all(not name or _is_within("/run/netns", f"/run/netns/{name}") for name in names)


def _link(item: Any) -> bool:
    return _is_within("/proc/sys/net/ipv6/conf", f"/proc/sys/net/ipv6/conf/{item.name}")


def _sysctl(item: Any) -> bool:
    return os.path.normpath(sysctl_path(item.name)).startswith("/proc/sys/net/") and "\n" not in item.value


def _file(item: Any) -> bool:
    roots = ("/etc/netns", "/run/cnm/default", f"/run/cnm/{item.directory.split('/')[3]}")
    inside = any(_is_within(root, item.directory) for root in roots)
    return inside and all(
        _is_within(item.directory, f"{item.directory}/{name}") for name in (*item.files, *item.shared)
    )


def _resolver(item: Any) -> bool:
    return all("\n" not in line and not line.startswith(("conf", "dhcp", "log")) for line in item.config)


def _names(item: Any) -> bool:
    roots = ("/run/cnm/default", f"/run/cnm/{item.directory.split('/')[3]}")
    return any(_is_within(root, item.directory) for root in roots)


def _nftables(item: Any) -> bool:
    lines = script(item, "default").splitlines()
    return all(line.startswith(("add ", "table ")) for line in lines) and len(lines) <= 1 + 2 + 1 + 2 + 2


HARMLESS: dict[str, Callable[[Any], bool]] = {
    "link": _link,
    "sysctl": _sysctl,
    "file": _file,
    "resolver": _resolver,
    "names": _names,
    "nftables": _nftables,
}


@pytest.mark.parametrize(("kind", "path"), [*hostile.every()], ids=str)
def test_hostile_text_is_refused_or_stays_one_value(kind: str, path: hostile.Path) -> None:
    accepted = []
    for text in hostile.TEXTS:
        data = {"kind": kind, **hostile.replaced(hostile.SAMPLES[kind], path, text)}
        try:
            resource = decode(data)
        except PlanError as refusal:
            assert str(refusal).isprintable()
            assert len(str(refusal)) < 1000
            continue
        accepted.append(text)
        assert _namespace(resource)
        assert HARMLESS.get(kind, lambda item: True)(resource), text
    in_lines = kind in ("file", "namespace") and path[0] == "files" and path[-1] is not None
    anything = kind == "sysctl" and path[0] in ("value", "former")
    for text in accepted:
        assert len(text) <= 300 or "rules" in path, path
        assert text.isprintable() or (in_lines and text.endswith("\n")), path
        assert '"' not in text or anything, (path, text)


@pytest.mark.parametrize(("kind", "path"), [*hostile.every()], ids=str)
def test_a_value_that_is_not_text_is_refused_where_text_is_needed(kind: str, path: hostile.Path) -> None:
    for value in (7, 7.5, True, ["x"], {"x": "y"}, [["x"]]):
        if path[-1] is not None:
            with pytest.raises(PlanError):
                decode({"kind": kind, **hostile.replaced(hostile.SAMPLES[kind], path, value)})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", hostile.SAMPLES)
def test_invalid_numbers_flags_and_unknown_fields_are_refused(kind: str) -> None:
    sample = hostile.SAMPLES[kind]
    for name, value in sample.items():
        for wrong in ("1", None, [], -1, 1 << 70, 1.5) if isinstance(value, (int, bool)) else ():
            if wrong is None and getattr(KINDS[kind], name, 0) is None:
                continue
            with pytest.raises(PlanError):
                decode({"kind": kind, **sample, name: wrong})
    for extra in ("__class__", "other", "", "\x1b[2J"):
        with pytest.raises(PlanError) as refusal:
            decode({"kind": kind, **sample, extra: "x"})
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize("data", [None, [], "link", 7, {}, {"kind": ["link"]}, {"kind": "\x1b[2J"}])
def test_an_invalid_resource_is_refused_with_a_printable_sentence(data: Any) -> None:
    with pytest.raises(PlanError) as refusal:
        decode(data)
    assert str(refusal.value).isprintable()


ENVELOPE: dict[str, Any] = {
    "schema": 1,
    "host": "node1",
    "project": "default",
    "resources": [],
    "model": {},
    "leases": {},
}


@pytest.mark.parametrize(
    "change",
    [
        *({"host": text} for text in ("", "a\nb", "\x1b[2J", "x" * 300, None, 7)),
        *({"project": text} for text in ("../x", "a b", "A", "", '"', "x" * 33, "a\n", None)),
        *({"resources": value} for value in (None, {}, "x", [None], [[]], 7)),
        *({section: value} for section in ("model", "leases", "declared", "module_state") for value in (None, [], "x")),
        {"unknown": 1},
        {"schema": "1\x1b[2J"},
    ],
    ids=str,
)
def test_a_hostile_envelope_is_refused_with_a_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(PlanError) as refusal:
        Plan.from_json(json.dumps({**ENVELOPE, **change}))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["host", "project", "resources", "model", "leases", "schema"])
def test_an_incomplete_envelope_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(json.dumps({key: value for key, value in ENVELOPE.items() if key != name}))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "NaN", "null", "\ud800"])
def test_invalid_json_is_refused_with_a_sentence(text: str) -> None:
    for read in (Plan.from_json, PeerTable.from_json):
        with pytest.raises(PlanError):
            read(text)


PEER_TABLE = PeerTable(
    "multinet",
    4096,
    {"node1": "192.0.2.1"},
    (PeerEndpoint("node1", "c1", "02:42:0a:00:00:02", ("10.0.0.2",), ("c1.multinet", "c1")),),
)


@pytest.mark.parametrize("path", [*hostile.positions(json.loads(PEER_TABLE.to_json()))], ids=str)
def test_hostile_text_in_a_peer_table_is_refused_or_stays_one_value(path: hostile.Path) -> None:
    for text in hostile.TEXTS:
        try:
            read = PeerTable.from_json(json.dumps(hostile.replaced(json.loads(PEER_TABLE.to_json()), path, text)))
        except PlanError as refusal:
            assert str(refusal).isprintable()
            continue
        assert text.isprintable(), path
        assert all(address == "" or address[0].isdigit() for address in read.vteps.values())
    assert PeerTable.from_json(PEER_TABLE.to_json()) == PEER_TABLE


# --- what is found ---------------------------------------------------------------------------------------------------

ODD: list[Resource] = [
    Link("c1", "eth0\udcff", "veth", "sandbox/\udcff\x1b[2J"),
    Link("c1", 'a"b', "dummy", "x\ny"),
    Namespace("c1", "\x1b[2J", files={"hosts": "caf\udce9\n", "resolv.conf": "\0\n"}),
    File("/etc/netns/c1", "sandbox/c1", {"hosts": "no end, \x1b[2J"}),
    Nftables("c1", "inet", "cnm", "host", (NftSet("s", "type ipv4_addr;", ('"eth*"',)),), (), "dormant"),
]
"""As others may have made ours; each can be put back as it was."""

UNSAYABLE: list[Resource] = [
    Link("c1", "x" * 300, "veth", "sandbox/c1"),
    Namespace("../c1", "sandbox/c1"),
    File("/etc/netns/c1", "sandbox/c1", {"../hosts": ""}),
    Nftables("c1", "inet", "cnm", "host", (), (Chain("c", "", ("accept\nadd table ip pwned",)),)),
    Nftables("c1", "inet", "cnm", "host", users='}\ninclude "/etc/passwd"\n'),
    Nftables("c1", "inet", "cnm", '"; }; add table ip pwned; #'),
]


@pytest.fixture
def run_directory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for module in (journal, files):
        monkeypatch.setattr(module, "RUN", tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", hostile.SAMPLES)
def test_every_planned_resource_can_be_restored(kind: str) -> None:
    resource = decode({"kind": kind, **hostile.SAMPLES[kind]})
    assert can_be_put_back(resource)
    assert decode(encode(resource), found=True) == resource


@pytest.mark.parametrize("resource", ODD, ids=lambda item: item.kind)
def test_objects_changed_by_others_survive_the_journal(resource: Resource, run_directory: Any) -> None:
    written = Journal("default")
    written.note({resource.key: resource}, {})
    assert Journal("default").before == [resource]


@pytest.mark.parametrize("resource", UNSAYABLE, ids=lambda item: item.kind)
def test_an_unrestorable_object_does_not_affect_other_entries(resource: Resource, run_directory: Any) -> None:
    other = Namespace("c2", "sandbox/c2")
    written = Journal("default")
    written.note({resource.key: resource, other.key: other}, {})
    read = Journal("default")
    assert read.before == written.before == [other]
    assert set(read.entries) == {resource.key, other.key}


def test_an_unreadable_entry_does_not_affect_others(run_directory: Any) -> None:
    written = Journal("default")
    written.note({("namespace", name): Namespace(name, f"sandbox/{name}") for name in ("c1", "c2")}, {})
    file = run_directory / "default" / "journal.json"
    data = json.loads(file.read_text())
    data["places"][0][1]["name"] = "../x"
    data["places"] += [7, [], [["a"], {"kind": "link"}, None], {"a": 1}]
    file.write_text(json.dumps(data))
    assert [item.key for item in Journal("default").before] == [("namespace", "c2")]


def test_reports_and_diffs_are_printable() -> None:
    evil = "x\x1b]0;title\x07\x9b\u202e\udcff"
    found = Link("c1", evil, "veth", evil)
    operations: list[Any] = [
        Operation("delete", found, found),
        Operation("change", Link("c1", "eth0", "veth"), found, (Difference("role", "a\nb", evil),)),
    ]
    shown = json.dumps([reporting.report(operations), reporting.diff(operations)], ensure_ascii=False)
    assert shown.isprintable()
    assert "\\\\x1b]0;title" in shown
    assert "a\\nb" in shown, "line breaks of files are the diff's own"
    assert engine.sentence(OSError(evil)).isprintable()
