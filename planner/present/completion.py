"""Completion scripts: the words that may follow, written out, so that a shell asks nobody while one types."""

from __future__ import annotations

from argparse import Action
from collections.abc import Sequence


def script(shell: str) -> str:
    """The script of a shell; bash's does for zsh, which reads it through ``bashcompinit``."""
    if shell == "fish":
        return _fish()
    head = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n" if shell == "zsh" else ""
    return head + _bash()


def _verbs() -> dict[str, Sequence[Action]]:
    """Every verb with what it takes."""
    from planner.present.verbs import parser_of, verbs

    return {verb: parser_of(verb)[1]._actions for verb in verbs()}


def _names() -> dict[str, list[str]]:
    """Ids by what a place in the line takes."""
    from planner.catalogue.loader import accelerator_ids, system_ids
    from planner.catalogue.models import model_ids

    return {"MODEL": sorted(model_ids()), "HARDWARE": sorted({*accelerator_ids(), *system_ids()})}


def _values(flag: str) -> tuple[str, ...]:
    """What a flag may be followed by, where those are few names."""
    from planner.present.tables import FORMATS
    from planner.scenario.keys import KEYS

    key = KEYS.get(flag.removeprefix("--").replace("-", "_"))
    if flag == "--format":
        return FORMATS
    return () if key is None else ("true", "false") if key.kind == "bool" else tuple(key.allowed)


def _flags(actions: Sequence[Action]) -> list[str]:
    return [o for a in actions for o in a.option_strings if o.startswith("--")]


def _bash() -> str:
    verbs, names = _verbs(), _names()
    every = sorted({f for actions in verbs.values() for f in _flags(actions)})
    values = "\n".join(f"    {f}) words='{' '.join(_values(f))}' ;;" for f in every if _values(f))
    flags = "\n".join(f"    {v}) words='{' '.join(_flags(a))}' ;;" for v, a in verbs.items())
    ids = "\n".join(f"    {v}) words='{' '.join(i for a in acts for i in names.get(str(a.metavar), ()))}' ;;"
                    for v, acts in verbs.items() if any(a.metavar in names for a in acts))  # fmt: skip
    return f"""_planner() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} words=
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{" ".join(verbs)} --help --version'
  else
    case "$before" in
{values}
    esac
    if [ -z "$words" ]; then
      case "$current" in
        -*) case "$verb" in
{flags}
        esac ;;
        *) case "$verb" in
{ids}
        esac ;;
      esac
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
}}
complete -F _planner planner"""


def _fish() -> str:
    verbs, names = _verbs(), _names()
    lines = [f"complete -c planner -n __fish_use_subcommand -f -a '{' '.join(verbs)}'"]
    for verb, actions in verbs.items():
        here = f"complete -c planner -n '__fish_seen_subcommand_from {verb}'"
        for action in actions:
            if not action.option_strings:
                ids = names.get(str(action.metavar))
                lines += [f"{here} -a '{' '.join(ids)}'"] if ids else []
                continue
            flag = next(o for o in action.option_strings if o.startswith("--"))
            takes = f" -x -a '{' '.join(v)}'" if (v := _values(flag)) else " -r" if action.nargs != 0 else ""
            help_text = str(action.help or "").replace("'", "’").replace("%%", "%")
            lines.append(f"{here} -l {flag.removeprefix('--')}{takes} -d '{help_text}'")
    return "\n".join(lines)
