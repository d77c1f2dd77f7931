"""Reference pages that `mkdocs` makes at build time from the program: the command line and the settings.

`on_files` is mkdocs' event after the pages of `docs/` are collected; here the generated ones join them.
"""

import re
import types
import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

if TYPE_CHECKING:
    from fedrec.settings import Settings


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    files.append(File.generated(config, "reference/settings.md", content=settings()))
    return files


def commands(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[tuple[str, Any]]:
    """The commands below `command`, depth first, each as its whole name and its click object."""
    context = click.Context(command, info_name=path.split()[-1], parent=parent)
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(below, f"{path} {name}", context)


def command_line() -> str:
    """The page of all commands, in markdown."""
    from fedrec.cli import app

    parts = [
        "# Command line\n",
        "Generated from the program. `fedrec COMMAND --help` shows the same text.\n",
    ]
    for path, command in commands(typer.main.get_command(app), "fedrec"):
        level = min(1 + len(path.split()), 4)
        parts.append(f"{'#' * level} `{path}`\n" if path != "fedrec" else "## `fedrec`\n")
        parts.append(f"{_prose(command.help or '')}\n")
        if not isinstance(command, click.Group):
            parts.append(f"```text\n{_usage(path, command)}\n```\n")
        rows = [row for parameter in command.params if (row := _row(parameter))]
        if rows:
            parts.append("| argument or option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    """A command's help as markdown: blank lines between the items of a list are for the terminal alone."""
    return _unlinked(text).replace("\f", "").replace("\n\n- ", "\n- ").replace(":\n- ", ":\n\n- ")


def _usage(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    return f"{path} {' '.join(command.collect_usage_pieces(context))}"


def _row(parameter: click.Parameter) -> str | None:
    if getattr(parameter, "hidden", False):
        return None
    if isinstance(parameter, click.Option):
        kind = "" if parameter.is_flag else f" {_kind(parameter)}"
        names = f"`{', '.join((*parameter.opts, *parameter.secondary_opts))}{kind}`"
        help_text = parameter.help or ""
        if parameter.show_default and parameter.default not in (None, False, ()) and not callable(parameter.default):
            help_text += f" Default: `{_text(parameter.default)}`."
        variables = parameter.envvar
        if variables:
            names_of = [variables] if isinstance(variables, str) else variables
            help_text += f" Environment: {', '.join(f'`{name}`' for name in names_of)}."
        if parameter.multiple:
            help_text += " May be repeated." if "repeated" not in help_text else ""
    else:
        names, help_text = f"`{_kind(parameter)}`", getattr(parameter, "help", None) or ""
        if not parameter.required:
            help_text += " Optional."
    return f"| {_cell(names)} | {_words(help_text)} |"


def _kind(parameter: click.Parameter) -> str:
    return parameter.make_metavar(click.Context(click.Command("fedrec")))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(getattr(value, "value", value))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _words(text: str) -> str:
    return _cell(_unlinked(text))


def _unlinked(text: str) -> str:
    """Text in which brackets outside code are brackets and no links."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("[", "\\[") for part in parts)


def settings() -> str:
    """The page of all settings of a scenario, in markdown."""
    from fedrec.algorithms.discover import algorithms
    from fedrec.run.scenario import Scenario

    parts = [
        "# Scenario settings\n",
        "Generated from the program. A scenario is a TOML file with these tables; `--set TABLE.KEY=VALUE` changes one "
        "setting on the command line. [Simulate](../simulate.md) shows how they are used.\n",
        "## Top level\n",
        _settings_table(Scenario, ""),
    ]
    for name, field in Scenario.model_fields.items():
        kind = _model(field.annotation)
        if kind is not None:
            parts += [f"## `[{name}]`\n", f"{field.description}\n", *_tables(kind, name)]
    for name, kind in sorted(algorithms().items()):
        parts += [
            f"## `[algorithm]` of `{name}`\n",
            f'`algorithm.name = "{name}"`\n',
            *_tables(kind.Config, "algorithm"),
            *_older_names(kind.Config),
        ]
    return "\n".join(parts)


def _tables(kind: type[BaseModel], path: str) -> Iterator[str]:
    if kind.model_fields:
        yield _settings_table(kind, f"{path}.")
    else:
        yield "No settings of its own.\n"
    for name, field in kind.model_fields.items():
        below = _model(field.annotation)
        if below is not None:
            yield f"### `[{path}.{name}]`\n"
            yield from _tables(below, f"{path}.{name}")


def _model(annotation: Any) -> type[BaseModel] | None:
    """The settings class in an annotation such as `DataConfig` or `Tower | None`."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _older_names(kind: "type[Settings]") -> list[str]:
    """A line on the names that the settings of `kind` had in older versions; nothing where there are none."""
    names = ", ".join(f"`{older}` for `{today}`" for older, today in kind.older_names.items())
    return [f"Older names, still read: {names}.\n"] if names else []


def _settings_table(kind: type[BaseModel], path: str) -> str:
    rows = []
    for name, field in kind.model_fields.items():
        if _model(field.annotation) is not None:
            continue
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        cells = (
            f"`{path}{name}`",
            f"`{_cell(_annotation(field.annotation))}`",
            default,
            _words(field.description or ""),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "| setting | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    return "left open" if value is None or value is PydanticUndefined else f"`{value!r}`".replace("'", '"')


def _annotation(annotation: Any) -> str:
    """A type as its reader writes it: values of a `Literal`, else Python's name for it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(repr(value).replace("'", '"') for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_annotation(kind) for kind in arguments if kind is not type(None))
    if origin is typing.Annotated:
        return _annotation(arguments[0])
    if origin is not None:
        inside = ", ".join("..." if kind is ... else _annotation(kind) for kind in arguments)
        return f"{origin.__name__}[{inside}]"
    return getattr(annotation, "__name__", str(annotation))
