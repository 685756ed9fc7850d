# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whole Debians with systemd as their first process, in namespaces on this machine's kernel, on one LAN.

They boot in a second, run at this machine's speed, and can reboot; udev, units, sessions, the journal and dpkg are
real.  What they share is the kernel: where it lacks IPVS, ESP or VLANs, they boot in the virtual machine of tests/vm.
Nothing is made in the machine's own network, and all of it ends with the process that made it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
import starting
from apart import FOLLOW, apart
from sampling import WHOLE

CACHE = Path(os.environ.get("CNM_CACHE", "/var/cache/cnm.fabric"))
HERE = Path(__file__).resolve().parents[1] / "systemd"
RECIPE, MORE, START = HERE / "image.sh", HERE / "more.sh", HERE / "start.sh"
REPOSITORY, NEWER = HERE / "repository.sh", HERE / "newer.sh"
BOOT_S = 300.0 if "CNM_VM" in os.environ else 60.0  # in the virtual machine of tests/vm everything is slow
SSH_OPTIONS = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
LAN = "192.168.77"
DNS = "192.0.2.1"
"""The systems' resolver (image.sh), by which no name of the outside exists."""
RELEASES = ["bookworm", "trixie"]
SUITES = RELEASES if WHOLE else ["bookworm"]
"""The releases of tests that hardly differ between them; those where it matters name both."""
NEWEST = [pytest.param("bookworm", marks=pytest.mark.whole), "trixie"]
"""The releases, as a fixture's parameters, of tests in which it is the newer one that has more to go wrong."""
APPARMOR = ["apparmor", "apparmor-profiles"]
"""Packages of systems in the virtual machine."""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}


def image(suite: str) -> Path:
    """The folder with the tree of a Debian release, made if it is not there."""
    return cached(f"system-{suite}", RECIPE.read_bytes(), RECIPE, suite)


def layer(suite: str, packages: Sequence[str]) -> Path:
    """The folder with what packages add to the tree of a Debian release, made if it is not there."""
    below = image(suite)
    recipe = MORE.read_bytes() + below.name.encode()
    return cached(f"system-{suite}-{'-'.join(packages)}", recipe, MORE, str(below / "root"), *packages)


def make_for_vm() -> None:
    """Make what boots in the virtual machine, which has no network."""
    for suite in RELEASES:
        layer(suite, APPARMOR)


def cached(name: str, recipe: bytes, script: Path, *arguments: str) -> Path:
    """The folder that a script makes, once for each of its recipes; others that need it meanwhile wait."""
    made = CACHE / f"{name}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if made.exists():
        return made
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(made, name, script, arguments)
    return made


def repository(suite: str, packages: str, removed: str = "") -> Path:
    """A folder that is a repository of packages for systems of a release, with what these need and the image lacks.

    ``removed`` are packages of the image that the system will not have.  All are names with spaces between them.
    """
    tree = image(suite)
    what = "\n".join((REPOSITORY.read_text(encoding="utf-8"), tree.name, packages, removed))
    made = cached(f"system-{suite}-packages", what.encode(), REPOSITORY, str(tree / "root"), removed, packages)
    return made / "packages"


