# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The command ``cnm`` on a host: from the plan the host keeps and the kernel, without a controller.

A verb's own file is imported only when it is called: half of the time of a short one would go to the imports of others.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from typing import Any, Callable, NoReturn

from ..plan.constants import VERSION
from ..plan.forms import printable
from .output import Usage, closest
from .verbs import (
    ALONE,
    COMMON,
    DESCRIPTION,
    ELSEWHERE,
    HIDDEN,
    VERBS,
    WORDS,
    Option,
    Verb,
    in_our_words,
    instead_of,
    synopsis,
)

_Carry = Callable[[argparse.Namespace], int]


def _carrying_out(verb: str) -> _Carry:
    """The function that carries out a verb."""
    if verb in ("status", "restore", "keep-user-rules"):
        from . import comparing

        return {
            "status": comparing.status,
            "restore": comparing.restore,
            "keep-user-rules": comparing.keep_rules_of_users,
        }[verb]
    if verb in ("exec", "logs"):
        from . import entering

        return {"exec": entering.execute, "logs": entering.show_logs}[verb]
    from . import showing

    return {
        "ls": showing.list_networks,
        "ps": showing.list_sandboxes,
        "inspect": showing.inspect,
        "names": showing.list_names,
    }[verb]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"cnm: {printable(message)}\n{self.format_usage()}")


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    if not option.value:
        parser.add_argument(*option.flags, dest=option.name, action="store_true", help=option.words)
        return
    action = "append" if option.several else "store"
    parser.add_argument(*option.flags, dest=option.name, action=action, metavar=option.value, help=option.words)


def _add_verb(commands: argparse._SubParsersAction[_Parser], verb: Verb) -> None:
    shown: dict[str, Any] = {} if verb in HIDDEN else {"help": verb.words}
    epilog = "\n".join(text for text in (verb.more, f"Example: {verb.example}" if verb.example else "") if text)
    parser = commands.add_parser(
        verb.name,
        usage=synopsis(verb),
        description=f"{verb.words[:1].upper()}{verb.words[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **shown,
    )
    for item in verb.arguments:
        many = argparse.REMAINDER if item.many == "..." else item.many
        times: dict[str, Any] = {"nargs": many} if many else {}
        parser.add_argument(item.name, metavar=item.shown, help=item.words, **times)
    for option in (*verb.options, *COMMON):
        _add_option(parser, option)


def _parser(verbs: Sequence[Verb]) -> _Parser:
    parser = _Parser(prog="cnm", description=DESCRIPTION, epilog="cnm COMMAND --help says more of a command.")
    parser.add_argument("--version", action="version", version=f"cnm {VERSION}")
    commands = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND", parser_class=_Parser)
    for verb in verbs:
        _add_verb(commands, verb)
    return parser


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line.  Exits with a message if they are wrong, as for --help."""
    words = in_our_words(argv)
    named = [verb for verb in (*VERBS, *HIDDEN) if words[0] == verb.name]
    if not named and words[0] not in ("-h", "--help", "--version"):
        raise Usage(_option_before_the_verb(words) if words[0].startswith("-") else _no_verb(words))
    arguments, strange = _parser(named or VERBS).parse_known_args(words)
    if strange:
        verb = arguments.verb
        hint = "" if strange[0].startswith("-") else ALONE.get(verb, "").format(name=strange[0])
        known = hint or f"cnm {verb} --help lists what it takes"
        raise Usage(f"cnm {verb} does not take {' '.join(strange)}: {known}")
    arguments.project = arguments.project or ""
    if arguments.verb == "restore":
        alone = (arguments.rules, arguments.own, arguments.owners, arguments.resolver)
        if sum(map(bool, alone)) > 1:
            raise Usage("give one of --rules, --own, --owners and --resolver")
    if arguments.verb == "exec":
        if arguments.command[:1] == ["--"]:
            del arguments.command[0]
        if not arguments.command:
            raise Usage("say which command to run: cnm exec SANDBOX COMMAND…")
    return arguments


def _no_verb(words: Sequence[str]) -> str:
    """That there is no such verb, and what to type instead."""
    what, known = instead_of(words)
    if not known:
        near = _meant(words[0])
        known = f"did you mean {near}?" if near else "cnm --help lists what there is"
    return f"there is no cnm {what or words[0]}: {known}"


def _meant(word: str) -> str:
    """The verb, or word of docker's, that begins so or is the closest; "" if there is none."""
    ours = [verb.name for verb in VERBS]
    begin = [known for known in (*ours, *sorted(WORDS, key=len)) if len(word) > 1 and known.startswith(word)]
    return begin[0] if begin else closest(word, {*ours, *WORDS})


def _option_before_the_verb(words: Sequence[str]) -> str:
    """That options stand after the verb, with all in order if it is one of that verb's."""
    option = words[0].partition("=")[0]
    for place, word in enumerate(words):
        for verb in VERBS:
            flags = [flag for each in (*verb.options, *COMMON) for flag in each.flags]
            if verb.name == in_our_words([word])[0] and option in flags:
                ordered = " ".join([verb.name, *words[:place], *words[place + 1 :]])
                return f"options stand after the command: cnm {ordered}"
    known = ELSEWHERE.get(option, "options stand after the command, and cnm COMMAND --help lists them")
    return f"cnm has no {option}: {known}"


def main(argv: Sequence[str]) -> int:
    """Carry out the command line; returns the exit status."""
    gc.disable()  # a process this short has no garbage to look for
    try:
        try:
            return _carry_out(argv)
        finally:
            sys.stdout.flush()  # here, where it can be heard that nobody reads it
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _carry_out(argv: Sequence[str]) -> int:
    try:
        arguments = parsed(argv)
    except Usage as problem:
        return _complain(problem, 2)
    if os.geteuid() != 0:
        return _complain("this needs root")
    os.umask(0o022)
    try:
        return _carrying_out(arguments.verb)(arguments)
    except Usage as problem:
        return _complain(problem, problem.code)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _complain(_sentence(error))


def _sentence(error: Exception) -> str:
    """An error that a host can cause as a sentence; raises any other one again, which is a bug."""
    from ..engine.engine import sentence
    from .restore import ERRORS

    if isinstance(error, ERRORS):
        return sentence(error)
    raise error


def _complain(text: object, code: int = 1) -> int:
    sys.stderr.write(f"cnm: {printable(text)}\n")
    return code
