# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
name: netns
short_description: Run tasks inside a sandbox
version_added: 0.1.0
description:
  - A play whose hosts are sandboxes. Each task runs in the sandbox's network namespace on the host the sandbox is on,
    as C(ip netns exec) would run it. The network, and what lies in C(/etc/netns/NAME), are the sandbox's, so names
    resolve as they do there; all other files, users and processes are the host's.
  - The host is reached as its own variables in the inventory say, whatever its connection plugin is, and over the same
    persistent connection.
author:
  - cnm.fabric contributors (@cnm-fabric)
requirements:
  - The program C(ip) of iproute2 on the host.
notes:
  - Entering a namespace takes root, so tasks run as root unless C(become_user) names somebody else. Where the host's
    user is not root, it becomes root by the host's own C(ansible_become_method) (or else the usual, C(sudo)) and
    C(ansible_become_password), whether or not C(ansible_become) is set.
  - C(become) for root does nothing here, as tasks are root's already.
  - An C(ansible_connection) that stands in a play, and not in the inventory, is not known here.
  - Unless C(cnm_hosts) says which hosts are the topology, C(cnm.fabric.site) takes every host of the inventory for one.
options:
  sandbox:
    description:
      - Name of the namespace, as in C(/run/netns).
      - Without it, the sandbox's name in the inventory.
    type: str
    vars:
      - name: cnm_netns_sandbox
  host:
    description:
      - The inventory's name of the host the sandbox is on.
      - Without it the sandbox is on the controller itself.
    type: str
    ini:
      - section: netns_connection
        key: host
    env:
      - name: CNM_NETNS_HOST
    vars:
      - name: cnm_netns_host
  pipelining:
    description: Whether modules travel without a file on the host. Without it, as the host's connection does.
    type: bool
    vars:
      - name: ansible_pipelining
"""

EXAMPLES = r"""
# inventory.yml
# all:
#   children:
#     cnm_hosts:
#       hosts:
#         node1: {ansible_host: 192.0.2.11, ansible_user: root}
#     sandboxes:
#       vars: {ansible_connection: cnm.fabric.netns, cnm_netns_host: node1}
#       hosts: {c1: , c2: }

- name: Ask one sandbox from another
  hosts: c1
  gather_facts: false
  tasks:
    - name: Wait for the web server of c2
      ansible.builtin.wait_for:
        host: c2
        port: 80
        timeout: 10

    - name: Read its page
      ansible.builtin.uri:
        url: http://c2/

- name: A namespace of somebody else, under a name of ours
  hosts: router
  vars:
    ansible_connection: cnm.fabric.netns
    cnm_netns_host: node1
    cnm_netns_sandbox: qrouter-7
  tasks:
    - name: See its routes
      ansible.builtin.command: ip route
      changed_when: false
"""

import contextlib
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from ansible import constants, context
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_native
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import become_loader, connection_loader

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]*")
_SELF = "cnm.fabric.netns"
_LOCAL = "ansible.builtin.local"
_SSH = "ansible.builtin.ssh"
_ALSO_SSH = ("ssh", "smart")
_REFUSED = 97
_NO_NAMESPACE = f"{_SELF}: no namespace"
_NO_PROGRAM = f"{_SELF}: no ip"
# Arguments: the namespace, what to run in it, and what to do first with the standard input if that cannot be.
# A user who is not root may have no sbin in its path, and the path is not ours to change for the task.
_ENTER = (
    f'no() {{ echo "$0: no $1" >&2; "$2" >/dev/null; exit {_REFUSED}; }}; '
    '[ -e "/run/netns/$1" ] || no namespace "$3"; '
    'ip=$(PATH="$PATH:/usr/sbin:/sbin"; command -v ip) || no ip "$3"; '
    'exec "$ip" netns exec "$1" /bin/sh -c "$2"'
)
_STAGE = 'directory=$(mktemp -d "${TMPDIR:-/tmp}/cnm-netns.XXXXXX") && : >"$directory/file" && echo "$directory"'
# What `ip netns exec` mounts things over, and what shows each process its own.
_OF_THE_SANDBOX = ("/etc", "/sys", "/proc")


class _AsIs:
    """Stands for a templar where values are templated already, by their own host's variables."""

    @staticmethod
    def template(value: Any) -> Any:
        return value


