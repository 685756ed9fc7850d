# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Files that others wrote, or can put something else in the place of: tried by one who does."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import files
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.files import open_guarded, read_open, read_text
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netns_owners import Owned
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.resources import foreign_netns_records

SECRET = "precious\n"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine's directory of one container."""
    directory = tmp_path / "containers" / "c"
    directory.mkdir(parents=True)
    (directory / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "hosts").write_text(SECRET)
    return directory


def opens(path: Path) -> bool:
    try:
        os.close(open_guarded(str(path), os.O_RDWR))
    except OSError:
        return False
    return True


def test_a_regular_file_in_directories_of_root_is_opened(engine: Path) -> None:
    descriptor = open_guarded(str(engine / "hosts"), os.O_RDONLY)
    assert read_open(descriptor) == b"127.0.0.1 localhost\n"
    os.close(descriptor)


def test_symlinks_are_not_followed(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert not opens(tmp_path / "link" / "hosts")
    (engine / "link").symlink_to(tmp_path / "secret" / "hosts")
    assert not opens(engine / "link")
    assert not opens(engine / ".." / "c" / "hosts")
    assert not opens(Path("hosts"))


def test_only_a_regular_file_with_one_name_is_opened(engine: Path, tmp_path: Path) -> None:
    os.mkfifo(engine / "fifo")
    os.mkdir(engine / "folder")
    os.link(tmp_path / "secret" / "hosts", engine / "second")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(engine / "socket"))
    os.mknod(engine / "device", 0o600 | 0o020000, os.makedev(1, 5))
    for name in ("fifo", "folder", "second", "socket", "device"):
        assert not opens(engine / name), name


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o775, 0), (0o755, 65534)])
def test_a_directory_that_others_can_write_to_is_refused(engine: Path, mode: int, owner: int) -> None:
    engine.chmod(mode)
    os.chown(engine, owner, 0)
    assert not opens(engine / "hosts")


def test_a_directory_swapped_before_writing_redirects_no_write(engine: Path, tmp_path: Path) -> None:
    owned = Owned("", 1, {"hosts": str(engine / "hosts")})
    wanted = Namespace("c", files={"hosts": "# cnm:default:sandbox/c\n"})
    known = foreign_netns_records.put(owned, wanted, {})
    engine.rename(tmp_path / "containers" / "away")
    engine.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        foreign_netns_records.write(known, wanted.files)
    foreign_netns_records.put_back(known)
    assert (tmp_path / "secret" / "hosts").read_text() == SECRET


def test_a_directory_swapped_continuously_redirects_no_write(engine: Path, tmp_path: Path) -> None:
    """The attacker does nothing but rename; whoever follows a link once writes the secret."""
    away, link, ended = tmp_path / "containers" / "away", tmp_path / "containers" / "link", threading.Event()
    link.symlink_to(tmp_path / "secret")

    def swap() -> None:
        while not ended.is_set():
            engine.rename(away)
            link.rename(engine)
            engine.rename(link)
            away.rename(engine)

    known = {"hosts": foreign_netns_records.OwnersFile(str(engine / "hosts"), "127.0.0.1 localhost\n")}
    attacker = threading.Thread(target=swap)
    attacker.start()
    written = 0
    try:
        for _attempt in range(2000):
            try:
                foreign_netns_records.write(known, {"hosts": "# cnm:default:sandbox/c\n"})
                written += 1
            except OSError:
                pass
    finally:
        ended.set()
        attacker.join()
    assert written
    assert (tmp_path / "secret" / "hosts").read_text() == SECRET


def test_reading_is_limited_and_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (files.AT_MOST + 1))
    (tmp_path / "odd").write_bytes(b"a\xffb")
    os.mkfifo(tmp_path / "fifo")
    assert read_text(str(tmp_path / "large")) is None
    assert read_text(str(tmp_path / "fifo")) is None
    assert read_text(str(tmp_path / "missing")) is None
    assert read_text("/dev/zero") is None
    assert read_text(str(tmp_path / "odd")) == "a\\xffb"
    assert foreign_netns_records.too_large(str(tmp_path / "large"))
    assert foreign_netns_records.read(str(tmp_path / "large")) is None
