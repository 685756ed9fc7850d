# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation shared by the modules network, sandbox, endpoint and service."""

from __future__ import annotations


class ModuleDocFragment:
    """Options, attributes and notes."""

    DOCUMENTATION = r"""
options:
  project:
    description: The project that the object belongs to. If omitted, C(cnm_project) of the host, or else V(default).
    type: str
  lock_timeout:
    description: Seconds to wait for another run on this host to end.
    type: int
    default: 60
attributes:
  check_mode:
    description:
      - Can run in check mode and predict the operations without doing them.
      - If an object that it needs (a network, a sandbox) does not exist, check mode only warns, as an earlier task of
        the play may create it.
    support: full
  diff_mode:
    description: Returns what differs, object by object.
    support: full
  idempotent:
    description: A second run does nothing, even if the same values are spelled differently.
    support: full
notes:
  - The controller plans the whole host, from the variables as they were when C(cnm.fabric.site) was last run and from
    the objects that these modules made since. Later changes of the variables stay pending. Other differences of the
    host from its plan are repaired too.
  - The host remembers the objects that these modules made, and the playbook C(cnm.fabric.site) keeps them. An object
    that the inventory declares later under the same name is taken over by the inventory. The playbook
    C(cnm.fabric.teardown) removes them.
  - Addresses come from the lease store of the inventory, C(cnm_leases), and from what the host remembers.
  - An omitted option has its default, not its previous value.
  - The controller's Python needs what C(meta/ee-requirements.txt) of the collection lists; the host needs nftables,
    dnsmasq and the system user C(cnm-resolver), which the role P(cnm.fabric.host#role) installs and creates. Needs root
    on the host.
"""
