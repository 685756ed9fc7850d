# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Several hosts on one machine: the lab that the demo, pytest and molecule share.

A lab host is a set of net, mount, uts and pid namespaces with an init, a real sshd and the machine's own userland,
whose /etc, /usr, /var and /root are overlays that only this host writes to.  The hosts' eth0 lead to one more set of
namespaces, ``switch``: a bridge, the hosts' router and their DNS server.  Nothing is ever made in the machine's own
network or mount namespace, so a lab ends with its processes: there is nothing else to take down.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union

BASE = Path("/run/cnm-lab")
SWITCH = "switch"
DOMAIN = "outside.example"
OUTSIDE4, OUTSIDE6 = "203.0.113.1", "2001:db8::1"
MOST_HOSTS = 200

# A lab host shows which lab it belongs to in its own /run, readable from outside as /proc/PID/root/run/lab-host.
# So the kernel knows the lab, and no pid file can be stale.
MARK = "run/lab-host"
PRIVATE = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "var", "root")
SEARCH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
NEEDS = {"ip": "iproute2", "nsenter": "util-linux", "sshd": "openssh-server", "ssh": "openssh-client"}
NEEDS.update({"ssh-keygen": "openssh-client", "dnsmasq": "dnsmasq-base"})

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 8192, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

SSHD_CONFIG = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/lab_authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""


class LabError(Exception):
    """Why there is no lab, as a sentence for the person who wanted one."""


# --- system calls ----------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(flags: int) -> None:
    _call("making namespaces", _libc.unshare(flags))


def _setns(path: str, kind: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(f"entering {path}", _libc.setns(descriptor, kind))
    finally:
        os.close(descriptor)


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _call(f"mounting {kind or source} on {target}", result)


def _umount(target: str) -> None:
    _call(f"unmounting {target}", _libc.umount2(target.encode(), MNT_DETACH))


def _die_with_parent(yes: bool) -> None:
    """A host that is only half made goes away with the process that was making it."""
    _call("prctl", _libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL if yes else 0), 0, 0, 0))


# --- names and addresses ---------------------------------------------------------------------------------------------


def address(node: str, family: int = 4) -> str:
    """The underlay address of a node: node1 is .11, node2 .12, and the switch, their router and DNS server, is .1."""
    last = 1 if node == SWITCH else 10 + int(node[4:])
    return f"198.51.100.{last}" if family == 4 else f"fdc6:3364::{last}"


def _mac(node: str) -> str:
    return f"02:00:c6:33:64:{int(address(node).rpartition('.')[2]):02x}"


def _has_ipv6() -> bool:
    return os.path.exists("/proc/sys/net/ipv6")


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "")
    missing = [directory for directory in SEARCH if directory not in path.split(":")]
    return {**os.environ, "PATH": ":".join([path, *missing] if path else missing)}


def _program(name: str) -> str:
    found = shutil.which(name, path=_environment()["PATH"])
    if found is None:
        raise LabError(f"a lab needs the program {name} (package {NEEDS.get(name, name)}), and it is not installed")
    return found


