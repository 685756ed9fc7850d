# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# What all parts of `run` share: messages, and what is undone when it ends.

say() { printf '%s\n' "$*"; }

die() {
    printf 'run: %s\n' "$*" >&2
    exit 1
}

undo=:
leave() {
    status=$?
    trap - EXIT
    eval "$undo"
    exit $status
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

need_root() {
    [ "$(id -u)" -eq 0 ] || die "this needs root: sudo ./run $*"
}

has() { command -v "$1" >/dev/null 2>&1; }

# Run a command with its output in a log, which is shown only if it fails.
quietly() {
    log=$1
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        die "failed: $*"
    fi
}

inside() { (cd "$1" && shift && "$@"); }

header() {
    say ""
    say "$*"
}
