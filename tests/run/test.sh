# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# ./run test: which parts, most of them one after the other, and the table of how they went.

: "${here:?}" "${collections=}" "${undo:?}"

parts=
table=
failed=

now() { date +%s%3N; }

# Run one step, whatever became of those before it: step NAME COMMAND…
step() {
    name=$1
    shift
    say ""
    say "=== $name: $*"
    started=$(now)
    result=passed
    { "$@" 2>&1 || : >"$logs/failed"; } </dev/null | tee "$logs/log"
    if [ -e "$logs/failed" ]; then
        rm "$logs/failed"
        result=FAILED
        failed=yes
    fi
    took=$(($(now) - started))
    counts=$(sed -n 's/^=* *\([0-9][0-9]* [a-z].*\) in [0-9.]*s.*=*$/\1/p' "$logs/log" | tail -n 1)
    line=$(printf '%-22s %-7s %6d.%d s  %s' "$name" $result $((took / 1000)) $((took % 1000 / 100)) "$counts")
    say "=== $line"
    table="$table$line
"
    if [ $result = FAILED ]; then
        reasons=$(grep -E '^(FAILED|ERROR:?|fatal:|failed:) ' "$logs/log" || tail -n 5 "$logs/log")
        table="$table$(printf '%s\n' "$reasons" | tail -n 20 | cut -c 1-600 | sed 's/^/      /')
"
    fi
    skipped=$(sed -n 's/^SKIPPED \(\[[0-9]*\]\) \(.*\)/      skipped \1 \2/p' "$logs/log")
    [ -z "$skipped" ] || table="$table$skipped
"
}

wanted() {
    case " $parts " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# Begin a part that needs one core, beside those that need one too: beside PART, and `joined PART` waits for it.
beside() {
    setsid "$here/run" test "$1" >"$logs/$1" 2>&1 </dev/null &
    undo="kill -- -$! 2>/dev/null || :; $undo"
    eval "beside_$1=$!"
}

joined() {
    say ""
    say "=== $1, which ran beside others"
    eval "wait \"\$beside_$1\"" || failed=yes
    cat "$logs/$1"
    table="$table$(sed -e '1,/^=== all steps$/d' -e '/^no test was skipped$/d' -e '/^all passed$/d' -e '/^run: /d' "$logs/$1")
"
}

# The same with a process for each core, up to four; the tests of a class, or of a file without any, stay together.
every_core="--numprocesses auto --maxprocesses 4 --dist loadscope --durations 12"

# One process more than cores: a quarter of the time these tests wait for the kernel or for systemd.
one_more="--numprocesses $(($(nproc) > 3 ? 4 : $(nproc) + 1)) --dist loadscope --durations 12"

summary() {
    say ""
    say "=== all steps"
    printf '%s' "$table"
    case $table in
        *skipped*) ;;
        *) say "no test was skipped" ;;
    esac
    [ -z "$failed" ] || die "some steps failed"
    say "all passed"
}

lint() {
    step "ruff check" inside "$here" ruff check --no-cache
    step "ruff format" inside "$here" ruff format --no-cache --check
    step "types" types
    step "imports" imports
    step "yamllint" inside "$here" yamllint --strict .
    step "changelog" inside "$here" antsibull-changelog lint
    step "ansible-lint" inside "$collections/ansible_collections/cnm/fabric" ansible-lint --offline --nocolor
}

# Room for the neighbours of all labs in the kernel's tables, which all namespaces share: a host of its own has the whole.
# A full table loses the packet that needed one more entry.
neighbours() {
    for family in ipv4 ipv6; do
        for limit in "gc_thresh3 16384" "gc_thresh2 8192"; do
            key=net/$family/neigh/default/${limit% *}
            was=$(cat "/proc/sys/$key") || return 0
            [ "$was" -lt "${limit#* }" ] || continue
            echo "${limit#* }" >"/proc/sys/$key"
            undo="echo $was >/proc/sys/$key; $undo"
        done
    done
}

pytest_alone() {
    run=run_pytest
    for argument; do
        shift
        case $argument in
            benchmarks | tests/benchmarks*)
                peers
                bootstrap
                ;;
        esac
        case $argument in
            parity | tests/parity*) engine ;;
            page | tests/page*) browser ;;
            integration | lab | benchmarks | tests/integration* | tests/lab* | tests/benchmarks*)
                neighbours
                routing
                stores
                tutorial
                ;;
            systemd | tests/systemd*) bootstrap ;;
            vm | tests/vm*)
                emulator
                run=pytest_in_vm
                ;;
        esac
        case $argument in
            unit | page | integration | lab | systemd | vm | parity | benchmarks) set -- "$@" "tests/$argument" ;;
            *) set -- "$@" "$argument" ;;
        esac
    done
    $run "$@"
}

# shellcheck disable=SC2086  # `every_core` and `one_more` are lists of words
all_tests() {
    need_root test "$@"
    # shellcheck disable=SC2034  # controller.sh reads it
    requirements=$here/tests/requirements.txt
    header "what this machine lacks"
    install conntrack:conntrack
    controller
    logs=$(mktemp -d)
    undo="rm -rf '$logs'; $undo"

    every="lint docs sanity unit demo page parity molecule integration lab systemd vm"
    default=$every
    for argument; do
        shift
        if [ "$argument" = --all ]; then
            export CNM_ALL=1
            default="$every benchmarks"
        else
            set -- "$@" "$argument"
        fi
    done
    for argument; do
        case " $every benchmarks " in
            *" $argument "*) parts="$parts $argument" ;;
            *)
                pytest_alone "$@"
                return
                ;;
        esac
    done
    [ -n "$parts" ] || parts=$default
    if wanted page; then browser; fi
    if wanted parity; then engine; fi
    if wanted vm; then emulator; fi
    if wanted systemd || wanted benchmarks; then bootstrap; fi
    if wanted benchmarks; then peers; fi
    if wanted integration || wanted lab || wanted benchmarks; then
        neighbours
        routing
        stores
        tutorial
    fi

    case $parts in
        *[a-z]' '[a-z]*) several=yes ;;
        *) several= ;;
    esac
    if [ -n "$several" ] && wanted vm; then begin_image; fi
    if [ -n "$several" ] && wanted sanity; then beside sanity; fi
    if wanted lint; then lint; fi
    if wanted docs; then
        step "ansible-doc" documentation
        step "site" site
        step "galaxy-importer" importer
    fi
    if [ -z "$several" ] && wanted sanity; then step "sanity" sanity; fi
    if wanted unit; then step "unit" run_pytest $every_core tests/unit; fi
    if wanted demo; then step "demo" "$here/run" demo; fi
    if [ -n "$several" ] && wanted sanity; then joined sanity; fi
    if [ -n "$several" ] && wanted molecule; then beside molecule; fi
    if wanted page; then step "page" run_pytest tests/page; fi
    if wanted parity; then step "parity" run_pytest tests/parity; fi
    if [ -n "$several" ] && wanted molecule; then joined molecule; fi
    if wanted integration; then step "integration" run_pytest $one_more tests/integration; fi
    if wanted lab; then step "lab" run_pytest $every_core tests/lab; fi
    if wanted systemd; then step "systemd" run_pytest $one_more tests/systemd; fi
    if wanted vm; then step "vm" pytest_in_vm $every_core tests/vm; fi
    if [ -z "$several" ] && wanted molecule; then step "molecule" scenarios; fi
    if wanted benchmarks; then step "benchmarks" run_pytest tests/benchmarks; fi

    summary
}