def _make(made: Path, name: str, script: Path, arguments: Sequence[str]) -> None:
    new, log = CACHE / f"{name}-new", CACHE / f"{name}.log"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    with open(log, "w", encoding="utf-8") as output:
        command = [*apart(), "sh", str(script), str(new), *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise RuntimeError(f"{script.name} {made.name} failed: {log.read_text(encoding='utf-8')[-2000:]}")
    new.rename(made)


def _cgroups() -> Path:
    """Where the machine's cgroups of version 2 are."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _source, target, kind = line.split()[:3]
        if kind == "cgroup2":
            return Path(target)
    raise RuntimeError("this machine has no cgroups of version 2 mounted")


class Systems:
    """Systems on one LAN, a bridge in a namespace of its own; a context manager."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is for what they write."""
        self.folder = folder
        self._holder: Optional[subprocess.Popen[bytes]] = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Systems:
        # Its network and mounts are a process's: nothing of them has a name that could be left behind.
        script = (
            "mount --make-rprivate /; ip link set lo up; ip link add lan type bridge; ip link set lan up; "
            f"ip address add {LAN}.254/24 dev lan; ip address add {DNS}/32 dev lan; echo ready; "
            "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts "
            f"--bind-interfaces --listen-address={DNS} --address=/#/"
        )
        self._holder = subprocess.Popen(
            [*FOLLOW, "unshare", "--net", "--mount", "sh", "-ec", script], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None and self._holder.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_error: Any) -> None:
        self._open.close()
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            assert self._holder.stdout is not None
            self._holder.stdout.close()

    @property
    def enter(self) -> list[str]:
        """The beginning of a command that runs on the LAN's switch."""
        assert self._holder is not None
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount"]

    def switch(self, script: str) -> str:
        """What a shell script prints on the switch, which is 192.168.77.254 on the LAN."""
        return subprocess.run([*self.enter, "sh", "-ec", script], check=True, capture_output=True, text=True).stdout

    def new(
        self,
        name: str,
        suite: str = "bookworm",
        interfaces: Optional[str] = None,
        packages: Sequence[str] = (),
        disk: bool = False,
    ) -> System:
        """A system that has booted; its name ends with its number, its last octet on the LAN.

        With a ``disk`` of its own, a power cut loses what had not reached that; see `HAS_DISKS`.
        """
        system = System(self, name, suite, interfaces, packages, disk)
        self._open.enter_context(system)
        return system


DISK = "1G"

HAS_DISKS = Path("/dev/loop-control").exists()
"""Whether this machine can give a system a disk of its own: not in a container that hides loop devices."""

_SHUT_DOWN, _WITHOUT_THE_JOURNAL = 0x8004587D, 2
"""EXT4_IOC_SHUTDOWN, and EXT4_GOING_FLAGS_NOLOGFLUSH: from then on nothing reaches the disk (fs/ext4/ext4.h)."""

INTERFACES = """
auto lo
iface lo inet loopback

allow-hotplug lan0
iface lan0 inet static
    address {address}/24
    gateway {lan}.254
"""
"""``/etc/network/interfaces``."""


class System:
    """A system; a context manager."""

    def __init__(
        self,
        lan: Systems,
        name: str,
        suite: str,
        interfaces: Optional[str] = None,
        packages: Sequence[str] = (),
        disk: bool = False,
    ) -> None:
        self.name = name
        self.number = int(re.sub(r"\D", "", name))
        self.address = f"{LAN}.{self.number}"
        self.lan = lan
        self._image = image(suite)
        self._trees = [self._image / "root"]
        if packages:
            self._trees.insert(0, layer(suite, packages) / "root")
        self.key = self._image / "key"
        self._folder = lan.folder / name
        self._changes = self._folder / "disk" if disk else self._folder
        self._disk = self._folder / "disk.img" if disk else None
        self._interfaces = INTERFACES if interfaces is None else interfaces
        self._starter: Optional[subprocess.Popen[bytes]] = None
        self._pid = 0

    def __enter__(self) -> System:
        (self._folder / "root").mkdir(parents=True)
        if self._disk is not None:
            self._changes.mkdir()
            subprocess.run(["truncate", "--size", DISK, self._disk], check=True)
            subprocess.run(["mkfs.ext4", "-q", self._disk], check=True)
            self._mount()
        for part in ("new", "work"):
            (self._changes / part).mkdir()
        etc = self._changes / "new" / "etc"
        (etc / "network").mkdir(parents=True)
        (etc / "hostname").write_text(f"{self.name}\n", encoding="ascii")
        (etc / "hosts").write_text(f"127.0.0.1 localhost {self.name}\n", encoding="ascii")
        text = self._interfaces.format(address=self.address, lan=LAN)
        (etc / "network" / "interfaces").write_text(text, encoding="ascii")
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_error: Any) -> None:
        self.kill()
        if self._disk is not None:
            self._disk.unlink()
            return
        shutil.rmtree(self._folder / "new", ignore_errors=True)
        shutil.rmtree(self._folder / "work", ignore_errors=True)

    def _mount(self) -> None:
        # What is renamed over a file is not written first, as in most file systems other than ext4.
        subprocess.run(["mount", "-o", "loop,noauto_da_alloc", str(self._disk), str(self._changes)], check=True)

    def _lose(self) -> None:
        """Let the disk have only what has reached it by now."""
        descriptor = os.open(self._changes, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUT_DOWN, struct.pack("I", _WITHOUT_THE_JOURNAL))
        finally:
            os.close(descriptor)

    @property
    def _cgroup(self) -> Path:
        return _cgroups() / f"cnm-{os.getpid()}-{self.name}"

    def start(self, wait: bool = True) -> None:
        """Boot it; with ``wait`` until systemd has started everything."""
        assert self._pid == 0, "it runs already"
        if self._disk is not None and not self._changes.is_mount():
            # A copy, as namespaces that others have made since may hold the old one.
            copy = self._disk.with_name(f"disk-{uuid.uuid4()}.img")
            subprocess.run(["cp", "--sparse=always", self._disk, copy], check=True)
            self._disk.unlink()
            self._disk = copy
            self._mount()
        cgroup, folder = self._cgroup, self._folder
        cgroup.mkdir(exist_ok=True)
        lower = f"lowerdir={':'.join(map(str, self._trees))},upperdir={self._changes}/new,workdir={self._changes}/work"
        # The first process of its pid namespace is the shell that becomes systemd.
        inner = (
            f"mount -t overlay -o {lower} system {folder}/root && exec sh {START} {folder}/root {uuid.uuid4()} {cgroup}"
        )
        alone = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        script = f"echo $$ >{cgroup}/cgroup.procs; exec {shlex.join([*alone, 'sh', '-c', inner])}"
        with open(folder / "console", "ab") as console:
            self._starter = subprocess.Popen(
                [*FOLLOW, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self._pid = self._first_process()
        self._plug()
        deadline = time.monotonic() + BOOT_S
        while wait:
            done = self.run("systemctl is-system-running --wait")
            if done.stdout.strip() in ("running", "degraded"):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not boot: {done} {self.read_console()}")
            time.sleep(0.05)

    def _first_process(self) -> int:
        assert self._starter is not None
        children = Path(f"/proc/{self._starter.pid}/task/{self._starter.pid}/children")
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(children.read_text(encoding="ascii").split()[0])
                if b"systemd" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    return pid
            if self._starter.poll() is not None:
                break
            time.sleep(0.005)
        raise RuntimeError(f"{self.name} does not start: {self.read_console()}")

    def _plug(self) -> None:
        """Plug its link into the LAN's switch, as a hypervisor plugs a card."""
        mac = f"52:54:00:00:77:{self.number:02x}"
        port = f"to-{self.name}"
        self.lan.switch(
            f"ip link del {port} 2>/dev/null || :; "
            f"ip link add {port} master lan up type veth peer name lan0 address {mac} netns {self._pid}"
        )

    def read_console(self) -> str:
        return (self._folder / "console").read_text(encoding="utf-8", errors="replace")[-3000:]

    def kill(self) -> None:
        """Cut its power."""
        if self._starter is not None:
            if self._disk is not None:
                self._lose()
            if self._pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            self._starter.kill()
            self._starter.wait()
        self._ended()
        if self._disk is not None and self._changes.is_mount():
            subprocess.run(["umount", "-l", self._changes], check=True)

    def _ended(self) -> None:
        self._starter, self._pid = None, 0
        deadline = time.monotonic() + 10
        while self._cgroup.exists():
            for folder in sorted(self._cgroup.rglob("*"), reverse=True):
                if folder.is_dir():
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            with contextlib.suppress(OSError):
                self._cgroup.rmdir()
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of {self.name} do not end")
            time.sleep(0.01)

    def reboot(self, wait: bool = True) -> None:
        """A reboot: systemd stops all units and ends, and is started again."""
        assert self._starter is not None
        self.run("systemctl reboot")
        self._starter.wait(BOOT_S)
        self._ended()
        self.start(wait)

    @property
    def enter(self) -> list[str]:
        """The beginning of a command that runs in it, in its init's cgroup."""
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wdns=/"]
        join = f'echo $$ >{self._cgroup}/init.scope/cgroup.procs; exec "$@"'
        return ["sh", "-c", join, "sh", "nsenter", f"--target={self._pid}", *namespaces]

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A process in it."""
        return subprocess.Popen([*self.enter, *command], env=ENVIRONMENT, text=True, **options)

    def run(self, script: str, seconds: float = 2 * BOOT_S) -> subprocess.CompletedProcess[str]:
        """Run a shell script in it, as root."""
        command = [*self.enter, "sh", "-s"]
        return subprocess.run(
            command, input=script, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds, check=False
        )

    def sh(self, script: str, seconds: float = 2 * BOOT_S) -> str:
        """What a shell script prints in it; it must succeed."""
        done = self.run(script, seconds)
        assert done.returncode == 0, (
            f"{self.name}: {script}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def status(self, script: str) -> int:
        """A shell script's exit status in it."""
        return self.run(script).returncode

    def until(self, script: str, seconds: float = 10.0) -> float:
        """Seconds until a shell script succeeds in it."""
        started = time.monotonic()
        while self.status(script):
            assert time.monotonic() - started < seconds, f"{self.name}: still not: {script}\n{self.run(script)}"
            time.sleep(0.02)
        return time.monotonic() - started

    def on_disk(self, path: str) -> Path:
        """Where this machine has a file that the system has made."""
        return self._changes / "new" / path.lstrip("/")

    def write(self, path: str, text: str) -> None:
        """Write a file in it."""
        where = shlex.quote(path)
        self.sh(f"mkdir -p $(dirname {where}); cat >{where} <<'END_OF_FILE'\n{text}\nEND_OF_FILE")

    def newer(self, package: str) -> str:
        """Where it has a later version of a package that it has, for ``dpkg -i``; made anew at each call."""
        self.write("/root/newer.sh", NEWER.read_text(encoding="utf-8"))
        made = f"/root/{package}.deb"
        self.sh(f"sh /root/newer.sh {package} {made}")
        return made

    def give(self, folder: Path, name: str) -> None:
        """Copy a folder of this machine into it, to /root/NAME."""
        with subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE) as packing:
            into = [*self.enter, "sh", "-c", f"mkdir -p /root/{name} && tar -C /root/{name} -x"]
            subprocess.run(into, stdin=packing.stdout, env=ENVIRONMENT, check=True)
        assert packing.returncode == 0

    @property
    def reached(self) -> str:
        """A script that succeeds when it can be reached by ssh."""
        return (
            f"grep -qwF {self.address} /proc/net/fib_trie && grep -qE ':0016 0+:0000 0A ' /proc/net/tcp /proc/net/tcp6"
        )

    def variables(self) -> dict[str, Any]:
        """How Ansible reaches it: by ssh, which starts within its network."""
        ssh = self._folder / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec nsenter --target={self._pid} --net ssh "$@"\n', encoding="ascii")
        ssh.chmod(0o755)
        return {
            "ansible_host": self.address,
            "ansible_user": "root",
            # No connection is kept open: after a reboot it would be a dead one.
            "ansible_ssh_args": "-o ControlMaster=no",
            "ansible_ssh_executable": str(ssh),
            "ansible_ssh_transfer_method": "piped",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": " ".join(SSH_OPTIONS),
            "ansible_python_interpreter": "/usr/bin/python3",
            "cnm_underlay_address": self.address,
        }


@dataclass(frozen=True)
class Run:
    """A playbook's run."""

    output: str
    status: int

    def changed(self, host: str) -> int:
        """How many tasks changed the host, none of which failed."""
        match = re.search(rf"^{host} .*changed=(\d+) .*failed=0 ", self.output, re.MULTILINE)
        assert match, self.output
        return int(match[1])


class Controller:
    """Ansible on this machine, with systems as its hosts."""

    def __init__(self, folder: Path, *systems: System, afresh: bool = False) -> None:
        self._inventory = folder / "hosts.json"
        self._systems = systems
        self._afresh = afresh
        """Whether each playbook is a new start of the program, without settings, as a new user starts it."""
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, playbook: str, variables: Mapping[str, Any], *options: str, fails: Optional[bool] = False) -> Run:
        """Run a playbook of the collection, or a file; a host's own variables stand below its name.

        It must succeed; with ``fails`` it must fail, with None either.
        """
        names = {system.name for system in self._systems}
        common = {name: value for name, value in variables.items() if name not in names}
        hosts = {
            system.name: {**system.variables(), **common, **variables.get(system.name, {})} for system in self._systems
        }
        self._inventory.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
        what = playbook if "/" in playbook else f"cnm.fabric.{playbook}"
        arguments = [what, "-i", str(self._inventory), *options]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_TIMEOUT": "30"}
        if self._afresh:
            command = [str(Path(sys.executable).with_name("ansible-playbook")), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            result = Run(done.stdout + done.stderr, done.returncode)
        else:
            for system in self._systems:
                system.until(system.reached, BOOT_S)
            environment["ANSIBLE_CONFIG"] = str(HERE.parent / "ansible.cfg")
            code, output = starting.run(arguments, environment, self._inventory.parent, 1200)
            result = Run(output, code)
        assert fails is None or (result.status != 0) == fails, result.output
        return result

    def settled(self, host: str, variables: Mapping[str, Any]) -> None:
        """Another run of site changes nothing on the host."""
        run = self.run("site", variables, "--diff")
        assert run.changed(host) == 0, run.output


@contextlib.contextmanager
def systems(
    folder: Path, *names: str, suite: str = "bookworm", packages: Sequence[str] = ()
) -> Iterator[Sequence[System]]:
    """Systems of one release on one LAN."""
    with Systems(folder) as lan:
        yield [lan.new(name, suite, packages=packages) for name in names]


if __name__ == "__main__":  # systems to look at: systems.py FOLDER [SUITE [NAME…]], until the input ends
    place, release, *rest = [*sys.argv[1:], "bookworm", "n1"][: max(len(sys.argv) - 1, 3)]
    with systems(Path(place), *(rest or ["n1"]), suite=release) as found:
        for one in found:
            print(f"{one.name}: {shlex.join(one.enter)} bash", flush=True)
        sys.stdin.read()
