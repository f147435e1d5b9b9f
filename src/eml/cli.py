"""The `eml` command line: a subcommand for each recipe, made from its options, and tools."""

import dataclasses
import gc
import inspect
import json
import sys
import traceback
import typing
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout, suppress
from functools import partial
from importlib import import_module
from pathlib import Path

import click

from eml.analysis.options import CompareOptions
from eml.config import AUTO
from eml.data.cache import cache_file, fetch
from eml.data.specs import SPECS
from eml.errors import UserError
from eml.exact import command as exact
from eml.handin.options import FormOptions, SheetOptions, StoresOptions
from eml.interrupts import Stopped, raise_on_signals, stop_with_parent
from eml.launchers.options import LaunchOptions
from eml.recipes import RECIPES
from eml.recipes.recipe import Recipe
from eml.text import printable, redacted
from eml.tracking import mlflow_run

# torch and mlflow take seconds to import, so each command imports its own modules.


@click.group(context_settings={"max_content_width": 100})
def cli() -> None:
    """Experiments of the course Embedded Machine Learning, tracked in MLflow."""


class TrueOrFalse(click.Choice):
    """A boolean as text ("--check true"), because `mlflow run` passes text."""

    def __init__(self) -> None:
        super().__init__(("true", "false"))

    def convert(self, value: object, *context: typing.Any) -> bool:
        return value if isinstance(value, bool) else super().convert(value, *context) == "true"


def options_of(*classes: type) -> list[click.Parameter]:
    """A click option for each field of these dataclasses, with type, default and help."""
    options: list[click.Parameter] = []
    for field in (field for class_ in classes for field in dataclasses.fields(class_)):
        value_type, about = typing.get_args(field.type)
        default = field.default
        if value_type is bool:
            value_type, default = TrueOrFalse(), str(default).lower()
        options.append(
            click.Option(
                [f"--{field.name}"], type=value_type, default=default, show_default=True, help=about
            )
        )
    return options


