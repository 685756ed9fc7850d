# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The verbs of the command ``cnm`` as data: its help, its manual page and its completion are made from it.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..plan.records import dataclass

SANDBOXES, NETWORKS, BOTH = "sandboxes", "networks", "both"
"""What an argument names, for the completion."""


@dataclass(frozen=True)
class Argument:
    """A positional argument; ``many`` is how often it stands, in argparse's words."""

    name: str
    shown: str
    words: str
    many: str = ""
    names: str = ""
    """`SANDBOXES`, `NETWORKS` or `BOTH`."""


@dataclass(frozen=True)
class Option:
    """An option; without ``value`` it is a flag."""

    flags: tuple[str, ...]
    words: str
    value: str = ""
    several: bool = False
    """Whether it may be given more than once."""

    @property
    def name(self) -> str:
        """The attribute of the parsed arguments."""
        longest = max(self.flags, key=len)
        return longest.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Verb:
    """A verb of the command."""

    name: str
    words: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    example: str = ""
    more: str = ""
    """What else there is to say."""


COMMON = (
    Option(("--json",), "print JSON, for programs"),
    Option(("--project",), "of this project alone (cnm_project)", "NAME"),
)
"""Options of every verb."""

_QUIET = Option(("-q", "--quiet"), "names alone, a line each")
_NO_TRUNC = Option(("--no-trunc",), "accepted as in docker: nothing is cut but the IDs of networks")


def _format(fields: Sequence[str]) -> Option:
    words = f"what to print of each, of {{{{.{'}}, {{.'.join(fields)}}}}}; json for an object a line"
    return Option(("--format",), words, "TEMPLATE")


def _filter(fields: Sequence[str]) -> Option:
    words = f"only those with this, by {', '.join(fields)}; a part of it is enough"
    return Option(("-f", "--filter"), words, "FIELD=VALUE", several=True)


NETWORK_FIELDS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Subnets": "SUBNETS",
    "Sandboxes": "SANDBOXES",
}
SANDBOX_FIELDS = {"Names": "SANDBOX", "Status": "STATUS", "Networks": "NETWORKS", "Ports": "PORTS"}
"""What ``--format`` may have in it, as docker calls it, and its column's head."""

NETWORK_FILTERS = {"name": "Name", "id": "ID", "driver": "Driver", "scope": "Scope"}
SANDBOX_FILTERS = {"name": "Names", "status": "Status", "network": "Networks"}
"""What ``--filter`` takes, and the field that it looks at."""

_SANDBOXES = Argument("sandboxes", "SANDBOX", "these alone", "*", SANDBOXES)

