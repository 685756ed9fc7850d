# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules for single objects have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Options, attributes and notes."""

    DOCUMENTATION = r"""
options:
  state:
    description:
      - V(present) makes the object, or changes what differs from it.
      - V(absent) removes it, with what hangs on it. What is not this project's is never removed.
    type: str
    choices: [present, absent]
    default: present
  project:
    description:
      - Whose object it is, as in C(cnm_project). Its name is part of the mark by which the object is known.
      - Small letters, digits, C(_) and C(-), at most 32 characters, a letter first.
    type: str
    default: default
  lock_timeout:
    description: Seconds to wait for another run on this host to end.
    type: int
    default: 60
attributes:
  check_mode:
    description:
      - Can run in check mode and predict the operations without doing them.
      - What has to be there before (a namespace, a bridge) and is not is then a warning, as a task before this one may
        be what makes it.
    support: full
  diff_mode:
    description: Returns what differs, object by object.
    support: full
  idempotent:
    description: A second run does nothing, whichever way the same values are spelled.
    support: full
notes:
  - What is made carries a mark that says that a module made it. The playbook C(cnm.fabric.site) never removes such an
    object, the playbook C(cnm.fabric.teardown) does. What is declared later under the same name takes it over.
  - An object in the way that this project did not make is an error that names it, and so is one that
    C(cnm.fabric.site) or another module made.
  - A namespace that something else made can be named; nothing in it is changed but what this module makes.
  - Nothing outlives a reboot.
  - Needs root on the host.
"""