def _checked(argv: Sequence[str], given: Optional[str] = None) -> str:
    argv = [_program(argv[0]), *argv[1:]]
    done = subprocess.run(argv, input=given, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise LabError(f"{os.path.basename(argv[0])} failed: {words}")
    return done.stdout


def _identity(state: Path) -> str:
    """What a lab is known by: its directory, in the root of whoever asks, for a chroot has labs of its own."""
    root = os.stat("/")
    return hashlib.sha256(f"{root.st_dev}:{root.st_ino}:{state}".encode()).hexdigest()[:16]


# --- finding a lab's processes ---------------------------------------------------------------------------------------


def _mark(pid: int) -> tuple[str, str]:
    """The lab and the node a process belongs to; empty for a process of the machine."""
    try:
        with open(f"/proc/{pid}/root/{MARK}", encoding="ascii") as mark:
            lab, node = mark.read().split()
            return lab, node
    except (OSError, ValueError):
        return "", ""


def _members(lab: str) -> Iterator[tuple[int, str]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            found, node = _mark(int(entry))
            if found == lab:
                yield int(entry), node


def _depth_if_init(pid: int) -> int:
    """How many pid namespaces deep a process is if it is the first of its own; 0 otherwise."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) if numbers[-1] == "1" else 0
    return 0


def _inits(lab: str) -> dict[str, int]:
    """The init of each node, as the machine numbers it."""
    found: dict[str, tuple[int, int]] = {}
    for pid, node in _members(lab):
        depth = _depth_if_init(pid)
        if depth and (node not in found or depth < found[node][0]):
            found[node] = (depth, pid)
    return {node: pid for node, (_depth, pid) in found.items()}


def _listens(pid: int, port: int) -> bool:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}", encoding="ascii") as sockets:
            if any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, sockets)):
                return True
    return False


# --- inside: how a process becomes a host ----------------------------------------------------------------------------


def _boot(state: Path, node: str, parent: int) -> None:
    """A process of its own: leave the machine's namespaces, become ``node``, and return once it runs."""
    _die_with_parent(True)
    if os.getppid() != parent:  # it was killed even before we could ask to follow it
        raise LabError(f"{node}: nobody waits for it any more")
    spec = json.loads((state / "lab.json").read_text())
    identity = _identity(state)
    files = {"lab": identity, "hosts": str(spec["hosts"])}
    if node != SWITCH:
        files["host_key"] = (state / "keys" / node).read_text()
        files["authorized"] = (state / "key.pub").read_text()
    log = os.open(state / f"{node}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    _unshare(CLONE_NEWNET)
    if node != SWITCH:
        switch = _inits(identity).get(SWITCH)
        if switch is None:
            raise LabError("the lab's switch is not running")
        cable = f"link add {node} master lan up type veth peer name eth0 address {_mac(node)} netns {os.getpid()}\n"
        _checked(["nsenter", f"--net=/proc/{switch}/ns/net", "--", _program("ip"), "-batch", "-"], cable)
    _unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        _init(spec, node, files, log, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as reports:
        said = reports.read()
    if said != "ready":
        raise LabError(said or f"{node} died while starting: see {state / node}.log")


def _init(spec: dict[str, Any], node: str, files: dict[str, str], log: int, report: int) -> None:
    """The first process of a host: furnish it, start its service, and reap orphans for ever."""
    try:
        _die_with_parent(True)
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _libc.prctl(PR_SET_NAME, b"init", 0, 0, 0)
        socket.sethostname(node)
        _own_root()
        _furnish(node, files)
        _address(node)
        _hide(spec["hide"] if node != SWITCH else ())
        argv = _dnsmasq() if node == SWITCH else [_program("sshd"), "-D", "-e"]
        environment = {"PATH": ":".join(SEARCH), "HOME": "/root", "LANG": "C.UTF-8"}
        subprocess.Popen(argv, env=environment)
        # The mark comes last but one: from here on the host outlives the process that made it.
        Path("/", MARK).write_text(f"{files['lab']} {node}\n", encoding="ascii")
        _die_with_parent(False)
        os.write(report, b"ready")  # fails, and ends this, if nobody waits any more
        os.close(report)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(report, f"{node}: {_sentence(error)}".encode())
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        signal.sigwait({signal.SIGCHLD})


def _own_root() -> None:
    """Make / a private mount even where / is a plain directory, as in a chroot: ``ip netns exec`` demands a mount."""
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _setns("/proc/self/ns/mnt", CLONE_NEWNS)  # back to the namespace's true root
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    os.fchdir(here)
    path = os.getcwd()
    if path != "/":
        _mount(path, path, flags=MS_BIND | MS_REC)
        os.chdir(path)
        _call("changing the root", _libc.pivot_root(b".", b"."))
        _umount(".")
        os.chdir("/")


def _furnish(node: str, files: dict[str, str]) -> None:
    """The host's own /run, /proc, /sys and terminals, and its own changes to everything else."""
    for point in sorted(_mount_points("/run"), key=len):
        with contextlib.suppress(OSError):
            _umount(point)  # the machine's namespaces, which would be held alive here
    _mount("tmpfs", "/run", "tmpfs", options="mode=755")
    for name in PRIVATE:
        if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"):
            upper, work = f"/run/{name}/upper", f"/run/{name}/work"
            os.makedirs(upper)
            os.makedirs(work)
            shutil.copystat(f"/{name}", upper)
            _mount("overlay", f"/{name}", "overlay", options=f"lowerdir=/{name},upperdir={upper},workdir={work}")
    _umount("/run")  # the overlays keep what they need of it
    _mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for directory in ("lock", "user", "sshd", "netns", "cgroup"):
        os.makedirs(f"/run/{directory}", 0o755)
    os.chmod("/run/lock", 0o1777)
    os.rmdir("/run/netns")  # iproute2 makes it, as on any other host

    groups = os.path.ismount("/sys/fs/cgroup")
    if groups:
        _mount("/sys/fs/cgroup", "/run/cgroup", flags=MS_BIND | MS_REC)
    _mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if groups:
        _mount("/run/cgroup", "/sys/fs/cgroup", flags=MS_MOVE)
    os.rmdir("/run/cgroup")
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.makedirs("/dev/pts", exist_ok=True)
    _mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")

    nodes = [SWITCH, *_nodes(int(files["hosts"]))]
    names = "".join(f"{address(name, family)} {name}\n" for name in nodes for family in (4, 6))
    _put("/etc/hostname", f"{node}\n")
    _put("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{names}")
    _put("/etc/resolv.conf", f"nameserver {address(SWITCH)}\n")
    _put("/etc/machine-id", hashlib.sha256(f"{files['lab']} {node}".encode()).hexdigest()[:32] + "\n")
    shutil.rmtree("/etc/netns", ignore_errors=True)
    for entry in os.scandir("/root"):
        if entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)  # what the machine's root does at login is no part of a plain host
    if node != SWITCH:
        os.makedirs("/etc/ssh", exist_ok=True)
        _put("/etc/ssh/sshd_config", SSHD_CONFIG)
        _put("/etc/ssh/lab_authorized_keys", files["authorized"], 0o600)
        _put("/etc/ssh/ssh_host_ed25519_key", files["host_key"], 0o600)
        _unlock_root()


def _put(path: str, text: str, mode: int = 0o644) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # it may be a link to a file outside /etc
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)


def _unlock_root() -> None:
    """Where root has no password at all, sshd without PAM takes the account for a locked one, even with a key."""
    with open("/etc/shadow", encoding="utf-8") as file:
        text = file.read()
    changed = re.sub(r"(?m)^root:!+", "root:*", text)
    if changed != text:
        _put("/etc/shadow", changed, 0o600)


def _mount_points(below: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        points = [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4]) for line in table]
    return [point for point in points if point == below or point.startswith(below + "/")]


def _address(node: str) -> None:
    """The host's links as a plain host has them: up, with addresses and a default route, and not forwarding."""
    own4, own6 = f"{address(node)}/24", f"{address(node, 6)}/64"
    link = "lan" if node == SWITCH else "eth0"
    lines = ["link set lo up"]
    if node == SWITCH:
        lines += [f"link add lan address {_mac(node)} type bridge mcast_snooping 0", "link add outside type bridge"]
        lines += [f"addr add {OUTSIDE4}/24 dev outside", "link set outside up"]
    lines += [f"addr add {own4} dev {link}", f"link set {link} up"]
    if node != SWITCH:
        lines += [f"route add default via {address(SWITCH)}"]
    if _has_ipv6():
        lines += [f"addr add {own6} dev {link} nodad"]
        if node == SWITCH:
            lines += [f"addr add {OUTSIDE6}/64 dev outside nodad"]
        else:
            lines += [f"route add default via {address(SWITCH, 6)}"]
    _checked(["ip", "-batch", "-"], "\n".join(lines) + "\n")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1" if node == SWITCH else "0", encoding="ascii")


def _dnsmasq() -> list[str]:
    argv = [_program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-queries"]
    argv += ["--log-facility=-", "--pid-file=/run/dnsmasq.pid", "--no-resolv", "--no-hosts", "--bind-interfaces"]
    argv += [f"--listen-address={address(SWITCH)}", f"--host-record={DOMAIN},{OUTSIDE4},{OUTSIDE6}", "--address=/#/"]
    return [*argv, f"--listen-address={address(SWITCH, 6)}"] if _has_ipv6() else argv


def _hide(wanted: Iterable[str]) -> None:
    """Take programs (by name) or files (by absolute pattern) away from this host, and from no other."""
    for name in wanted:
        patterns = [name] if name.startswith("/") else [f"{directory}/{name}" for directory in SEARCH]
        for path in {found for pattern in patterns for found in glob.glob(pattern)}:
            with contextlib.suppress(FileNotFoundError):
                if not path.startswith(tuple(f"/{name}/" for name in PRIVATE)):
                    raise LabError(f"{path} cannot be hidden: only what lies in {', '.join(PRIVATE)} is a host's own")
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


# --- outside: the lab ------------------------------------------------------------------------------------------------


def _nodes(count: int) -> list[str]:
    return [f"node{number}" for number in range(1, count + 1)]


def _quiet(_text: str) -> None:
    pass


class Lab:
    """A lab by its name; what there is of it lives in its processes and under ``state``."""

    def __init__(
        self,
        name: str = "lab",
        hosts: int = 2,
        state: Optional[Union[str, Path]] = None,
        hide: Iterable[str] = (),
        progress: Callable[[str], None] = _quiet,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise LabError(f"{name!r} is no name for a lab: use letters, digits, '-', '_' and '.'")
        self.name = name
        self.state = Path(state).resolve() if state is not None else BASE / name
        self.id = _identity(self.state)
        self.hide = sorted(set(hide))
        self.progress = progress
        self._count = hosts
        self._cached: dict[str, int] = {}

    @classmethod
    def existing(cls, name: str = "lab", state: Optional[Union[str, Path]] = None) -> Lab:
        """The lab of that name with the hosts it was made with; an error where there is none."""
        lab = cls(name, state=state)
        spec = lab._spec()
        if not spec:
            raise LabError(f"no lab {name} is up: {lab.state} is not there (make it with: up --name {name})")
        lab._count, lab.hide = spec["hosts"], spec["hide"]
        return lab

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def hosts(self) -> list[str]:
        """The names of the hosts: node1, node2, …"""
        return _nodes(self._count)

    @property
    def inventory(self) -> Path:
        """The inventory that tells Ansible how to reach the hosts; give it beside the one that says what they have."""
        return self.state / "inventory.yml"

    @property
    def ssh_config(self) -> Path:
        """A configuration for ``ssh -F`` that reaches the hosts by name."""
        return self.state / "ssh_config"

    def address(self, node: str, family: int = 4) -> str:
        """The underlay address of a host."""
        return address(node, family)

    def up(self) -> None:
        """Make what is missing of the lab; nothing at all if it runs already."""
        self._check()
        started = time.monotonic()
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            spec = self._spec()
            fresh = not spec
            if spec and spec["hide"] != self.hide:
                raise LabError(f"the lab {self.name} runs with --hide {spec['hide'] or 'nothing'}: take it down first")
            if spec and spec["hosts"] != self._count:
                raise LabError(f"the lab {self.name} has {spec['hosts']} hosts: take it down first")
            if not spec:
                self._kill()  # if the directory of a running lab was removed
                self._write("lab.json", json.dumps({"hosts": self._count, "hide": self.hide}))
            try:
                self._keys()
                running = _inits(self.id)
                missing = [node for node in [SWITCH, *self.hosts] if node not in running]
                if SWITCH in missing and running:
                    self._kill()  # hosts whose cables lead nowhere
                    missing = [SWITCH, *self.hosts]
                self._start([node for node in missing if node == SWITCH])
                self._start([node for node in missing if node != SWITCH])
                self._wait()
            except BaseException:
                if fresh:
                    self._remove()
                raise
        took = f"{time.monotonic() - started:.1f} s"
        names = ", ".join(missing if len(missing) < 10 else [*missing[:3], "…", missing[-1]])
        self.progress(f"lab {self.name}: {names} up in {took}" if missing else f"lab {self.name} runs already")

    def down(self) -> bool:
        """End every process of the lab and remove its directory; fine if there is little or nothing of either.

        Returns whether there was anything of it.
        """
        if os.geteuid():
            raise LabError("a lab needs root")
        there = self.state.exists() or any(True for _member in _members(self.id))
        if self.state.exists():
            with self._lock():
                self._remove()
        else:
            self._kill()
        return there

    def pid(self, node: str) -> int:
        """The machine's number of a node's first process, by which its namespaces can be entered."""
        pid = self._cached.get(node)
        if pid is None or _mark(pid) != (self.id, node):
            self._cached = _inits(self.id)
            if node not in self._cached:
                known = ", ".join([*self.hosts, SWITCH])
                state = "is not running" if node in known.split(", ") else f"is not one of {known}"
                raise LabError(f"{node} {state} in the lab {self.name}")
        return self._cached[node]

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command that runs ``argv`` on a node, in all its namespaces."""
        return [_program("nsenter"), "-t", str(self.pid(node)), "-m", "-u", "-n", "-p", "--", *argv]

    def run(
        self,
        node: str,
        argv: Sequence[str],
        *,
        check: bool = True,
        given: Optional[str] = None,
        timeout: Optional[float] = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node (or on ``switch``) and return what it said; raise if it failed and ``check``."""
        command = self.command(node, argv)
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=timeout, env=_environment(), check=False
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{shlex.join(argv)} on {node} failed with exit code {done.returncode}: {said}")
        return done

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command on a node; it ends with the lab at the latest."""
        return subprocess.Popen(self.command(node, argv), text=True, env=_environment(), **options)

    def status(self) -> dict[str, dict[str, Any]]:
        """For each node its address, its first process (0: not running), whether it serves, and its processes."""
        inits = _inits(self.id)
        counted: dict[str, int] = {}
        for _pid, node in _members(self.id):
            counted[node] = counted.get(node, 0) + 1
        found = {}
        for node in [SWITCH, *self.hosts]:
            pid = inits.get(node, 0)
            serves = bool(pid) and _listens(pid, _port(node))
            facts = {"address": address(node), "pid": pid, "serves": serves, "processes": counted.get(node, 0)}
            found[node] = facts
        return found

    def _check(self) -> None:
        if os.geteuid():
            raise LabError("a lab needs root")
        for name in NEEDS:
            _program(name)
        if not 1 <= self._count <= MOST_HOSTS:
            raise LabError(f"a lab has between 1 and {MOST_HOSTS} hosts, not {self._count}")
        if len(os.fsencode(self.state)) > 60:
            raise LabError(f"{self.state} is too long: ssh's control sockets in it may have 107 characters in all")
        for kind in ("net", "mnt", "uts", "pid"):
            if not os.path.exists(f"/proc/self/ns/{kind}"):
                raise LabError(f"/proc is not mounted, or this kernel has no {kind} namespaces")

    def _spec(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.state / "lab.json").read_text(encoding="utf-8"))
            return found
        except (OSError, ValueError):
            return {}

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with open(self.state / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, name: str, text: str, mode: int = 0o600) -> None:
        new = self.state / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.chmod(mode)
        new.replace(self.state / name)

    def _keys(self) -> None:
        (self.state / "keys").mkdir(mode=0o700, exist_ok=True)
        (self.state / "cp").mkdir(mode=0o700, exist_ok=True)
        for path in [self.state / "key", *(self.state / "keys" / node for node in self.hosts)]:
            if not Path(f"{path}.pub").exists():
                path.unlink(missing_ok=True)
                _checked(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {self.name}", "-f", str(path)])
        keys = {node: (self.state / "keys" / f"{node}.pub").read_text(encoding="ascii") for node in self.hosts}
        self._write("known_hosts", "".join(f"{address(node)},{node} {key}" for node, key in keys.items()))
        self._write("ssh_config", self._ssh_config())
        self._write("inventory.yml", self._inventory(), 0o644)

    def _ssh_config(self) -> str:
        def quoted(path: Path) -> str:
            return '"' + str(path).replace("%", "%%") + '"'

        # ssh gets a socket of the switch's network namespace handed over, and stays where it is.
        words = [sys.executable, "-I", "-S", os.path.abspath(__file__), "connect", str(self.state)]
        proxy = shlex.join(words).replace("%", "%%")
        lines = [f"Host {node}\n  HostName {address(node)}" for node in self.hosts]
        lines += ["Host *", "  User root", f"  IdentityFile {quoted(self.state / 'key')}", "  IdentitiesOnly yes"]
        lines += ["  IdentityAgent none", f"  UserKnownHostsFile {quoted(self.state / 'known_hosts')}"]
        lines += ["  GlobalKnownHostsFile none", "  StrictHostKeyChecking yes", "  LogLevel ERROR"]
        lines += [f"  ProxyCommand {proxy} %h %p", "  ProxyUseFdpass yes"]
        return "\n".join(lines) + "\n"

    def _inventory(self) -> str:
        facts = {
            "ansible_connection": "ssh",
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.state / "key"),
            "ansible_ssh_common_args": f"-F {shlex.quote(str(self.ssh_config))}",
            # labs share their addresses, so they must not share connections
            "ansible_control_path_dir": str(self.state / "cp"),
            "ansible_ssh_pipelining": True,
        }
        lines = [f"# How to reach the hosts of the lab {self.name}.", "all:", "  vars:"]
        lines += [f"    {key}: {json.dumps(value)}" for key, value in facts.items()]
        lines += ["  hosts:"]
        lines += [f"    {node}: {{ansible_host: {address(node)}, ansible_port: 22}}" for node in self.hosts]
        return "\n".join(lines) + "\n"

    def _start(self, nodes: Sequence[str]) -> None:
        argv = [sys.executable, "-I", "-S", os.path.abspath(__file__), "boot", str(self.state)]
        # Few at a time: more than the machine has processors only wait for each other.
        waiting, failed = list(nodes), []
        running: list[subprocess.Popen[str]] = []
        while waiting or running:
            while waiting and len(running) < 2 * (os.cpu_count() or 1):
                node = waiting.pop(0)
                running.append(
                    subprocess.Popen(
                        [*argv, node, str(os.getpid())],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        text=True,
                        env=_environment(),
                    )
                )
            oldest = running.pop(0)
            _out, said = oldest.communicate()
            if oldest.returncode:
                failed.append(said.strip())
        if failed:
            raise LabError("\n".join(failed))

    def _wait(self) -> None:
        inits = _inits(self.id)
        until = time.monotonic() + 20
        for node in [SWITCH, *self.hosts]:
            while not _listens(inits.get(node, 0), _port(node)):
                if time.monotonic() > until:
                    log = self.state / f"{node}.log"
                    tail = " ".join(log.read_text(errors="replace").split("\n")[-4:]) if log.exists() else ""
                    raise LabError(f"{node} does not listen on port {_port(node)}: {tail}")
                time.sleep(0.005)

    def _kill(self) -> None:
        until = time.monotonic() + 20
        while True:
            left = list(_members(self.id))
            if not left:
                return
            if time.monotonic() > until:
                raise LabError(f"these processes of the lab {self.name} do not end: {[pid for pid, _node in left]}")
            for pid, _node in left:
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    handle = os.pidfd_open(pid)  # so that a number used again in between is never hit
                    try:
                        if _mark(pid)[0] == self.id:
                            signal.pidfd_send_signal(handle, signal.SIGKILL)
                    finally:
                        os.close(handle)
            time.sleep(0.005)

    def _remove(self) -> None:
        if not self._spec() and any(entry.name not in _OURS for entry in self.state.iterdir()):
            raise LabError(f"{self.state} is not a lab's directory: it stays as it is")
        self._kill()
        shutil.rmtree(self.state, ignore_errors=True)
        with contextlib.suppress(OSError):
            BASE.rmdir()


_OURS = ("lock", "lab.json.new")


def _port(node: str) -> int:
    return 53 if node == SWITCH else 22


def labs() -> list[str]:
    """The names of the labs in the usual place."""
    return sorted(path.parent.name for path in BASE.glob("*/lab.json"))


def machine_network() -> str:
    """The machine's links, addresses, routes, rules and nftables as text without what changes by itself."""
    fleeting = {"valid_life_time", "preferred_life_time", "expires", "ifi_change"}
    parts = []
    for words in ("link", "addr", "route show table all", "-6 route show table all", "rule", "-6 rule"):
        said = _checked(["ip", "-j", *words.split()]).strip() or "[]"
        parts.append(json.dumps(_without(json.loads(said), fleeting), indent=1, sort_keys=True))
    if shutil.which("nft", path=_environment()["PATH"]):
        parts.append(_checked(["nft", "-s", "list", "ruleset"]))
    return "\n".join(parts)


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list) else value


def _connect(state: Path, host: str, port: int) -> None:
    """For ssh's ProxyCommand with ProxyUseFdpass: connect from inside the lab and hand the socket over."""
    switch = _inits(_identity(state)).get(SWITCH)
    if switch is None:
        raise LabError(f"the lab in {state} is not running")
    _setns(f"/proc/{switch}/ns/net", CLONE_NEWNET)
    connection = socket.create_connection((host, port), timeout=10)
    connection.settimeout(None)
    with socket.socket(fileno=os.dup(1)) as ssh:
        socket.send_fds(ssh, [b"\0"], [connection.fileno()])


def _sentence(error: BaseException) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} took longer than {error.timeout} s"
    if isinstance(error, OSError) and error.strerror:
        hint = ""
        if "overlay" in error.strerror:
            hint = " (does this kernel have overlayfs, and is this not already two overlays deep?)"
        elif "namespaces" in error.strerror:
            hint = " (a lab needs a kernel with net, mount, uts and pid namespaces, and the right to make them)"
        return f"{error.strerror}{': ' + str(error.filename) if error.filename else ''}{hint}"
    return str(error) or type(error).__name__


# --- the command line ------------------------------------------------------------------------------------------------


def _only_lab() -> str:
    found = labs()
    if len(found) > 1:
        raise LabError(f"there are several labs, say --name with one of them: {', '.join(found)}")
    return found[0] if found else "lab"


def _status(lab: Lab) -> int:
    found = lab.status()
    print(f"lab {lab.name}: {lab.state}")
    print(f"{'NODE':10}{'ADDRESS':18}{'INIT':>8}  {'SERVES':8}PROCESSES")
    for node, facts in found.items():
        pid, serves = facts["pid"] or "-", "yes" if facts["serves"] else "no"
        print(f"{node:10}{facts['address']:18}{pid:>8}  {serves:8}{facts['processes']}")
    return 0 if all(facts["serves"] for facts in found.values()) else 1


def main(argv: Sequence[str]) -> int:
    """The command line; ``boot`` and ``connect`` are for the lab itself and for ssh."""
    if argv[:1] == ["boot"]:
        _boot(Path(argv[1]), argv[2], int(argv[3]))
        return 0
    if argv[:1] == ["connect"]:
        _connect(Path(argv[1]), argv[2], int(argv[3]))
        return 0
    import argparse  # here, for a connection need not wait for it

    parser = argparse.ArgumentParser(prog="./run lab", description="Several hosts on one machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        usual = "lab" if name == "up" else "the only one there is"
        added.add_argument("--name", help=f"the lab's name (default: {usual})")
        added.add_argument("--state", metavar="DIR", help=f"the lab's directory (default: {BASE}/NAME)")
        return added

    up = command("up", "make a lab, or what is missing of it")
    up.add_argument("--hosts", type=int, default=3, metavar="N", help="how many (default: %(default)s)")
    text = "a program, or an absolute pattern of files, that the hosts shall not have; may be repeated"
    up.add_argument("--hide", action="append", default=[], metavar="WHAT", help=text)
    down = command("down", "end a lab and remove every trace of it")
    down.add_argument("--if-there", action="store_true", help="no error if there is none, for a cleanup")
    command("status", "say what runs")
    for name, text in (("exec", "run a command on a host, or a shell"), ("ssh", "log in to a host over ssh")):
        on = command(name, text)
        on.add_argument("node", help=f"node1, node2, … or {SWITCH}" if name == "exec" else "node1, node2, …")
        on.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    command("network", "print the machine's own network, which a lab leaves alone")
    given = parser.parse_args(argv)

    if given.command == "network":
        print(machine_network())
        return 0
    if given.name is None:
        given.name = "lab" if given.state or given.command == "up" else _only_lab()
    if given.command == "up":
        Lab(given.name, given.hosts, given.state, given.hide, progress=print).up()
        return 0
    if given.command == "down":
        if not Lab(given.name, state=given.state).down() and not given.if_there:
            raise LabError(f"no lab {given.name} is up")
        return 0
    lab = Lab.existing(given.name, given.state)
    if given.command == "status":
        return _status(lab)
    words = given.words[1:] if given.words[:1] == ["--"] else given.words
    if given.command == "exec":
        order = lab.command(given.node, words or ["/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"])
    else:
        lab.pid(given.node)
        order = [_program("ssh"), "-F", str(lab.ssh_config), given.node, *words]
    sys.stdout.flush()
    os.execvpe(order[0], order, _environment())


if __name__ == "__main__":
    try:
        if not os.path.isdir("/proc/self"):
            raise LabError("/proc is not mounted")
        sys.exit(main(sys.argv[1:]))
    except (LabError, OSError, subprocess.TimeoutExpired) as problem:
        print(f"lab: {_sentence(problem)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
