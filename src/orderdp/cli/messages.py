"""The messages of the command line: settings by the names of their options, one line for an error."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable, Sequence

from orderdp.cli.typed import as_typed
from orderdp.output.suggestions import did_you_mean


def tell(line: str) -> None:
    """Prints a line on standard error."""
    print(line, file=sys.stderr, flush=True)


class _Told(logging.Handler):
    """Prints what the library logs on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a line."""
        tell(f"orderdp: {record.getMessage()}")


def tell_imports() -> None:
    """Says from now on which modules of the user are imported, and from which file."""
    logger = logging.getLogger("orderdp")
    if not any(isinstance(handler, _Told) for handler in logger.handlers):
        logger.addHandler(_Told())
        logger.setLevel(logging.INFO)


def teller(options: argparse.Namespace) -> Callable[[str], None]:
    """Returns a function that prints a line on standard error, with settings by the names of their options."""
    return lambda line: tell(in_flags(line, options))


def one_line(error: Exception) -> str:
    """Returns the message of an error on one line, or the name of its class."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(message.split()) or type(error).__name__


def in_flags(message: str, options: argparse.Namespace) -> str:
    """Returns the message with settings by the names of their options, unless they may stand in a file of settings.

    A message is '<setting> <rule>, got <value>; <what to write>'. Its value is left alone. A setting is the first word,
    or a word with an underscore, or is followed by its value.
    """
    if getattr(options, "recipe", None) is not None or getattr(options, "resume", None) is not None:
        return message

    def flag(match: re.Match[str]) -> str:
        name, value = match[1], (match[2] or "").lower()  # of Python, or of TOML
        if re.search(r"--\S+ $", match.string[: match.start()]):  # what was typed after an option
            return match[0]
        known = f"--{'num-samples' if name == 'n' else name.replace('_', '-')}"
        if "_" in name and known not in options.flags:
            known = known.removesuffix("s")  # a list, of an option by one of it
        if known not in options.flags or not (match.start() == 0 or "_" in name or value):
            return match[0]
        if "false" in value:
            return known.replace("--", "--no-", 1)
        return f"{known}{' ' if value and 'true' not in value else ''}"

    rule, got, rest = message.partition(", got ")
    value, semicolon, advice = rest.rpartition("; ")
    if not semicolon:
        value, advice = rest, ""
    advice = as_typed(advice, rule, value, options)
    word = re.compile(r"(?<![\w'.,:(/\\-])([a-z_]+)\b(?![./\\'(])( ?= ?(?i:true|false)\b| ?= ?)?")
    return f"{word.sub(flag, rule)}{got}{value}{semicolon}{word.sub(flag, f' {advice}')[1:]}"


# Names of options in other trainers, for what is called otherwise here.
_ELSEWHERE = {
    "--bs": "--batch-size",
    "--data": "--data-root",
    "--data-dir": "--data-root",
    "--gpu": "--device",
    "--html": "--page paper.html",
    "--learning-rate": "--max-lr",
    "--method": "--strategy",
    "--out": "--run",
    "--output": "--run",
    "--output-dir": "--run",
    "--run": "--output",
    "--save-dir": "--run",
    "--strategy": "--methods",
    "--wd": "--weight-decay",
}
_OF_ANOTHER = {"--budgets": "compare", "--short-augment": "compare", "--against": "train", "--log": "train"}
_SEVERAL_IN_COMPARE = ("--max-lr",)
_FEW = 3


def unknown_option(argument: str, flags: Sequence[str], arguments: Sequence[str] = ()) -> str:
    """Returns the message for an unknown option, or a value too many, with what may be meant.

    Args:
        argument: what is not known.
        flags: the options of the command.
        arguments: the whole command line.

    >>> unknown_option("--lr", ["--run", "--max-lr"])
    "no option --lr; did you mean '--max-lr'?"
    >>> unknown_option("0.2", ["--max-lr", "--strategy"], ["train", "--max-lr", "0.1", "0.2"])
    "--max-lr takes one value, got 0.1 0.2; leave 0.2 out, or write 'orderdp compare', which takes several"
    """
    if not argument.startswith("-"):
        return _value_too_many(argument, flags, arguments)
    name = argument.partition("=")[0]
    if name in _OF_ANOTHER:
        return f"no option {argument}; 'orderdp {_OF_ANOTHER[name]}' has it"
    words = set(name.lstrip("-").split("-"))
    longer = [flag for flag in flags if words < set(flag.lstrip("-").split("-")) and not flag.startswith("--no-")]
    if (own := _ELSEWHERE.get(name, "")).partition(" ")[0] in flags:
        hint = f"; did you mean '{own}'?"
    elif 0 < len(longer) <= _FEW:
        hint = f"; did you mean {' or '.join(repr(flag) for flag in longer)}?"
    else:
        hint = did_you_mean(name, [flag for flag in flags if flag != "--help"])  # which every message names
    return f"no option {argument}{hint}"


def _value_too_many(value: str, flags: Sequence[str], arguments: Sequence[str]) -> str:
    """Returns the message for a value behind an option that takes fewer."""
    end = len(arguments) - list(reversed(arguments)).index(value) if value in arguments else 0
    start = next((place for place in reversed(range(end)) if arguments[place].startswith("--")), None)
    if start is None or (option := arguments[start].partition("=")[0]) not in flags:
        return f"got {value}, one value too many; leave it out"
    got = [*filter(None, [arguments[start].partition("=")[2]]), *arguments[start + 1 : end]]
    if len(got) == 1:
        return f"{option} takes no value, got {value}; leave {value} out"
    of_train = "--strategy" in flags and option in _SEVERAL_IN_COMPARE
    several = ", or write 'orderdp compare', which takes several" if of_train else ""
    return f"{option} takes one value, got {' '.join(got)}; leave {value} out{several}"