LAUNCHING = [field.name for field in dataclasses.fields(LaunchOptions)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForPrograms:
    """The option of commands whose result a program may read."""

    json: typing.Annotated[bool, "print the result as JSON, and the text to stderr"] = False


def _print_result(as_json: bool, carry_out: Callable[[], typing.Any]) -> None:
    """Call a function that prints its result as text and returns it for JSON."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        result = carry_out()
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))


def recipe_command(
    recipe: Recipe, carry_out: Callable[..., typing.Any], *others: type
) -> click.Command:
    """The command of a recipe, with the recipe's options, LaunchOptions, and those of `others`.

    carry_out: called with the recipe, its Configs, the recipe's options and LaunchOptions.
    """

    def callback(json: bool = False, **values: typing.Any) -> None:
        launching = LaunchOptions(**{name: values.pop(name) for name in LAUNCHING})
        options = recipe.options(**values)
        configs = recipe.configs(options)
        _print_result(json, lambda: carry_out(recipe, configs, options, launching))

    parameters = options_of(recipe.options, LaunchOptions, *others)
    return click.Command(recipe.name, callback=callback, params=parameters, help=recipe.about)


def _launch(*arguments: typing.Any) -> None:
    from eml.commands.launch import launch

    launch(*arguments)


def _plan(*arguments: typing.Any) -> dict[str, typing.Any]:
    from eml.commands.plan import plan

    return plan(*arguments)


@click.group()
def plan() -> None:
    """Show the status of a recipe's trainings, and the time that the unfinished ones take.

    Measures a few batches of each kind of training, and logs nothing.
    """


for _recipe in RECIPES.values():
    cli.add_command(recipe_command(_recipe, _launch))
    plan.add_command(recipe_command(_recipe, _plan, ForPrograms))
cli.add_command(plan)


def _tool(name: str, options_class: type, json: bool = False, **values: typing.Any) -> None:
    options = options_class(**values)  # refused before anything is imported that takes time
    carry_out = getattr(import_module(f"eml.commands.{name}"), name)
    _print_result(json, lambda: carry_out(options))


cli.add_command(
    click.Command(
        "gradients",
        callback=lambda **values: exact.gradients(exact.Options(**values)),
        params=options_of(exact.Options),
        help=exact.ABOUT,
    )
)
# Name, help, options, and options for programs, of the commands whose module and function have the
# same name.
_TOOLS: tuple[tuple[str, str | None, type, *tuple[type, ...]], ...] = (
    ("compare", inspect.getdoc(CompareOptions), CompareOptions, ForPrograms),
)
for _name, _about, *_classes in _TOOLS:
    cli.add_command(
        click.Command(
            _name,
            callback=partial(_tool, _name, _classes[0]),
            params=options_of(*_classes),
            help=_about,
        )
    )


def _sheet(name: str, **values: typing.Any) -> None:
    launching = LaunchOptions(**{name: values.pop(name) for name in LAUNCHING})
    from eml.commands.sheet import sheet

    sheet(name, SheetOptions(**values), launching)


for _name in ("sheet2", "sheet3"):
    cli.add_command(
        click.Command(
            _name,
            callback=partial(_sheet, _name),
            params=options_of(SheetOptions, LaunchOptions),
            help=f"""Train all that exercise sheet {_name[-1]} asks for, then make its hand-in.

            Says beforehand what is missing and how long it takes; skips what the store has. The
            PDF, the zip and the form to fill in are made in the folder ex{_name[-1]}.
            """,
        )
    )


@cli.group()
def handin() -> None:
    """Make the hand-in of a sheet from the store: one PDF, and a zip beside it.

    init writes the form, handin.toml, to be filled in. check says what the sheet still asks for.
    build makes the PDF and the zip. numbers lists the numbers that a text may name. verify works
    out every number and figure of a zip again.
    """


def _handin(name: str, **values: typing.Any) -> None:
    from eml.commands import handin

    getattr(handin, name)(**values)


_HANDIN: tuple[tuple[str, list[click.Parameter], str], ...] = (
    (
        "init",
        [click.Argument(["sheet"]), *options_of(FormOptions)],
        "Write the form of SHEET, ex3-2025 say; or add to an existing form what it lacks.",
    ),
    (
        "build",
        options_of(FormOptions, StoresOptions),
        "Make the PDF and the zip beside the form. A draft if trainings are too short.",
    ),
    (
        "check",
        [
            click.Argument(["archives"], type=Path, nargs=-1, metavar="[ZIP]..."),
            *options_of(FormOptions, StoresOptions),
        ],
        "Say of each rule of the sheet whether it is met; of ZIPs in a table. Exit code 1 if not.",
    ),
    (
        "verify",
        [click.Argument(["path"], type=Path, metavar="ZIP"), *options_of(StoresOptions)],
        "Work out all numbers, figures and the PDF of ZIP again. Exit code 1 if one differs.",
    ),
    (
        "numbers",
        options_of(FormOptions, StoresOptions),
        "List the numbers that a text of the form may name, as {{mlp_numpy.best_epoch}}.",
    ),
)
for _name, _params, _about in _HANDIN:
    handin.add_command(
        click.Command(_name, callback=partial(_handin, _name), params=_params, help=_about)
    )


@cli.command()
@click.argument("run_id")
def cancel(run_id: str) -> None:
    """End the jobs of the parent run RUN_ID, and the runs of their trainings."""
    from eml.commands.cancel import cancel

    cancel(run_id)


@cli.command()
@click.argument("run_ids", metavar="[RUN_ID]...", nargs=-1)
def reap(run_ids: tuple[str, ...]) -> None:
    """End runs that are RUNNING in the store although their process died, and list the others.

    RUN_ID: end this run too, although this machine cannot tell whether its process lives, for
    example a run that `mlflow run` left behind without conda.
    """
    from eml.tracking.reap import reap

    reap(run_ids)


@cli.command()
@click.argument("dataset", type=click.Choice([*SPECS, "all"]), default="all")
@click.option(
    "--torchvision_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="an existing torchvision folder to look in first",
)
def data(dataset: str, torchvision_dir: Path | None) -> None:
    """Fetch and verify DATASET (all by default), and print the path of its file."""
    for name in SPECS if dataset == "all" else [dataset]:
        arrays = fetch(name, torchvision_dir)
        train, test = len(arrays["train_labels"]), len(arrays["test_labels"])
        click.echo(
            f"{SPECS[name].title}: {train} + {test} images, SHA-256 verified: {cache_file(name)}"
        )


@cli.command()
@click.argument("id")
@click.option("--device", default=AUTO, show_default=True, help="auto, cpu or cuda")
def evaluate(id: str, device: str) -> None:
    """Load the weights of a run or a model by its ID; compare their accuracy with the logged one.

    The weights of a run are those after its last epoch.

    Exits with code 1 if the accuracies differ by more than 0.1 percentage points, which another
    processor's rounding cannot explain (1 point for precision=tf32 or bf16).
    """
    from eml.commands.evaluate import evaluate

    evaluate(id, device)


def main() -> None:
    """Run the command line. Show errors that the user can fix in one line."""
    # Python's default garbage collection takes 10 % of the start-up: imports make many objects.
    gc.set_threshold(100_000)
    raise_on_signals()
    mlflow_run.keep_quiet()
    given_run_id = mlflow_run.given_run_id()
    if given_run_id:
        stop_with_parent()
    try:
        # standalone_mode=False: click raises its errors instead of printing a usage text.
        cli.main(args=sys.argv[1:] or ["--help"], prog_name="eml", standalone_mode=False)
    except Stopped as stopped:
        print(f"eml: stopped by {stopped}", file=sys.stderr)
        if given_run_id:
            from eml.tracking import end

            with suppress(UserError):  # the store does not answer
                end.stop(given_run_id, stopped)
        sys.exit(stopped.exit_code)
    except (UserError, click.ClickException) as error:
        message = _one_line(error) if isinstance(error, click.ClickException) else error.shown()
        print(f"eml: {message}", file=sys.stderr)
        if given_run_id:
            from eml.tracking import end

            with suppress(UserError):  # the message may say that the store does not answer
                command = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in cli.commands else ""
                end.refuse(given_run_id, message, command)
        sys.exit(error.exit_code)
    except Exception:  # a bug: show its traceback, without passwords
        print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(1)


def _one_line(error: click.ClickException) -> str:
    message = printable(" ".join(error.format_message().split()), 1000)
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context and isinstance(error, click.NoSuchOption):
        valid = [p.opts[0] for p in context.command.params if isinstance(p, click.Option)]
        name = printable(error.option_name, 100)
        return f"no option {name} for {context.info_name}: give {', '.join(valid)}"
    if context and isinstance(context.command, click.Group):
        return f"{message} Give one of {', '.join(context.command.commands)}"
    return message
