# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
name: netns
short_description: Run tasks inside a sandbox
version_added: 0.1.0
description:
  - For plays whose hosts are sandboxes. Each task runs in the sandbox's network namespace on the sandbox's host, as
    with C(ip netns exec). The network and the files in C(/etc/netns/NAME) are the sandbox's, so names resolve as in the
    sandbox; all other files, users and processes are the host's.
  - The host is reached as its own inventory variables specify, by any connection plugin, over the same persistent
    connection.
author:
  - cnm.fabric contributors (@cnm-fabric)
requirements:
  - The program C(ip) of iproute2 on the host.
notes:
  - Entering a namespace requires root, so tasks run as root unless C(become_user) names another user. If the host's
    user is not root, it becomes root with the host's own C(ansible_become_method) (by default C(sudo)) and
    C(ansible_become_password), whether or not C(ansible_become) is set.
  - C(become) for root does nothing here, as tasks already run as root.
  - If C(ansible_connection) of the host is set in a play and not in the inventory, it is ignored here.
  - Unless C(cnm_hosts) names the hosts of the topology, C(cnm.fabric.site) takes every host of the inventory as one.
options:
  sandbox:
    description:
      - Name of the namespace, as in C(/run/netns).
      - If omitted, the sandbox's name in the inventory.
    type: str
    vars:
      - name: cnm_netns_sandbox
  host:
    description:
      - The inventory name of the sandbox's host.
      - If omitted, the sandbox is on the controller itself.
    type: str
    ini:
      - section: netns_connection
        key: host
    env:
      - name: CNM_NETNS_HOST
    vars:
      - name: cnm_netns_host
  pipelining:
    description: Whether modules are sent without a file on the host. If omitted, as for the host's own connection.
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

- name: Test one sandbox from another
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

- name: Use a namespace that another program created
  hosts: router
  vars:
    ansible_connection: cnm.fabric.netns
    cnm_netns_host: node1
    cnm_netns_sandbox: qrouter-7
  tasks:
    - name: Show its routes
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
# Arguments: the namespace, the command, and what to do with standard input if the namespace cannot be entered.
# The PATH of a user other than root may lack sbin; it is extended only to find `ip`, not for the task.
_ENTER = (
    f'no() {{ echo "$0: no $1" >&2; "$2" >/dev/null; exit {_REFUSED}; }}; '
    '[ -e "/run/netns/$1" ] || no namespace "$3"; '
    'ip=$(PATH="$PATH:/usr/sbin:/sbin"; command -v ip) || no ip "$3"; '
    'exec "$ip" netns exec "$1" /bin/sh -c "$2"'
)
_STAGE = 'directory=$(mktemp -d "${TMPDIR:-/tmp}/cnm-netns.XXXXXX") && : >"$directory/file" && echo "$directory"'
# Directories that `ip netns exec` mounts over, and those that differ for each process.
_OF_THE_SANDBOX = ("/etc", "/sys", "/proc")


class _AsIs:
    """Replaces the templar for values that are already templated, with their own host's variables."""

    @staticmethod
    def template(value: Any) -> Any:
        return value