class Connection(ConnectionBase):  # type: ignore[misc]
    """The connection of the sandbox's host, with each command led into the namespace."""

    transport = _SELF
    has_pipelining = True
    default_user = "root"

    def __init__(self, play_context: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(play_context, *arguments, **named)
        self._more = (arguments, named)
        self._name = ""
        self._hosts: Mapping[str, Any] = {}
        self._task_keys: Any = None
        self._known_outer: Any = None
        self._known_climb: Optional[tuple[Any]] = None

    # --- how the host is reached

    def _resolve_option_variables(self, variables: dict[str, Any], templar: Any) -> dict[str, Any]:
        """Besides our own options' variables, those that say how the sandbox's host is reached."""
        found: dict[str, Any] = super()._resolve_option_variables(variables, templar)
        self._hosts = variables.get("hostvars") or {}
        self._name = str(variables.get("inventory_hostname", ""))
        return found

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._task_keys = task_keys
        # Among the variables of a host that a task is delegated to, inventory_hostname is not that host's.
        self._name = str((task_keys or {}).get("delegate_to") or self._name)
        self._known_outer = self._known_climb = None

    @property
    def _outer(self) -> Any:
        """The connection to the host; made when it is first needed, as not every task needs one."""
        if self._known_outer is None:
            self._known_outer = self._load_outer()
        return self._known_outer

    def _load_outer(self) -> Any:
        host, theirs = self.get_option("host"), self._theirs()
        name = (theirs.get("ansible_connection") or constants.DEFAULT_TRANSPORT) if host else _LOCAL
        if name == _SELF:
            raise AnsibleConnectionFailure(
                f"cnm_netns_host: {host} is reached by this plugin itself. Name the sandbox's host."
            )
        play_context = self._play_context.copy()
        play_context.remote_addr = theirs.get("ansible_host") or host
        arguments, named = self._more
        outer = connection_loader.get(_SSH if name in _ALSO_SSH else name, play_context, *arguments, **named)
        if outer is None:
            raise AnsibleConnectionFailure(f"{host}: there is no connection plugin {name!r}, by which it is reached.")
        outer.set_options(task_keys=self._task_keys, var_options=outer._resolve_option_variables(theirs, _AsIs))
        if self.get_option("pipelining") is not None and outer.has_pipelining:
            outer.set_option("pipelining", self.get_option("pipelining"))
        return outer

    def _theirs(self) -> Mapping[str, Any]:
        """The variables of the host."""
        host = self.get_option("host")
        if host and host not in self._hosts:
            raise AnsibleConnectionFailure(
                f"cnm_netns_host: the inventory has no host {host!r}. Name the sandbox's host."
            )
        theirs: Mapping[str, Any] = self._hosts[host or "localhost"] if self._hosts else {}
        return theirs

    def _climb(self) -> Any:
        """The become plugin by which the host's user becomes root; None if it is root."""
        if self._known_climb is None:
            self._known_climb = (None if self._is_root() else self._load_climb(),)
        return self._known_climb[0]

    def _is_root(self) -> bool:
        with contextlib.suppress(KeyError):  # the plugin has no such option
            if self._outer.get_option("remote_user") == "root":
                return True
        return self._on_host("id -u").split()[-1:] == [b"0"]

    def _load_climb(self) -> Any:
        theirs = self._theirs()
        default = context.CLIARGS.get("become_method") or constants.DEFAULT_BECOME_METHOD
        name = theirs.get("ansible_become_method") or default
        climb = become_loader.get(name)
        if climb is None:
            raise AnsibleConnectionFailure(f"{self._where()}: there is no become plugin {name!r}, to become root by.")
        known = constants.config.get_plugin_vars("become", climb._load_name)
        asked = {"become_pass": self._play_context.become_pass} if self._play_context.become_pass else {}
        climb.set_options(
            task_keys=asked,
            var_options={item: theirs[item] for item in known if item in theirs},
            direct={"become_user": "root"},
        )
        return climb

    def _where(self) -> str:
        return str(self.get_option("host") or "the controller")

    # --- commands

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        if self.become is not None and not self.become.pipelining:
            return False
        self._outer.set_become_plugin(self._climb())
        return bool(self._outer.is_pipelining_enabled(wrap_async))

    def _connect(self) -> Connection:
        self._outer._connect()
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: Optional[bytes] = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a command in the namespace; AnsibleConnectionFailure if there is no such namespace."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        climb, sandbox = self._climb(), self._sandbox()
        command = shlex.join(["/bin/sh", "-c", _ENTER, _SELF, sandbox, cmd, self._drain(cmd, in_data)])
        if climb is not None:
            command = climb.build_become_command(command, self._outer._shell)
        self._outer.set_become_plugin(climb or self.become)
        try:
            result = self._outer.exec_command(command, in_data=in_data, sudoable=sudoable or climb is not None)
        except AnsibleError as problem:
            self._explain(to_bytes(str(problem)))
            if climb is None or isinstance(problem, AnsibleConnectionFailure):
                raise
            raise AnsibleConnectionFailure(
                f"entering the sandbox {sandbox} on {self._where()} takes root, and the host's user cannot become root "
                f"by {climb.name}: {problem}"
            ) from problem
        code, output, errors = result
        if code in (_REFUSED, 255):
            self._explain(output + errors)
        return code, _after(climb.success, output) if climb is not None else output, errors

    def _sandbox(self) -> str:
        name = str(self.get_option("sandbox") or self._name)
        if not _NAME.fullmatch(name):
            raise AnsibleConnectionFailure(f"{name!r} is no name of a sandbox: set cnm_netns_sandbox")
        return name

    def _drain(self, cmd: str, in_data: Optional[bytes]) -> str:
        """What a command that cannot be run does with its input, so that whoever sends it hears why.

        If the task becomes somebody inside, the input is sent only after that.
        """
        waits = self.become is not None and self.become.success and self.become.success in cmd
        return "cat" if in_data and (self._climb() is not None or not waits) else ":"

    def _explain(self, stderr: bytes) -> None:
        """Raise what is wrong if it is the namespace."""
        sandbox, where = self._sandbox(), self._where()
        if to_bytes(_NO_PROGRAM) in stderr:
            raise AnsibleConnectionFailure(
                f"the sandbox {sandbox} on {where} cannot be entered: the host has no program ip. Install iproute2."
            )
        # The second is what is said of a file in /run/netns that is no namespace.
        if to_bytes(_NO_NAMESPACE) in stderr or to_bytes(f'network namespace "{sandbox}"') in stderr:
            raise AnsibleConnectionFailure(
                f"there is no sandbox {sandbox} on {where}: run cnm.fabric.site, or name the host it is on with "
                "cnm_netns_host and the sandbox with cnm_netns_sandbox (one with network_mode: host has no namespace)"
            )

    def _on_host(self, script: str) -> bytes:
        """What a script prints on the host, as the host's user and outside the namespace."""
        self._outer.set_become_plugin(None)
        return self._checked(self._outer.exec_command(shlex.join(["/bin/sh", "-c", script]), sudoable=False))

    def _checked(self, result: tuple[int, bytes, bytes]) -> bytes:
        code, output, errors = result
        if code:
            reason = to_native((errors or output).strip()) or f"exit code {code}"
            raise AnsibleError(f"{self._where()}: {reason}")
        return output

    # --- files

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        if self._is_host_s(out_path):
            self._outer.put_file(in_path, out_path)
            return
        with self._staged() as path:
            self._outer.put_file(in_path, path)
            self._copy(path, out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        if self._is_host_s(in_path):
            self._outer.fetch_file(in_path, out_path)
            return
        with self._staged() as path:
            self._copy(in_path, path)
            self._outer.fetch_file(path, out_path)

    def _is_host_s(self, path: str) -> bool:
        """Whether the host's user, outside the namespace, may use that path and finds the same file there."""
        first = "/" + posixpath.normpath(path).lstrip("/").partition("/")[0]
        return self._climb() is None and first not in _OF_THE_SANDBOX

    @contextlib.contextmanager
    def _staged(self) -> Iterator[str]:
        """A file on the host that its user and root in the sandbox both reach, and nobody else."""
        directory = to_native(self._on_host(_STAGE)).split()[-1]
        try:
            yield f"{directory}/file"
        finally:
            self._on_host(f"rm -rf {shlex.quote(directory)}")

    def _copy(self, source: str, destination: str) -> None:
        script = f"cat <{shlex.quote(source)} >{shlex.quote(destination)}"
        self._checked(self.exec_command(script, sudoable=False))

    def reset(self) -> None:
        with contextlib.suppress(AnsibleConnectionFailure):  # what cannot be reached has nothing to reset
            self._outer.reset()

    def close(self) -> None:
        if self._known_outer is not None:
            self._known_outer.close()
        self._connected = False


def _after(mark: str, output: bytes) -> bytes:
    """Output without the line by which a become plugin says that it succeeded; some connections leave it in."""
    before, found, after = output.partition(to_bytes(mark))
    return re.sub(rb"\A\r?\n", b"", after, count=1) if found and not before.strip() else output
