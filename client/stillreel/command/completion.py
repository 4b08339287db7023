"""Completion for shells, generated from the parser itself."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Final

BASH: Final = """\
# stillreel: completion for {shell}.
{setup}_stillreel() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" offers
    local command="${{COMP_WORDS[1]}}"
    [[ $COMP_CWORD -gt 2 && $command == keys ]] && command="keys ${{COMP_WORDS[2]}}"
    [[ $COMP_CWORD -eq 1 ]] && command=""
    case "$command $before" in
{values}
        *) case "$command" in
{options}
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$offers" -- "$word"))
    [[ $word == -* || -z $command || $command == keys ]] && return
    [[ ${{#COMPREPLY[@]}} -gt 0 && -n $word ]] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _stillreel stillreel
"""
ZSH_SETUP: Final = "autoload -U +X bashcompinit && bashcompinit\n"


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the text for a shell to source, as in `stillreel completion bash >> ~/.bashrc`."""
    return _fish(parser) if shell == "fish" else _bash(parser, shell)


def _bash(parser: argparse.ArgumentParser, shell: str) -> str:
    options, values = [], []
    for path, command in walk(parser):
        words = [*subcommands(command), *own_words(command), *option_names(command)]
        options.append(f'            "{path}") offers="{" ".join(words)}" ;;')
        for action in command._actions:
            if action.choices and action.option_strings:
                said = "|".join(f'"{path} {name}"' for name in action.option_strings)
                values.append(f'        {said}) offers="{" ".join(map(str, action.choices))}" ;;')
    return BASH.format(
        shell=shell,
        setup=ZSH_SETUP if shell == "zsh" else "",
        options="\n".join(options),
        values="\n".join(values),
    )


def _fish(parser: argparse.ArgumentParser) -> str:
    lines = ["# stillreel: completion for fish."]
    for path, command in walk(parser):
        seen = " ".join(path.split())
        where = (
            f"__fish_seen_subcommand_from {seen.split()[-1]}" if seen else "__fish_use_subcommand"
        )
        for name, does in subcommands(command).items():
            lines.append(f"complete -c stillreel -f -n '{where}' -a {name} -d '{_quoted(does)}'")
        lines += [
            f"complete -c stillreel -f -n '{where}' -a {word}" for word in own_words(command)
        ]
        for action in command._actions:
            names = [
                f"-l {name.removeprefix('--')}" if name.startswith("--") else f"-s {name[1:]}"
                for name in action.option_strings
            ]
            if not names:
                continue
            takes = "" if action.nargs == 0 else " -r"
            if action.choices:
                takes = f" -x -a '{' '.join(map(str, action.choices))}'"
            said = f" -d '{_quoted(action.help)}'" if action.help else ""
            lines.append(f"complete -c stillreel -n '{where}' {' '.join(names)}{takes}{said}")
    return "\n".join(lines) + "\n"


def walk(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command with its path: "", "submit", "keys create"."""
    yield path, parser
    for name, command in _children(parser).items():
        yield from walk(command, f"{path} {name}".strip())


def subcommands(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the commands below one, with their descriptions."""
    return {
        choice.dest: choice.help or ""
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    }


def own_words(parser: argparse.ArgumentParser) -> list[str]:
    """Return the possible words where a command takes one of a few."""
    return [
        str(choice)
        for action in parser._actions
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
        for choice in action.choices or ()
    ]


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings]


def _children(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _quoted(text: str | None) -> str:
    return (text or "").replace("\\", "\\\\").replace("'", "\\'")
