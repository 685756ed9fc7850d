#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Start the stand-in of an application in each task that this host has.  On a host of your own it would be a unit of
# systemd with NetworkNamespacePath=/run/netns/redis.1, and the files of /etc/netns/redis.1 bound over those in /etc.
set -eu

here=$(dirname "$0")
for task in $(cd /run/netns && ls); do
    case $task in
        web.* | result.*) port=80 ;;
        redis.*) port=6379 ;;
        db.*) port=5432 ;;
        *) continue ;;
    esac
    setsid ip netns exec "$task" python3 "$here/app.py" serve "$task" "$port" </dev/null >/dev/null 2>&1 &
    until ip netns exec "$task" ss -Hltn | grep -q ":$port "; do sleep 0.1; done
done
