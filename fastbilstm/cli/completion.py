"""The command `fastbilstm completion`: scripts for bash, zsh and fish, made of the parser's commands and options.

Imports the standard library.
"""

SHELLS = ("bash", "zsh", "fish")
HOW = {
    "bash": "# in ~/.bashrc:  source <(fastbilstm completion bash)",
    "zsh": "# in ~/.zshrc, after compinit:  source <(fastbilstm completion zsh)",
    "fish": "# fastbilstm completion fish > ~/.config/fish/completions/fastbilstm.fish",
}


def script(shell, commands):
    """The text of a script.

    Parameters
    ----------
    shell : one of SHELLS
    commands : dict of str to ArgumentParser
        The parser of each command.
    """
    found = {name: _options(parser) for name, parser in commands.items()}
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](found)
    return "\n".join([HOW[shell], *lines]) + "\n"


def _options(parser):
    """[(option, choices or None, help)] of a parser, long names; a positional argument with choices has the name ""."""
    found = []
    for action in parser._actions:
        names = [name for name in action.option_strings if name.startswith("--")] or action.option_strings[:1]
        if names or action.choices:
            takes = action.nargs != 0
            found.append((names[0] if names else "", list(action.choices or ()) if takes else None, action.help or ""))
    return found


def _replies(words):
    """Bash's choice of the words that begin as what is typed."""
    return f'COMPREPLY=($(compgen -W "{" ".join(map(str, words))}" -- "$word"))'


def _bash(commands):
    yield "_fastbilstm() {"
    yield '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"'
    yield "  COMPREPLY=()"
    yield f'  if [ "$COMP_CWORD" = 1 ]; then {_replies([*commands, "--version", "--help"])}; return; fi'
    yield '  case "$command $before" in'
    for name, options in commands.items():
        for option, choices, _ in options:
            if choices:
                yield f'    "{name} {option or name}") {_replies(choices)}; return;;'
    yield "  esac"
    yield '  case "$command" in'
    for name, options in commands.items():
        names = [option for option, _, _ in options if option]
        yield f'    {name}) [ "${{word:0:1}}" = - ] && {_replies(names)};;'
    yield "  esac"
    yield "}"
    yield "complete -o default -F _fastbilstm fastbilstm"


def _zsh(commands):
    yield "autoload -U +X bashcompinit && bashcompinit"
    yield from _bash(commands)


def _fish(commands):
    yield "complete -c fastbilstm -n __fish_use_subcommand -a '" + " ".join(commands) + "'"
    for name, options in commands.items():
        for option, choices, text in options:
            condition = f"complete -c fastbilstm -n '__fish_seen_subcommand_from {name}'"
            if not option:
                yield f"{condition} -a '{' '.join(map(str, choices))}'"
                continue
            values = "" if choices is None else f" -x -a '{' '.join(map(str, choices))}'" if choices else " -r"
            short = text.split(";")[0].split(" (")[0].replace("'", "\\'").replace("%(default)s", "default")
            yield f"{condition} -l {option[2:]}{values} -d '{short}'"
