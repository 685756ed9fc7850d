# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# The parts of `./run test`: what is more than one command.

: "${here:?}" "${collections=}" "${logs=}" "${cache:?}"

types() {
    inside "$collections" mypy --config-file "$here/pyproject.toml" --cache-dir /dev/null \
        ansible_collections/cnm/fabric/plugins
}

imports() {
    PYTHONPATH=$collections inside "$here" lint-imports --config .importlinter --no-cache
}

documentation() {
    for kind in module connection inventory; do
        folder=$here/plugins/modules
        [ $kind = module ] || folder=$here/plugins/$kind
        names=$(cd "$folder" && printf 'cnm.fabric.%s ' *.py | sed 's/[.]py / /g')
        # shellcheck disable=SC2086  # a list of words
        said=$(ansible-doc -t $kind $names 2>&1) || { say "$said"; return 1; }
        case $said in
            *ERROR* | *'missing documentation'* | *'was not found'*) say "$said"; return 1 ;;
        esac
        say "$names"
    done
}

# The site of docs/ and of what is said in plugins and roles; a warning is an error.
site() (
    # shellcheck disable=SC2034  # controller.sh reads it
    requirements=$here/tests/requirements-docs.txt
    environment
    pages=$cache/site
    rm -rf "$logs/site" "$pages"
    cp -r "$here/docs" "$logs/site" && mkdir -m 755 "$logs/site/collection" || exit
    antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --no-add-antsibull-docs-version \
        --dest-dir "$logs/site/collection" cnm.fabric || exit
    CNM_VERSION=$(sed -n 's/^version: //p' "$here/galaxy.yml") sphinx-build --quiet --fail-on-warning --keep-going \
        --nitpicky --jobs auto --doctree-dir "$logs/doctrees" "$logs/site" "$pages" || exit
    say "$pages/index.html"
)

# What Galaxy does with a tarball that is uploaded, but for what the parts sanity and lint do: ansible-test, ansible-lint.
importer() (
    # shellcheck disable=SC2034  # controller.sh reads it
    requirements=$here/tests/requirements-docs.txt
    environment
    inside "$here" ansible-galaxy collection build --force --output-path "$logs/galaxy" >"$logs/built" || exit
    unset ANSIBLE_COLLECTIONS_PATH
    GALAXY_IMPORTER_RUN_ANSIBLE_TEST=false GALAXY_IMPORTER_RUN_ANSIBLE_LINT=false \
        inside "$logs/galaxy" python -m galaxy_importer.main "$logs"/galaxy/cnm-fabric-*.tar.gz >"$logs/imported" || {
        cat "$logs/imported"
        exit 1
    }
    # Without the list of what it looked at.
    grep -v '^Loading ' "$logs/imported"
    ! grep -E '^(WARNING|ERROR):' "$logs/imported"
)

scenarios() {
    (
        cd "$here" || exit
        export MOLECULE_GLOB='molecule/*/molecule.yml' MOLECULE_COMMAND_BORDERS=false NO_COLOR=1
        for file in molecule/*/molecule.yml; do
            scenario=$(basename "$(dirname "$file")")
            case ${CNM_ALL:+all}$scenario in
                lan | overlay) # tests/lab has more of both
                    say "SKIPPED [1] molecule/$scenario: takes long: ./run test --all"
                    continue
                    ;;
            esac
            export MOLECULE_EPHEMERAL_DIRECTORY="$logs/molecule-$scenario"
            molecule --base-config .config/molecule/config.yml test -s "$scenario" || exit 1
        done
    )
}

# The tests every collection has to pass, on a copy that stands where ansible-test looks for one.
sanity() {
    folder=$logs/sanity/ansible_collections/cnm/fabric
    mkdir -p "$folder" "$HOME/.ansible/test/cache"
    tar -C "$here" --exclude=./.git --exclude='*_cache' --exclude=.hypothesis --exclude=__pycache__ -c . | tar -x -C "$folder"
    # Where the script ansible-test fetches to install pip is out of reach, Python's own does as well.
    for version in 21_3_1 24_2 25_2; do
        pip=$HOME/.ansible/test/cache/get_pip_$version.py
        [ -e "$pip" ] || printf '%s\n' 'import ensurepip' 'ensurepip.bootstrap(default_pip=True)' >"$pip"
    done
    version=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    inside "$folder" ansible-test sanity --venv --python "$version"
}

in_vm() { python "$here/tests/vm/vm.py" ${CNM_ALL:+--timeout 14400 env CNM_ALL=1} "$@"; }

# Make what the virtual machine boots, which takes minutes; who needs it waits for it.
begin_image() {
    setsid python "$here/tests/vm/vm.py" --image >"$logs/image" 2>&1 </dev/null &
    undo="kill -- -$! 2>/dev/null || :; $undo"
}

run_pytest() { inside "$here" python -m pytest -p no:cacheprovider "$@"; }

# What whole systems boot in the virtual machine has to be made where there is a network.
pytest_in_vm() {
    case "${CNM_ALL:+all} $*" in
        all* | *test_reboot* | *test_apparmor* | *test_networkd*)
            PYTHONPATH=$here/tests/support python -c 'import systems; systems.make_for_vm()' || return
            ;;
    esac
    in_vm python -m pytest -p no:cacheprovider "$@"
}
