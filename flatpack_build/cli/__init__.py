"""The command line: the only place that prints or exits. Each command's module is loaded when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from flatpack_build import __version__
from flatpack_build.cli.groups import HelpfulGroup
from flatpack_build.errors import FlatpackError

_COMMANDS = {
    "build": ("flatpack_build.cli.build", "build"),
    "cache": ("flatpack_build.cli.cache", "cache"),
    "completion": ("flatpack_build.cli.completion", "completion"),
    "create": ("flatpack_build.cli.init", "create"),
    "diff": ("flatpack_build.cli.diff", "diff"),
    "explain": ("flatpack_build.cli.explain", "explain"),
    "graph": ("flatpack_build.cli.graph", "graph"),
    "init": ("flatpack_build.cli.init", "init"),
    "inspect": ("flatpack_build.cli.inspect", "inspect"),
    "keygen": ("flatpack_build.cli.keys", "keygen"),
    "list": ("flatpack_build.cli.warehouse", "list_flatpacks"),
    "lock": ("flatpack_build.cli.lock", "lock"),
    "query": ("flatpack_build.cli.query", "query"),
    "reproduce": ("flatpack_build.cli.reproduce", "reproduce"),
    "sign": ("flatpack_build.cli.sign", "sign"),
    "targets": ("flatpack_build.cli.warehouse", "list_targets"),
    "trust": ("flatpack_build.cli.trust", "trust"),
    "unbox": ("flatpack_build.cli.unbox", "unbox"),
    "verify": ("flatpack_build.cli.verify", "verify"),
    "version": ("flatpack_build.cli.version", "version"),
    "watch": ("flatpack_build.cli.watch", "watch"),
}


class _Commands(HelpfulGroup):
    """Knows the names of all commands, and loads the one that is asked for."""

    guessed = {
        "help": "flatpack --help, or flatpack COMMAND --help",
        "run": "flatpack build, or doit",
        "status": "flatpack explain, or doit plan",
        "check": "flatpack verify for boxes, flatpack cache verify for the cache",
        "info": "flatpack inspect for a box, flatpack list for flatpacks",
        "validate": "flatpack list, which reads every manifest",
        "install": "flatpack unbox",
        "unpack": "flatpack unbox",
        "extract": "flatpack unbox",
        "pack": "flatpack build, or flatpack sign for a folder of your own",
        "keys": "flatpack keygen, flatpack trust list",
        "update": "flatpack lock",
        "plan": "flatpack build --dry-run, or doit plan",
        "why": "flatpack explain",
        "clean": "doit clean build:<name>, or flatpack cache gc",
        "gc": "flatpack cache gc",
        "stats": "flatpack cache stats",
        "uses": "flatpack query uses",
        "needs": "flatpack query needs",
        "forget": "doit forget build:<name>",
        "new": "flatpack init, or flatpack create",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flatpack")
def cli() -> None:
    """Build, sign and ship AI for small hardware.

    \b
    Start here:
      flatpack init my-project     make a project with a first flatpack
      cd my-project
      flatpack keygen --development
      doit                         build every box of the warehouse
    """


def main() -> None:
    """The console script ``flatpack``."""
    run_command(cli)


def run_command(command: click.Command) -> None:
    """Run a command on this process's arguments and exit with its status; what goes wrong is said, not raised."""
    try:
        status = command.main(standalone_mode=False)
    except FlatpackError as error:
        click.echo(f"error: {error.shown(os.getcwd())}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(status if isinstance(status, int) else 0)
