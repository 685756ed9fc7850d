# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# ./run demo, and ./run playbook on its lab.

: "${here:?}" "${lab:?}" "${undo:?}"

demo() {
    keep=
    example=demo
    for argument; do
        case $argument in
            --keep) keep=yes ;;
            voting) example=voting ;;
            *) die "demo knows no $argument; see ./run help" ;;
        esac
    done
    need_root demo "$@"

    header "[1/6] what this machine lacks"
    install
    controller
    say "  $(ansible --version | sed -n 1p)"
    python3 "$lab" down --name demo --if-there
    before=$(mktemp)
    undo="rm -f '$before'; $undo"
    python3 "$lab" network >"$before"

    header "[2/6] three hosts on this machine"
    [ -n "$keep" ] || undo="python3 '$lab' down --name demo --if-there; $undo"
    python3 "$lab" up --name demo --hosts 3
    # on a copy, for what the collection remembers is kept beside the inventory
    inventory=/run/cnm-lab/demo/example
    cp -r "$here/examples/$example" $inventory
    for file in "$inventory"/group_vars/* "$inventory"/host_vars/*; do
        [ -e "$file" ] || continue
        say ""
        say "  # ${file#"$inventory"/}"
        sed -e '/^#/d' -e '/^---$/d' -e 's/^./  &/' "$file"
    done

    header "[3/6] ansible-playbook cnm.fabric.site: the networks those variables declare"
    playbook site
    header "[4/6] ansible-playbook cnm.fabric.inspect: what there is now"
    playbook inspect
    header "[5/6] ansible-playbook cnm.fabric.verify: what it can do"
    playbook verify
    header "[6/6] ansible-playbook cnm.fabric.site again: nothing is left to do"
    second=/run/cnm-lab/demo/second.log
    ANSIBLE_FORCE_COLOR=0 ANSIBLE_NOCOLOR=1 playbook site >$second 2>&1 || {
        cat $second
        die "the second run failed"
    }
    sed -n '/^PLAY RECAP/,$p' $second
    for node in node1 node2 node3; do
        grep -Eq "^$node +: .* changed=0 +unreachable=0 +failed=0 " $second || {
            cat $second
            die "the second run changed something on $node"
        }
    done

    "show_$example"

    say ""
    python3 "$lab" network | diff -u "$before" - || die "this machine's own network is not what it was"
    say "This machine's own links, addresses, routes and firewall are what they were before."
    if [ -n "$keep" ]; then
        say "
The lab is up. Look around:
  sudo ./run lab exec --name demo node1 -- ip netns list
  sudo ./run lab exec --name demo node1 -- nft list table inet cnm
  sudo ./run lab ssh --name demo node2
Change $inventory and apply it:
  sudo ./run playbook site
And take it down:
  sudo ./run lab down --name demo"
    else
        python3 "$lab" down --name demo
        python3 "$lab" network | diff -u "$before" - || die "this machine's own network is not what it was"
        say "The lab is gone without a trace. To look around in it: sudo ./run demo --keep"
    fi
}

on() { python3 "$lab" exec --name demo "$@"; }

show_demo() {
    header "node1 # ip netns exec c1 ping -c 3 -M do -s 1422 c3       (c3 is on node3, by the network multinet)"
    on node1 -- ip netns exec c1 ping -c 3 -M 'do' -s 1422 c3
}

show_voting() {
    for node in node1 node2 node3; do on "$node" -- sh "$here/examples/voting/serve.sh"; done
    header "node1 # ip netns exec worker.1 getent hosts redis                 (one address, and no task has it)"
    on node1 -- ip netns exec worker.1 getent hosts redis
    header "node1 # ip netns exec worker.1 python3 app.py ask redis 6379 6   (each task in turn, and it sees the worker)"
    on node1 -- ip netns exec worker.1 python3 "$here/examples/voting/app.py" ask redis 6379 6 | tee "$inventory/asked"
    [ "$(sort "$inventory/asked" | uniq -c | awk '$1 == 2' | wc -l)" -eq 3 ] || die "not every task was asked twice"
    header "node1 # ip netns exec worker.1 getent ahostsv4 db                 (all tasks' addresses)"
    on node1 -- ip netns exec worker.1 getent ahostsv4 db
    for address in 198.51.100.11 198.51.100.12 198.51.100.13; do
        header "outside # python3 app.py ask $address 3000 2                 (every host answers)"
        on switch -- python3 "$here/examples/voting/app.py" ask "$address" 3000 2 | tee "$inventory/asked"
        [ "$(cut -d ' ' -f 1 "$inventory/asked" | sort -u | wc -l)" -eq 2 ] || die "not every task was asked"
    done
}

list_playbooks() {
    say "sudo ./run playbook NAME [ARGUMENTS]   a playbook of the collection on the demo's lab (sudo ./run demo --keep)"
    say ""
    for file in "$here"/playbooks/*.yml; do
        printf '  %-9s %s\n' "$(basename "$file" .yml)" "$(sed -n '/^# SPDX/d; s/^# //p' "$file" | head -n 1)"
    done
    say ""
    say "What follows the name are arguments of ansible-playbook: --check --diff, --limit node1, -e cnm_show=full"
}

# A playbook of the collection on the demo's lab.
playbook() {
    name=$1
    shift
    # from beside the inventory, so that no file of the checkout plays a part
    (cd /run/cnm-lab/demo && ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED=1 ansible-playbook "cnm.fabric.$name" -i example/inventory.yml -i inventory.yml "$@")
}