VERBS = (
    Verb(
        "ls",
        "list networks, like docker network ls",
        options=(_QUIET, _format(tuple(NETWORK_FIELDS)), _filter(tuple(NETWORK_FILTERS)), _NO_TRUNC),
        example="cnm ls",
        more="cnm network ls and cnm network inspect do the same as cnm ls and cnm inspect.",
    ),
    Verb(
        "ps",
        "list sandboxes: whether they are there, their addresses and ports",
        (_SANDBOXES,),
        (
            _QUIET,
            Option(("-a", "--all"), "accepted as in docker: missing sandboxes are always listed"),
            _format(tuple(SANDBOX_FIELDS)),
            _filter(tuple(SANDBOX_FILTERS)),
            _NO_TRUNC,
        ),
        "cnm ps c1",
    ),
    Verb(
        "inspect",
        "show networks and sandboxes as JSON, networks like docker network inspect",
        (Argument("names", "NAME", "names of networks or sandboxes, or the beginning of a network's ID", "+", BOTH),),
        (
            Option(
                ("-f", "--format"),
                "what to print of each, of {{.FIELD}} and {{json .FIELD}} with any field; json for an object a line",
                "TEMPLATE",
            ),
        ),
        example="cnm inspect front",
    ),
    Verb(
        "exec",
        "run a command in a sandbox, with its names, on the host's files",
        (
            Argument("sandbox", "SANDBOX", "where", "", SANDBOXES),
            Argument("command", "COMMAND", "the command and its arguments", "..."),
        ),
        (
            Option(("-i", "--interactive"), "accepted as in docker: the command always has this terminal"),
            Option(("-t", "--tty"), "accepted as in docker, no effect"),
            Option(("-d", "--detach"), "leave it running, without this terminal; what it prints goes nowhere"),
            Option(
                ("-u", "--user"),
                "as this user of the host, by name or number, with a group if it is another",
                "USER[:GROUP]",
            ),
            Option(("-w", "--workdir"), "in this directory", "DIRECTORY"),
            Option(
                ("-e", "--env"),
                "with this in the environment; without a value that of the caller",
                "NAME[=VALUE]",
                several=True,
            ),
        ),
        "cnm exec c1 ping -c 1 c2",
        "The exit status is that of the command, 127 if it is not found and 126 if it cannot be run.",
    ),
    Verb(
        "logs",
        "show what runs and restores did, and what resolvers say, from the journal",
        (_SANDBOXES,),
        (
            Option(("-f", "--follow"), "go on with what comes"),
            Option(("-n", "--tail"), "only the last so many lines", "LINES"),
            Option(("-t", "--timestamps"), "accepted as in docker: lines always have their time"),
            Option(("--since",), "since then: 10m, 2h, yesterday, or 2026-03-01 12:00", "TIME"),
        ),
        "cnm logs -n 20 c1",
        "Entries have the fields CNM_SANDBOX, CNM_NETWORK and CNM_PROJECT: journalctl CNM_NETWORK=front",
    ),
    Verb(
        "status",
        "say what is not as planned, and of which sandboxes policies dropped packets lately",
        options=(Option(("-v", "--verbose"), "also each object that differs, and all of these sandboxes"),),
        example="cnm status",
        more="The exit status is 0 if everything is as planned, and 1 if anything is not.",
    ),
    Verb(
        "restore",
        "bring everything back to the plan that this host keeps",
        options=(
            Option(("--rules",), "the rules of the host's firewall alone"),
            Option(("--own",), "all but sandboxes in others' namespaces"),
            Option(("--owners",), "sandboxes in others' namespaces alone"),
            Option(("--resolver",), "the resolver of a sandbox alone, if it has ended", "SANDBOX"),
        ),
        example="cnm restore",
        more="The exit status is 3 if a part could not be restored.",
    ),
)

HIDDEN = (
    Verb(
        "names",
        "print names, for the completion",
        (Argument("which", f"{{{SANDBOXES},{NETWORKS},{BOTH}}}", "of what"),),
    ),
    Verb("keep-user-rules", "keep what the user's chains have in them, before nftables.service flushes the rules"),
)
"""Verbs for programs."""

_NOUNS = ("container", "sandbox")

SAME: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("network", "ls"): ("ls",),
    ("network", "list"): ("ls",),
    ("network", "inspect"): ("inspect",),
    **{(noun, verb): ("ps",) for noun in _NOUNS for verb in ("ls", "ps", "list")},
    **{(noun, verb): (verb,) for noun in _NOUNS for verb in ("inspect", "exec", "logs")},
    ("networks",): ("ls",),
    ("sandboxes",): ("ps",),
    ("version",): ("--version",),
    ("-v",): ("--version",),
}
"""What people who know docker type, and how it is called here."""

_DECLARED = "change {variable} in the inventory and run cnm.fabric.site"
_OF_NETWORKS = "networks come and go by the inventory: " + _DECLARED.format(variable="cnm_networks")
_OF_SANDBOXES = "sandboxes come and go by the inventory: " + _DECLARED.format(variable="cnm_sandboxes")
_OF_MEMBERS = "what a sandbox is connected to stands in the inventory: " + _DECLARED.format(variable="cnm_sandboxes")
_OF_PROCESSES = "a sandbox is a network, and what runs in it has units of its own: systemctl {verb} UNIT"
_OF_PROGRAMS = "what a program in it says is where that was started: journalctl -u UNIT"
_OF_SERVICES = "services come and go by the inventory: " + _DECLARED.format(variable="cnm_services")
_OF_IMAGES = "a sandbox has no image: it uses the host's programs and files"

