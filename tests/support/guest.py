# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A whole Debian in a virtual machine, with systemd as its first process; it is reached by ssh, and can reboot.

QEMU translates every instruction (never KVM), so it boots in about a minute.  It has no network but a port of this
machine's loopback for ssh.  What it boots is made once for each recipe; its disk is a copy, which outlives reboots.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Optional

CACHE = Path(os.environ.get("CNM_CACHE", "/var/cache/cnm.fabric"))
RECIPE = Path(__file__).resolve().parents[1] / "vm" / "systemd" / "image.sh"
BOOT_S = 400.0
SSH_OPTIONS = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20"]
FOLLOW = ["setpriv", "--pdeathsig", "KILL"]  # a process that ends with this one, however this one ends


def image(suite: str) -> Path:
    """The folder with what a guest boots, made if it is not there."""
    made = CACHE / f"systemd-{suite}-{hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "systemd.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(made, suite)
    return made


def _make(made: Path, suite: str) -> None:
    new, log = CACHE / "systemd-new", CACHE / "systemd.log"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    # What it mounts and starts ends with it.
    apart = [*FOLLOW, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with open(log, "w", encoding="utf-8") as output:
        command = [*apart, "sh", str(RECIPE), str(new), suite]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise RuntimeError(f"the guest's disk could not be made: {log.read_text(encoding='utf-8')[-2000:]}")
    new.rename(made)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Guest:
    """A running guest; a context manager."""

    def __init__(self, suite: str, folder: Path) -> None:
        """``folder`` is for its console's output."""
        self._image = image(suite)
        self.key = self._image / "key"
        self.port = _free_port()
        self.console = folder / "console"
        self._folder = folder
        self._disk = folder / "disk"
        self._qemu: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> Guest:
        subprocess.run(
            ["cp", "--sparse=always", "--reflink=auto", str(self._image / "root.img"), str(self._disk)], check=True
        )
        try:
            self._start()
            self.wait()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        # A reset of many processors at once may hang this emulation: after a reboot it ends, and is started again.
        words = "-accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 1536 -nodefaults -no-user-config -no-reboot"
        arguments = [*words.split(), "-display", "none"]
        arguments += ["-kernel", f"{self._image}/vmlinuz", "-initrd", f"{self._image}/initrd"]
        arguments += ["-append", "root=/dev/vda rw console=ttyS0 mitigations=off panic=30"]
        arguments += ["-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"]
        arguments += ["-device", "virtio-rng-pci"]
        arguments += ["-drive", f"if=virtio,format=raw,file={self._disk}"]
        arguments += ["-netdev", f"user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        arguments += ["-device", "virtio-net-pci,netdev=ssh,mac=52:54:00:00:01:01,addr=0x10"]
        arguments += ["-netdev", "user,id=lan,restrict=on,net=192.168.77.0/24"]
        arguments += ["-device", "virtio-net-pci,netdev=lan,mac=52:54:00:00:02:01,addr=0x11"]
        with open(self._folder / "qemu", "ab") as log:
            self._qemu = subprocess.Popen(
                [*FOLLOW, "qemu-system-x86_64", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _stop(self) -> None:
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        self._disk.unlink(missing_ok=True)

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stop()

    def ssh(self, script: str, check: bool = True, seconds: float = 300) -> str:
        """What a shell script prints in the guest, as root."""
        done = self._ssh(script, seconds)
        if check and done.returncode:
            raise AssertionError(f"{script}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def status(self, script: str) -> int:
        """A shell script's exit status in the guest."""
        return self._ssh(script, 300).returncode

    def _ssh(self, script: str, seconds: float) -> subprocess.CompletedProcess[str]:
        command = ["ssh", "-q", *SSH_OPTIONS, "-i", str(self.key), "-p", str(self.port), "root@127.0.0.1", "sh", "-s"]
        return subprocess.run(command, input=script, capture_output=True, text=True, timeout=seconds, check=False)

    def boot_id(self) -> str:
        """The kernel's id of the present boot; "" while nobody answers."""
        try:
            return self.ssh("cat /proc/sys/kernel/random/boot_id", check=False, seconds=60).strip()
        except subprocess.TimeoutExpired:
            return ""

    def wait(self, after: str = "") -> None:
        """Until systemd has finished a boot other than ``after``."""
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            if self._qemu is not None and self._qemu.poll() is not None:
                raise RuntimeError(f"QEMU ended: {(self._folder / 'qemu').read_text()[-1000:]}")
            if self.boot_id() not in ("", after):
                self.ssh("systemctl is-system-running --wait", check=False)
                return
            time.sleep(1)
        raise TimeoutError(f"the guest does not answer: {self.console.read_text(errors='replace')[-2000:]}")

    def reboot(self) -> None:
        """A real reboot: the guest shuts down by itself, and boots again."""
        before = self.boot_id()
        self.ssh("systemctl reboot", check=False)
        if self._qemu is not None:
            self._qemu.wait(BOOT_S)
        self._start()
        self.wait(after=before)


if __name__ == "__main__":  # a guest to look at: guest.py FOLDER [SUITE], until its input ends
    with Guest(sys.argv[2] if len(sys.argv) > 2 else "bookworm", Path(sys.argv[1])) as one:
        print(f"ssh -i {one.key} -p {one.port} root@127.0.0.1", flush=True)
        sys.stdin.read()
