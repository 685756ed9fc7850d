# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The command and the units of systemd, as texts; which parts of a plan are restored together."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import hostile
import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli, half, units, verbs
from ansible_collections.cnm.fabric.plugins.module_utils.plan import forms
from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import VERSION
from ansible_collections.cnm.fabric.plugins.module_utils.plan.forms import FormError, link_name

GOLDEN = Path(__file__).parents[2] / "golden" / "boot-units.txt"
HALF = units.HostHalf("/usr/bin/python3", "/var/lib/cnm/.half/0123", "fabric.hostd.cli")
PARENT_UNIT = f"{units.UNITS}/cnm-parent@.service"


def listed(files: dict[str, str]) -> str:
    """All files as one text."""
    return "".join(f"=== {path}\n{text}{'' if text.endswith(chr(10)) else chr(10)}" for path, text in files.items())


def test_the_command_and_the_units_are_these() -> None:
    assert listed(units.files(HALF, ["eth1"], ["podman", "docker", "/run/netns"])) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        *((words, verbs.overview()) for words in ([], ["help"], ["--help"], ["-h"], ["help", "ps"], ["exec", "-h"])),
        *(([word], f"cnm {VERSION}\n") for word in ("--version", "version", "-v")),
        (["ps"], None),
        (["exec", "c1", "ls", "--help"], None),
    ],
)
def test_who_is_not_root_is_told_what_the_command_is_and_no_more(
    words: list[str], shown: Optional[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    monkeypatch.setattr("sys.argv", ["cnm", *words])
    with pytest.raises(SystemExit) as ended:
        exec(compile(units.files(HALF, [])[units.COMMAND], units.COMMAND, "exec"), {})
    assert (ended.value.code, capsys.readouterr().out) == ((None, shown) if shown else ("cnm: this needs root", ""))


def test_the_same_values_give_the_same_files_in_any_order() -> None:
    assert units.files(HALF, ["eth1", "eth0"]) == units.files(HALF, ["eth0", "eth1"])


@pytest.mark.parametrize(
    ("link", "escaped"),
    [
        ("eth0", "eth0"),
        ("eth0.10", "eth0.10"),
        ("br-lan", r"br\x2dlan"),
        ("a@b", r"a\x40b"),
        ("a\\b", r"a\x5cb"),
        ("é", r"\xc3\xa9"),
        ("%n", r"\x25n"),
        ("../x", "..-x"),
    ],
)
def test_a_links_name_is_escaped_as_systemd_escape_does(link: str, escaped: str) -> None:
    assert units.escape(link) == escaped
    program = shutil.which("systemd-escape")
    if program and not link.startswith("."):
        assert subprocess.run([program, link], capture_output=True, text=True, check=True).stdout == f"{escaped}\n"


@pytest.mark.parametrize("text", [text for text in hostile.TEXTS if text and "\udcff" not in text])
def test_whatever_a_link_is_called_its_unit_is_one_file_in_the_directory_of_units(text: str) -> None:
    made = {path: target for path, target in units.files(HALF, [text]).items() if "cnm-parent@" in path}
    assert made.pop(PARENT_UNIT)
    ((path, target),) = made.items()
    assert target == f"-> {PARENT_UNIT}"
    assert Path(path).parent.parent == Path(units.UNITS)
    assert path.isascii()
    assert path.isprintable()


@pytest.mark.parametrize("name", ["", "eth0\n", "/", "..", "a b"])
def test_no_plan_names_a_link_that_the_kernel_cannot_have(name: str) -> None:
    assert not link_name.fits(name)


@pytest.mark.parametrize("place", ["relative", "/a\nb", "/a/../b", ""])
def test_a_path_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(FormError):
        units.files(units.HostHalf(place, HALF.folder, HALF.module), [])
    with pytest.raises(FormError):
        units.files(units.HostHalf(HALF.python, place, HALF.module), [])


OWNERS_PATH = f"{units.UNITS}/{units.OWNERS_PATH}"


def test_what_is_watched_follows_from_whose_namespaces_there_are() -> None:
    assert "PathChanged=/run/netns\n" in units.files(HALF, [], ["/run/netns", "docker"])[OWNERS_PATH]
    assert "/run/docker" not in units.files(HALF, [], ["/run/netns", "podman"])[OWNERS_PATH]
    # Nothing tells of them, so there is nothing to watch, but they come back with the boot.
    assert OWNERS_PATH not in units.files(HALF, [], ["pid", "path"])
    assert f"{units.UNITS}/cnm-owners.service" in units.files(HALF, [], ["pid"])
    assert not any("owners" in path for path in units.files(HALF, []))
    start = f"{units.UNITS}/docker.service.wants/cnm-owners-event.service"
    assert start in units.files(HALF, [], ["docker"])
    assert start in units.files(HALF, [], ["docker.service"])
    assert OWNERS_PATH not in units.files(HALF, [], ["docker.service"])


@pytest.mark.parametrize(
    "text", ["/a\nUnit=x", "/a b", "/%n", "/a\\", "/a/../b", "/", "relative", "", '/"', "/a\r", *hostile.TEXTS]
)
def test_a_directory_cannot_add_anything_to_the_unit_that_watches_it(text: str) -> None:
    if not forms.watched_owner.fits(text):
        with pytest.raises(FormError):
            units.files(HALF, [], [text])
    else:
        assert re.fullmatch("[A-Za-z0-9_.:+/-]+", text)


def test_every_unit_is_marked_and_matches_a_pattern_of_ours() -> None:
    files = units.files(HALF, ["eth1"], ["docker"])
    patterns = [path for pattern in units.OURS for path in (pattern,)]
    for path, text in files.items():
        assert units.is_link(text) or units.MARK in "\n".join(text.splitlines()[:2])
        inside = Path(path).relative_to(units.UNITS) if path.startswith(units.UNITS) else None
        assert inside is None or any(inside.match(pattern) for pattern in patterns)


def test_the_running_host_half_has_the_command_and_nothing_of_modules_for_single_objects() -> None:
    files = half.running()
    assert "hostd/cli.py" in files
    assert "engine/engine.py" in files
    assert "single_object.py" not in files
    assert half.digest(files) == half.digest(dict(reversed(files.items())))
    assert half.digest({**files, "hostd/cli.py": b""}) != half.digest(files)


def test_a_kept_host_half_runs_by_itself_and_damage_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (half,):
        monkeypatch.setattr(module, "LIB", tmp_path)
        monkeypatch.setattr(module, "HALVES", tmp_path / ".half")
    files = half.running()
    name = half.digest(files)
    assert not half.kept(name)
    half.keep(files)
    assert half.kept(name)
    assert (tmp_path / ".half").stat().st_mode & 0o777 == 0o700
    place = str(half.folder(name))
    program = f"import sys; sys.path.insert(0, {place!r}); from {cli.__name__} import main; main(['ls', '-h'])"
    done = subprocess.run(["/usr/bin/python3", "-I", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage: cnm ls" in done.stdout) == (0, True), done.stderr
    assert half.kept(name)
    next(half.folder(name).rglob("cli.py")).write_text("pass\n", encoding="utf-8")
    assert not half.kept(name)
    half.keep(files)
    assert half.kept(name)
    half.remove_others(None)
    assert not (tmp_path / ".half").exists()


ORDERED = ["", "nonsense", "0.1.0-dev1", "0.1.0-dev1.2", "0.1.0", "0.1.1", "0.2.0-alpha", "0.2.0", "0.10.0", "1.0.0"]


def test_versions_are_ordered_as_semantic_versions_are() -> None:
    orders = [half.About(version).order for version in ORDERED]
    assert orders == sorted(orders)
    assert len({str(order) for order in orders}) == len(ORDERED) - 1


def test_the_version_is_the_collections() -> None:
    galaxy = (Path(__file__).parents[4] / "galaxy.yml").read_text(encoding="utf-8")
    assert f"\nversion: {VERSION}\n" in galaxy


def test_a_kept_host_half_of_a_later_version_is_found_unless_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half, "LIB", tmp_path)
    monkeypatch.setattr(half, "HALVES", tmp_path / ".half")
    assert half.newer() is None
    files = half.running()
    half.keep(files)
    half.keep({**files, "old.py": b"1"}, half.About("0.0.9"))
    half.keep({**files, "same.py": b"1"})
    assert half.newer() is None
    later = {**files, "later.py": b"1"}
    half.keep(later, half.About("9.0.0", 7))
    half.keep({**files, "between.py": b"1"}, half.About("8.0.0"))
    assert half.newer() == (half.digest(later), half.About("9.0.0", 7))
    next(half.folder(half.digest(later)).rglob("later.py")).write_text("2", encoding="utf-8")
    found = half.newer()
    assert found is not None
    assert found[1].version == "8.0.0"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 9, "plan_format": 1}', '{"version": "9.0.0"}', "\0"])
def test_what_says_no_version_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(half, "LIB", tmp_path)
    monkeypatch.setattr(half, "HALVES", tmp_path / ".half")
    files = {**half.running(), "later.py": b"1"}
    half.keep(files, half.About("9.0.0"))
    (half.folder(half.digest(files)) / "version.json").write_text(text, encoding="utf-8")
    assert half.newer() is None