INSTEAD: Mapping[str, str] = {
    "network": "type cnm ls to list networks, cnm inspect NETWORK for one",
    **dict.fromkeys(("network create", "network rm", "network remove", "network prune"), _OF_NETWORKS),
    **dict.fromkeys(("network connect", "network disconnect", "connect", "disconnect"), _OF_MEMBERS),
    **dict.fromkeys(_NOUNS, "type cnm ps to list sandboxes, cnm inspect SANDBOX for one"),
    "list": "type cnm ls to list networks, cnm ps to list sandboxes",
    "show": "type cnm inspect NAME",
    **dict.fromkeys(("run", "create", "rm", "remove", "rename", "update", "prune"), _OF_SANDBOXES),
    "restart": "cnm restore brings back what is missing or differs; a program in a sandbox: systemctl restart UNIT",
    **{verb: _OF_PROCESSES.format(verb=verb) for verb in ("start", "stop", "kill")},
    **dict.fromkeys(("pause", "unpause", "wait"), "a sandbox is a network, and does not run or stop"),
    "port": "type cnm ps SANDBOX, which lists its ports",
    "top": "type ip netns pids SANDBOX for the processes in it",
    "stats": "type cnm exec SANDBOX ip -s link for what has passed its links",
    **dict.fromkeys(("attach", "shell", "enter", "ssh", "bash", "sh"), "type cnm exec SANDBOX bash"),
    **dict.fromkeys(("cp", "diff", "export", "commit"), "a sandbox has the files of the host"),
    **dict.fromkeys(("image", "images", "pull", "push", "build", "login", "volume"), _OF_IMAGES),
    "events": "type cnm logs -f",
    **dict.fromkeys(
        ("info", "system"), "type cnm status for what is not as planned, cnm ls and cnm ps for what there is"
    ),
    **dict.fromkeys(
        ("service", "services", "task", "tasks", "stack", "node", "nodes", "swarm"),
        "cnm ps lists this host's tasks; cnm.fabric.inspect, on the controller, services and all hosts",
    ),
    **dict.fromkeys(("service create", "service rm", "service update"), _OF_SERVICES),
    **dict.fromkeys(
        ("scale", "service scale"),
        "change deploy.replicas of the service in cnm_services in the inventory and run cnm.fabric.site",
    ),
    "service logs": "cnm logs TASK, on the task's host, shows what runs did; " + _OF_PROGRAMS,
    **dict.fromkeys(
        ("up", "apply", "deploy", "site", "stack deploy"),
        "run cnm.fabric.site, on the controller; cnm restore brings this host back to its last plan",
    ),
    **dict.fromkeys(("down", "teardown"), "run cnm.fabric.teardown, on the controller"),
    "plan": "run cnm.fabric.site with --check, on the controller, which says what a run would do",
    "drift": "type cnm status for what is not as planned",
    "check": "type cnm status for what is not as planned; cnm.fabric.verify, on the controller, tries who reaches whom",
    "verify": "run cnm.fabric.verify, on the controller; cnm status says what is not as planned",
    "graph": "run cnm.fabric.graph, on the controller",
    "compose": (
        "set cnm_compose in the inventory, on the controller, to the Compose file, and run cnm.fabric.site: it makes "
        "the file's networks, and connects the containers of its services"
    ),
}
"""What people who know docker type, and what they do here instead."""


WORDS = frozenset(words[0] for words in SAME) | frozenset(text.split()[0] for text in INSTEAD) - {"-v"}
"""The first words of all of these, for who misspells one."""

ALONE: Mapping[str, str] = {
    "ls": "type cnm inspect {name}",
    **dict.fromkeys(("status", "restore"), "it is always the whole host"),
}
"""What to say of a name that stands after a verb which takes none."""

ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("-H", "--host", "-c", "--context"), "run it on that host, where it needs no controller"),
}
"""What people who know docker do by options before the verb, and how it is done here."""


def in_our_words(words: Sequence[str]) -> list[str]:
    """A command line of docker's as one of ours, where it only has another name."""
    if not words:
        return ["--help"]
    if words[0] == "help":
        return [*in_our_words(words[1:]), "--help"] if words[1:] else ["--help"]
    for length in (2, 1):
        same = SAME.get(tuple(words[:length]))
        if same is not None and len(words) >= length:
            return [*same, *words[length:]]
    return list(words)


def instead_of(words: Sequence[str]) -> tuple[str, str]:
    """Which of the words is no verb, and what to do instead as a sentence; "" for both if nobody knows."""
    rest = words[1:] if words[0] in _NOUNS and words[1:] else words
    for what in (" ".join(rest[:2]), rest[0]):
        if what in INSTEAD:
            return what, INSTEAD[what]
    return "", ""


SUMMARY = "networks of cnm.fabric on this host"
DESCRIPTION = (
    "cnm tells what this host's networks and sandboxes are, from the plan that the last run of Ansible left, and "
    "brings them back. It needs root and no controller."
)