class Connection(ConnectionBase):  # type: ignore[misc]
    """The connection of the sandbox's host; each command is run in the namespace."""

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
        self._known_root_become: Optional[tuple[Any]] = None

    # --- how the host is reached

    def _resolve_option_variables(self, variables: dict[str, Any], templar: Any) -> dict[str, Any]:
        """Also keep the variables that say how the sandbox's host is reached."""
        found: dict[str, Any] = super()._resolve_option_variables(variables, templar)
        self._hosts = variables.get("hostvars") or {}
        self._name = str(variables.get("inventory_hostname", ""))
        return found

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._task_keys = task_keys
        # For a delegated task, inventory_hostname is not the name of the host that it is delegated to.
        self._name = str((task_keys or {}).get("delegate_to") or self._name)
        self._known_outer = self._known_root_become = None

    @property
    def _outer(self) -> Any:
        """The connection to the host; made on first use, as not every task needs one."""
        if self._known_outer is None:
            self._known_outer = self._load_outer()
        return self._known_outer

    def _load_outer(self) -> Any:
        host, host_variables = self.get_option("host"), self._host_variables()
        name = (host_variables.get("ansible_connection") or constants.DEFAULT_TRANSPORT) if host else _LOCAL
        if name == _SELF:
            raise AnsibleConnectionFailure(f"cnm_netns_host: {host} is a sandbox itself. Name the host that it is on.")
        play_context = self._play_context.copy()
        play_context.remote_addr = host_variables.get("ansible_host") or host
        arguments, named = self._more
        outer = connection_loader.get(_SSH if name in _ALSO_SSH else name, play_context, *arguments, **named)
        if outer is None:
            raise AnsibleConnectionFailure(
                f"{host}: there is no connection plugin {name!r}. Correct ansible_connection."
            )
        outer.set_options(task_keys=self._task_keys, var_options=outer._resolve_option_variables(host_variables, _AsIs))
        if self.get_option("pipelining") is not None and outer.has_pipelining:
            outer.set_option("pipelining", self.get_option("pipelining"))
        return outer

    def _host_variables(self) -> Mapping[str, Any]:
        """The variables of the host."""
        host = self.get_option("host")
        if host and host not in self._hosts:
            raise AnsibleConnectionFailure(
                f"cnm_netns_host: the inventory has no host {host!r}. Name the sandbox's host."
            )
        host_variables: Mapping[str, Any] = self._hosts[host or "localhost"] if self._hosts else {}
        return host_variables

    def _root_become(self) -> Any:
        """The become plugin by which the host's user becomes root; None if it is root."""
        if self._known_root_become is None:
            self._known_root_become = (None if self._is_root() else self._load_root_become(),)
        return self._known_root_become[0]

    def _is_root(self) -> bool:
        with contextlib.suppress(KeyError):  # the plugin lacks the option
            if self._outer.get_option("remote_user") == "root":
                return True
        return self._on_host("id -u").split()[-1:] == [b"0"]

    def _load_root_become(self) -> Any:
        host_variables = self._host_variables()
        default = context.CLIARGS.get("become_method") or constants.DEFAULT_BECOME_METHOD
        name = host_variables.get("ansible_become_method") or default
        root_become = become_loader.get(name)
        if root_become is None:
            raise AnsibleConnectionFailure(
                f"{self._where()}: there is no become plugin {name!r}. Correct ansible_become_method."
            )
        known = constants.config.get_plugin_vars("become", root_become._load_name)
        asked = {"become_pass": self._play_context.become_pass} if self._play_context.become_pass else {}
        root_become.set_options(
            task_keys=asked,
            var_options={item: host_variables[item] for item in known if item in host_variables},
            direct={"become_user": "root"},
        )
        return root_become

    def _where(self) -> str:
        return str(self.get_option("host") or "the controller")

    # --- commands

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        if self.become is not None and not self.become.pipelining:
            return False
        self._outer.set_become_plugin(self._root_become())
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
        root_become, sandbox = self._root_become(), self._sandbox()
        command = shlex.join(["/bin/sh", "-c", _ENTER, _SELF, sandbox, cmd, self._drain(cmd, in_data)])
        if root_become is not None:
            command = root_become.build_become_command(command, self._outer._shell)
        self._outer.set_become_plugin(root_become or self.become)
        try:
            result = self._outer.exec_command(command, in_data=in_data, sudoable=sudoable or root_become is not None)
        except AnsibleError as problem:
            self._explain(to_bytes(str(problem)))
            if root_become is None or isinstance(problem, AnsibleConnectionFailure):
                raise
            raise AnsibleConnectionFailure(
                f"entering the sandbox {sandbox} on {self._where()} requires root, and the host's user cannot become "
                f"root with {root_become.name}: {problem}"
            ) from problem
        code, output, errors = result
        if code in (_REFUSED, 255):
            self._explain(output + errors)
        return code, _after(root_become.success, output) if root_become is not None else output, errors

    def _sandbox(self) -> str:
        name = str(self.get_option("sandbox") or self._name)
        if not _NAME.fullmatch(name):
            raise AnsibleConnectionFailure(f"{name!r} is not a valid name of a sandbox: set cnm_netns_sandbox")
        return name

    def _drain(self, cmd: str, in_data: Optional[bytes]) -> str:
        """The command that reads the input if the task's command cannot be run, so that the sender gets the error.

        If the task becomes another user in the namespace, the input is sent only after that.
        """
        waits = self.become is not None and self.become.success and self.become.success in cmd
        return "cat" if in_data and (self._root_become() is not None or not waits) else ":"

    def _explain(self, stderr: bytes) -> None:
        """Raise AnsibleConnectionFailure if the namespace or the program ip is missing."""
        sandbox, where = self._sandbox(), self._where()
        if to_bytes(_NO_PROGRAM) in stderr:
            raise AnsibleConnectionFailure(
                f"the sandbox {sandbox} on {where} cannot be entered: the host has no program ip. Install iproute2."
            )
        # The second is the error of `ip` for a file in /run/netns that is not a namespace.
        if to_bytes(_NO_NAMESPACE) in stderr or to_bytes(f'network namespace "{sandbox}"') in stderr:
            raise AnsibleConnectionFailure(
                f"there is no sandbox {sandbox} on {where}: run cnm.fabric.site, or name the host it is on with "
                "cnm_netns_host and the sandbox with cnm_netns_sandbox (one with network_mode: host has no namespace, "
                "and one with sandbox:NAME has that of NAME)"
            )

    def _on_host(self, script: str) -> bytes:
        """Run a script on the host as the host's user, outside the namespace; returns its output."""
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
        if self._is_same_on_host(out_path):
            self._outer.put_file(in_path, out_path)
            return
        with self._staged() as path:
            self._outer.put_file(in_path, path)
            self._copy(path, out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        if self._is_same_on_host(in_path):
            self._outer.fetch_file(in_path, out_path)
            return
        with self._staged() as path:
            self._copy(in_path, path)
            self._outer.fetch_file(path, out_path)

    def _is_same_on_host(self, path: str) -> bool:
        """Whether the path is the same file outside the namespace, and the host's user is root."""
        first = "/" + posixpath.normpath(path).lstrip("/").partition("/")[0]
        return self._root_become() is None and first not in _OF_THE_SANDBOX

    @contextlib.contextmanager
    def _staged(self) -> Iterator[str]:
        """A temporary file on the host that only the host's user and root can access."""
        directory = to_native(self._on_host(_STAGE)).split()[-1]
        try:
            yield f"{directory}/file"
        finally:
            self._on_host(f"rm -rf {shlex.quote(directory)}")

    def _copy(self, source: str, destination: str) -> None:
        script = f"cat <{shlex.quote(source)} >{shlex.quote(destination)}"
        self._checked(self.exec_command(script, sudoable=False))

    def reset(self) -> None:
        with contextlib.suppress(AnsibleConnectionFailure):  # a host that cannot be reached has no connection to reset
            self._outer.reset()

    def close(self) -> None:
        if self._known_outer is not None:
            self._known_outer.close()
        self._connected = False


def _after(mark: str, output: bytes) -> bytes:
    """Output without the line with which a become plugin reports success; some connections leave it in."""
    before, found, after = output.partition(to_bytes(mark))
    return re.sub(rb"\A\r?\n", b"", after, count=1) if found and not before.strip() else output
