# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Files that root writes: only where nobody else can, and never where a link leads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.state import files, kept, lock
from ansible_collections.cnm.fabric.plugins.module_utils.state.files import (
    Unsafe,
    check_directory,
    make_directory,
    read_limited,
    write_atomically,
)
from ansible_collections.cnm.fabric.plugins.module_utils.state.lock import Locked, locked

SECRET = "root's own\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """What an attacker would like to have written."""
    path = tmp_path / "victim"
    path.write_text(SECRET)
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in place of ``/run/cnm``."""
    directory = tmp_path / "run" / "cnm"
    for module in (files, kept, lock):
        monkeypatch.setattr(module, "RUN", directory)
    return directory


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


class TestWriting:
    def test_link_left_as_temporary_file_is_not_followed(self, run: Path, victim: Path) -> None:
        run.mkdir(parents=True)
        (run / "e.conf.new").symlink_to(victim)
        write_atomically(run / "e.conf", "ours\n")
        assert victim.read_text() == SECRET
        assert (run / "e.conf").read_text() == "ours\n"
        assert not (run / "e.conf").is_symlink()

    def test_a_partial_file_is_replaced_and_its_hard_link_is_not_written(self, run: Path, victim: Path) -> None:
        run.mkdir(parents=True)
        os.link(victim, run / "e.conf.new")
        write_atomically(run / "e.conf", "ours\n", 0o600)
        assert victim.read_text() == SECRET
        assert stat.S_IMODE((run / "e.conf").stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
    @pytest.mark.parametrize("which", [".", "project", "project/names"])
    def test_directory_that_others_can_write_is_refused(self, run: Path, which: str, mode: int) -> None:
        (run / "project" / "names").mkdir(parents=True)
        (run / which).chmod(mode)
        with pytest.raises(Unsafe, match=f"users other than root can write to {run / which}"):
            write_atomically(run / "project" / "names" / "front", "ours\n")
        assert list((run / "project" / "names").iterdir()) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_directory_of_somebody_else_is_refused(self, run: Path) -> None:
        (run / "project").mkdir(parents=True)
        os.chown(run / "project", 65534, 65534)
        with pytest.raises(Unsafe):
            write_atomically(run / "project" / "journal.json", "{}")

    @pytest.mark.parametrize("which", [".", "project"])
    def test_link_in_place_of_a_directory_is_refused(self, run: Path, tmp_path: Path, which: str) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        place = run / which
        place.parent.mkdir(parents=True)
        place.symlink_to(elsewhere)
        with pytest.raises(Unsafe, match="is not a directory"):
            write_atomically(run / "project" / "journal.json", "{}")
        assert list(elsewhere.iterdir()) == []

    @pytest.mark.parametrize("mask", [0, 0o022])
    def test_directories_are_writable_by_root_and_readable_by_all(self, run: Path, mask: int) -> None:
        with umask(mask):
            make_directory(run / "project" / "names")
        for path in (run, run / "project", run / "project" / "names"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o755
        check_directory(run / "project" / "names")


class TestReading:
    def test_link_is_not_followed(self, tmp_path: Path, victim: Path) -> None:
        (tmp_path / "hosts").symlink_to(victim)
        with pytest.raises(OSError, match="symbolic links"):
            read_limited(tmp_path / "hosts")

    def test_reading_is_limited(self, victim: Path) -> None:
        assert read_limited(victim, len(SECRET)) == SECRET.encode()
        with pytest.raises(OSError, match="larger than 10 bytes"):
            read_limited(victim, 10)

    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "hosts")
        with pytest.raises(OSError, match="not a regular file"):
            read_limited(tmp_path / "hosts")


class TestLock:
    @pytest.mark.skipif(os.geteuid() != 0, reason="root becomes somebody else here")
    @pytest.mark.parametrize("left", [None, 0o644, 0o666])
    def test_nobody_but_root_can_hold_it(self, run: Path, left: int | None) -> None:
        if left is not None:
            run.mkdir(parents=True)
            (run / "lock.json").touch()
            (run / "lock.json").chmod(left)
        with locked("project default", 0):
            pass
        assert _as_nobody(run / "lock.json") == "PermissionError"

    def test_a_second_run_learns_who_holds_the_lock(self, run: Path) -> None:
        refusal = pytest.raises(Locked, match=f"project default, process {os.getpid()}")
        with locked("project default", 0), refusal, locked("project other", 0):
            pass
        assert (run / "lock.json").exists()

    @pytest.mark.parametrize("project", ["lock", "before", "default"])
    def test_the_lock_s_name_conflicts_with_no_project(self, run: Path, project: str) -> None:
        write_atomically(run / project / "journal.json", "{}")
        with locked(f"project {project}", 0, last_out=True):
            write_atomically(run / project / "tables.json", "{}")
        assert (run / project).is_dir()


def _as_nobody(path: Path) -> str:
    """What becomes of an unprivileged local user's ``flock -x`` on the file."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "held"
        try:
            for above in reversed(path.parents):
                os.chdir(above)  # as root: pytest's own directories are closed to others
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with open(path.name, encoding="utf-8") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as stream:
        return stream.read()