def synopsis(verb: Verb) -> str:
    """How the verb is used: ``cnm exec [OPTION…] SANDBOX COMMAND…``."""
    parts = ["cnm", verb.name, *(["[OPTION…]"] if verb.options else [])]
    for item in verb.arguments:
        text = item.shown + ("…" if item.many in ("*", "+", "...") else "")
        parts.append(f"[{text}]" if item.many == "*" else text)
    return " ".join(parts)


def overview() -> str:
    """What the command says of itself to who is not root, in ASCII: it stands in the command's own file."""
    lines = ["usage: cnm COMMAND...", "", DESCRIPTION, ""]
    for verb in VERBS:
        lines += [f"  {synopsis(verb)}", f"      {verb.words}"]
    return "\n".join([*lines, "", "man cnm says more of each."]).replace("…", "...") + "\n"


def _roff(text: str) -> str:
    """A text for roff: nothing in it is a request or an escape."""
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\&...")
    return f"\\&{safe}" if safe[:1] in (".", "'") else safe


def _item(term: str, words: str) -> list[str]:
    return [".TP", f"\\fB{_roff(term)}\\fR", _roff(words[:1].upper() + words[1:] + ".")]


def _shown(option: Option) -> str:
    return ", ".join(option.flags) + (f" {option.value}" if option.value else "")


def manual(first_line: str, version: str) -> str:
    """The manual page cnm(8), for man(7)."""
    lines = [
        f'.\\" {first_line}',
        f'.TH CNM 8 "" "cnm.fabric {version}" "System administration"',
        *(".SH NAME", f"cnm \\- {_roff(SUMMARY)}"),
        ".SH SYNOPSIS",
    ]
    for verb in VERBS:
        lines += [_roff(synopsis(verb)), ".br"]
    lines += [".SH DESCRIPTION", _roff(DESCRIPTION), ".SH COMMANDS"]
    for verb in VERBS:
        lines += [f'.SS "{_roff(synopsis(verb))}"', _roff(f"{verb.words[:1].upper()}{verb.words[1:]}.")]
        for item in verb.arguments:
            lines += _item(item.shown, item.words)
        for option in verb.options:
            lines += _item(_shown(option), option.words)
        lines += [".PP", _roff(verb.more)] if verb.more else []
        lines += [".PP", "Example:", ".B", _roff(verb.example)]
    lines.append(".SH OPTIONS")
    for option in (*COMMON, Option(("--version",), "print the version"), Option(("-h", "--help"), "print help")):
        lines += _item(_shown(option), option.words)
    lines += [
        ".SH FILES",
        *_item("/var/lib/cnm", "the plans that this host keeps"),
        *_item("/run/netns, /etc/netns", "the sandboxes, and their files"),
        ".SH SEE ALSO",
        "ip\\-netns(8), journalctl(1)",
    ]
    return "\n".join(lines) + "\n"


_COMPLETION = """{first_line}
# Completes the command cnm in bash, by bash-completion.
_cnm() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} place=0 verb= i name
    local -a names=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            -* | network | container | sandbox) ;;
            *) ((place++)) || verb=${{COMP_WORDS[i]}} ;;
        esac
    done
    case $verb:$word in
        :*) names=({verbs} --version --help) ;;
{cases}
    esac
    # Without compgen -W, which would expand what is in a name.
    for name in "${{names[@]}}"; do
        [[ $name != "$word"* ]] || COMPREPLY+=("$name")
    done
}}
complete -o default -F _cnm cnm
"""

_NAMES = "mapfile -t names < <(cnm names {which} 2>/dev/null)"


def completion(first_line: str) -> str:
    """The completion for bash."""
    cases = []
    for verb in VERBS:
        options = " ".join(flag for option in (*verb.options, *COMMON) for flag in option.flags)
        cases.append(f"{verb.name}:-*) names=({options}) ;;")
        for item in verb.arguments:
            if item.names:
                first = "" if item.many else "((place > 1)) || "
                cases.append(f"{verb.name}:*) {first}{_NAMES.format(which=item.names)} ;;")
    verbs = " ".join(verb.name for verb in VERBS)
    return _COMPLETION.format(first_line=first_line, verbs=verbs, cases="\n".join(f"        {line}" for line in cases))
