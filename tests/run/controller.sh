# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# The controller: a virtual environment, and a place where Ansible finds the checkout.

: "${here:?}" "${cache:?}" "${requirements:?}" "${python=}"

hash_of() { sha256sum | cut -c 1-12; }

environment() {
    demo=$here/tests/requirements-demo.txt
    library=$here/meta/ee-requirements.txt
    core=${CNM_ANSIBLE_CORE:+ansible-core==$CNM_ANSIBLE_CORE.*}
    venv=$cache/venv-$({ "$python" -VV; cat "$requirements" "$demo" "$library"; printf %s "$core"; } | hash_of)
    if [ ! -e "$venv/complete" ]; then
        say "  with pip, into $venv: $(grep -h '^[A-Za-z]' "$library" "$demo" "$requirements" |
            sort -u | tr '\n' ' ')$core"
        rm -rf "$venv"
        mkdir -p "$cache"
        quietly "$cache/venv.log" "$python" -m venv "$venv"
        quietly "$cache/pip.log" "$venv/bin/python" -m pip install -q --no-input --disable-pip-version-check \
            --prefer-binary -r "$requirements" ${core:+"$core"}
        : >"$venv/complete"
    fi
    PATH=$venv/bin:$PATH
    export PATH
}

# Ansible finds a collection by its place, so the checkout gets one.
controller() {
    environment
    collections=$cache/collections-$(printf '%s' "$here" | hash_of)
    mkdir -p "$collections/ansible_collections/cnm"
    ln -sfn "$here" "$collections/ansible_collections/cnm/fabric"
    export ANSIBLE_COLLECTIONS_PATH="$collections" ANSIBLE_CONFIG="$here/tests/ansible.cfg"
    export ANSIBLE_HOME="$cache/ansible" PYTHONPYCACHEPREFIX="$cache/pycache"
}
