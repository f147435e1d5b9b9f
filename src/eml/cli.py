"""The `eml` command line: gathers the commands, shows errors in one line, ends runs on signals."""

import gc
import sys
import traceback
import typing
from contextlib import suppress
from importlib import import_module

import click

from eml.errors import UserError, printable, redacted
from eml.machine import Stopped, given_run_id, raise_on_signals, stop_with_parent

# Beside the commands of the recipes; each in the module of its name in eml.commands.
COMMANDS = ["plan", "gradients", "compare", "sheet2", "sheet3", "handin", "cancel", "data", "new"]


class Commands(click.Group):
    """The commands, each imported when it is asked for; torch and mlflow only when it works."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from eml.recipes import RECIPES

        return [*RECIPES, *COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            module = import_module(f"eml.commands.{name.rstrip('23')}")  # one for both sheets
            return typing.cast(click.Command, getattr(module, name))
        from eml.commands.launch import recipe_command
        from eml.recipes import RECIPES

        return recipe_command(RECIPES[name]) if name in RECIPES else None


@click.group(cls=Commands, context_settings={"max_content_width": 100})
@click.version_option(package_name="eml", message="eml %(version)s")
def cli() -> None:
    """Experiments of the course Embedded Machine Learning, tracked in MLflow."""


def main() -> None:
    """Run the command line. Show errors that the user can fix in one line."""
    # Python's default garbage collection takes 10 % of the start-up: imports make many objects.
    gc.set_threshold(100_000)
    raise_on_signals()
    if given_run_id():
        stop_with_parent()
    try:
        # standalone_mode=False: click raises its errors instead of printing a usage text.
        cli.main(args=sys.argv[1:] or ["--help"], prog_name="eml", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:  # `eml plan`
        print(error.ctx.get_help() if error.ctx else error)
    except (Stopped, UserError, click.ClickException) as error:
        message = _message(error)
        print(message if isinstance(error, Stopped) else f"eml: {message}", file=sys.stderr)
        if given_run_id():  # no run has begun: the one that `mlflow run` made tells why
            from eml.tracking import calls, runs

            with suppress(UserError):  # the store does not answer, or it is another run
                run_id = calls.store_call(runs.given_run, calls.SECONDS_TO_CLOSE)()
                if isinstance(error, Stopped):
                    runs.stop_run(run_id, str(error), ["RUNNING"], calls.SECONDS_TO_CLOSE)
                else:
                    runs.tag_run(run_id, {"error": message}, calls.SECONDS_TO_CLOSE)
        sys.exit(error.exit_code)
    except Exception:  # a bug: show its traceback, without passwords
        print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(1)


def _message(error: Stopped | UserError | click.ClickException) -> str:
    if isinstance(error, Stopped):
        after = f" after epoch {error.epoch}" if error.epoch else ""
        return f"stopped{after}; the same command goes on"
    if isinstance(error, UserError):
        return error.shown()
    message = printable(" ".join(error.format_message().split()), 1000)
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context and isinstance(error, click.NoSuchOption):
        options = context.command.get_params(context)  # --help is one of them
        valid = [option.opts[0] for option in options if isinstance(option, click.Option)]
        name = printable(error.option_name, 100)
        return f"no option {name} for {context.info_name}: give {', '.join(valid)}"
    if context and isinstance(context.command, click.Group):
        return f"{message} Give one of {', '.join(context.command.list_commands(context))}"
    return message
