# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a run keeps of what it has read of a host."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.programs import run_command


def test_what_is_read_of_the_host_is_kept_until_it_is_forgotten() -> None:
    with Host("default", run_command) as host:
        read, other = host.snapshot(""), host.snapshot("cnm-there-is-none")
        assert "lo" in read.links
        host.forget(but_own=True)
        assert host.snapshot("") is read
        assert host.snapshot("cnm-there-is-none") is not other
        host.forget()
        assert host.snapshot("") is not read
