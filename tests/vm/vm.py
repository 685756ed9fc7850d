# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A virtual machine with a stock Debian kernel, for what the kernel of the machine at hand may lack.

It has a copy of this checkout in /srv/tree, the tests' Python in its PATH, the tests' cache of this machine to read and
no network, and forgets everything when it ends.  What it boots is made once, and again when the recipe (image.sh and
the lists of Python packages) has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from apart import FOLLOW, apart

CHECKOUT = HERE.parents[1]
CACHE = Path(os.environ.get("CNM_CACHE", "/var/cache/cnm.fabric"))
RECIPE = [HERE / "image.sh", CHECKOUT / "meta" / "ee-requirements.txt"]
RECIPE += [HERE / "requirements.txt", HERE.parent / "requirements.txt", HERE.parent / "requirements-demo.txt"]


class VMError(Exception):
    """Why there is no virtual machine, or none any more, as a sentence."""


# --- what it boots ---------------------------------------------------------------------------------------------------


def image() -> Path:
    """The folder with the kernel and the disk, made if it is not there."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in RECIPE)).hexdigest()[:12]
    made = CACHE / f"vm-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "vm.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(made)
    return made


def _make(made: Path) -> None:
    print(f"vm: making its disk in {made}", flush=True)
    started = time.monotonic()
    new, log = CACHE / "vm-new", CACHE / "vm.log"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    with open(log, "w", encoding="utf-8") as output:
        command = [*apart(), "sh", str(HERE / "image.sh"), str(new), sys.executable]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise VMError(f"its disk could not be made:\n{_tail(log)}")
    new.rename(made)
    print(f"vm: disk made in {time.monotonic() - started:.0f} s", flush=True)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-30:])


# --- the machine -----------------------------------------------------------------------------------------------------


def run(command: Sequence[str], seconds: float | None = None, terminal: bool = False) -> int:
    """Run a command in the virtual machine, with its output where ours goes, and return its exit code."""
    made = image()
    with tempfile.TemporaryDirectory(prefix="cnm-vm-") as name:
        folder = Path(name)
        _pack(folder, command)
        problem = "it ended before its command did"
        with _machine(_qemu(made, folder, terminal), terminal) as qemu:
            try:
                qemu.wait(seconds)
            except subprocess.TimeoutExpired:
                problem = f"its command was not done after {seconds:.0f} s"
        status = folder / "status"
        if status.exists() and status.stat().st_size:
            return int(status.read_text(encoding="ascii"))
        raise VMError(f"{problem}; the last that its kernel said:\n{_tail(folder / 'console')}")


def _pack(folder: Path, command: Sequence[str]) -> None:
    """Write the checkout and the command as an archive, which is the machine's second disk."""
    (folder / "command").write_text(shlex.join(command) + "\n", encoding="utf-8")
    with tarfile.open(folder / "tree.tar", "w") as archive:
        archive.add(CHECKOUT, "tree", filter=_wanted)
        archive.add(folder / "command", "command")


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(member.name)
    member.uid = member.gid = 0
    return None if name in (".git", ".hypothesis", "__pycache__") or name.endswith("_cache") else member


def _qemu(made: Path, folder: Path, terminal: bool) -> list[str]:
    # Never KVM: where a machine is itself a virtual one, it may be there and hang.
    words = "-accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 2G -nodefaults -no-user-config -no-reboot"
    arguments = [*words.split(), "-display", "none", "-kernel", f"{made}/vmlinuz", "-initrd", f"{made}/initrd"]
    arguments += ["-append", "console=ttyS0 panic=-1 mitigations=off"]
    arguments += ["-chardev", f"file,id=console,path={folder}/console", "-serial", "chardev:console"]
    arguments += ["-drive", f"if=virtio,format=raw,snapshot=on,file={made}/root.img"]
    arguments += ["-drive", f"if=virtio,format=raw,readonly=on,file={folder}/tree.tar"]
    port = "virtconsole" if terminal else "virtserialport"
    arguments += ["-device", "virtio-serial", "-chardev", "stdio,id=output,signal=off"]
    arguments += ["-device", f"{port},chardev=output,nr=1"]
    arguments += ["-chardev", f"file,id=status,path={folder}/status", "-device", "virtserialport,chardev=status,nr=2"]
    # Last: the machine's ports are numbered by the order of devices.
    share = f"local,path={CACHE},mount_tag=cache,security_model=none,readonly=on,multidevs=remap"
    arguments += ["-virtfs", share]
    return [*FOLLOW, "qemu-system-x86_64", *arguments]


@contextlib.contextmanager
def _machine(command: Sequence[str], terminal: bool) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU, for as long as the context lasts."""
    if terminal:
        qemu = subprocess.Popen(command)
    else:
        # Its input stays open, for it would close its output with it; and it makes that non-blocking, which ours
        # must not become.
        qemu = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        relay = subprocess.Popen(["cat"], stdin=qemu.stdout)
        if qemu.stdout:
            qemu.stdout.close()  # it is for the relay alone
    try:
        yield qemu
    finally:
        if terminal:
            qemu.terminate()  # which lets it give the terminal back as it was
            qemu.wait()
        else:
            qemu.kill()
            qemu.wait()
            relay.wait()


# --- the command line ------------------------------------------------------------------------------------------------


def _shell() -> list[str]:
    size, kind = shutil.get_terminal_size(), shlex.quote(os.environ.get("TERM", "linux"))
    return ["sh", "-c", f"stty rows {size.lines} columns {size.columns}; TERM={kind} exec bash"]


def main(argv: Sequence[str]) -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="vm.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--timeout", type=float, default=2400, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--image", action="store_true", help="only make what it boots, if it is not there")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run in it; without: a shell")
    given = parser.parse_args(argv)
    if os.geteuid():
        raise VMError("this needs root")
    if platform.machine() != "x86_64":
        raise VMError(f"its disk can only be made on x86_64, and this is {platform.machine()}")
    if given.image:
        image()
        return 0
    if given.command:
        return run(given.command, given.timeout)
    if not sys.stdin.isatty():
        raise VMError("a shell needs a terminal; or say what to run")
    return run(_shell(), terminal=True)


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, _leave)
    try:
        sys.exit(main(sys.argv[1:]))
    except VMError as reason:
        sys.exit(f"vm: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)
