"""The `eml` command: a subcommand for each recipe, made from its options, and the tools."""

import dataclasses
import inspect
import os
import sys
import tempfile
import traceback
import typing
from contextlib import suppress
from pathlib import Path

import click

from eml.analysis.options import CompareOptions
from eml.config import AUTO, DEVICES, one_of, resolve_convolution, resolve_device
from eml.data.cache import cache_file, fetch
from eml.data.download import Limits
from eml.data.specs import SPECS
from eml.errors import UserError
from eml.interrupts import Stopped, raise_on_signals, stop_with_parent
from eml.launch_options import PREFIX, LaunchOptions, SlurmOptions
from eml.launchers.slurm.script import script
from eml.models.exact_gradients import solve
from eml.recipes import RECIPES
from eml.recipes.gradients import SHEET, read_exercise
from eml.text import printable, redacted


@click.group(context_settings={"max_content_width": 100})
def cli():
    """Experiments of the course Embedded Machine Learning, tracked in MLflow."""


def recipe_command(name: str, **fixed) -> click.Command:
    """The command of a recipe: an option for each field of its options, with its default.

    fixed: values of options that the command does not have.
    """
    recipe = RECIPES[name]
    options_class = inspect.signature(recipe).parameters["options"].annotation

    def callback(**values):
        options = options_class(**values, **fixed)
        configs = recipe(options)
        from eml.commands.launch import launch

        launch(name, configs, options)

    command = _command(name, options_class, inspect.getdoc(recipe), callback)
    command.params = [option for option in command.params if option.name not in fixed]
    return command


class TrueOrFalse(click.Choice):
    """A truth value, typed out."""

    def convert(self, value, param, ctx):
        return super().convert(value, param, ctx) == "true"


def _command(name: str, options_class: type, help_text: str, callback) -> click.Command:
    parameters = []
    for field in dataclasses.fields(options_class):
        value_type, about = typing.get_args(field.type)
        default = field.default
        if value_type is bool:  # "--check true", as `mlflow run` passes it
            value_type, default = TrueOrFalse(("true", "false")), str(default).lower()
        parameters.append(
            click.Option(
                [f"--{field.name}"],
                type=value_type,
                default=default,
                show_default=True,
                help=about,
            )
        )
    return click.Command(name, callback=callback, params=parameters, help=help_text)


for _name in RECIPES:
    cli.add_command(recipe_command(_name))


@cli.group()
def plan():
    """Show what a recipe of several trainings is going to do, what of it is done, and how long the
    rest takes. Some batches of each kind are trained, to try them; nothing is kept.
    """


for _name, _recipe in RECIPES.items():
    if issubclass(inspect.signature(_recipe).parameters["options"].annotation, LaunchOptions):
        plan.add_command(recipe_command(_name, dry_run=True))


@cli.group()
def slurm_script():
    """Print a plain sbatch script for a single training: `eml slurm-script cifar_cnn > train.sh`,
    then `sbatch train.sh`. At its time limit it requeues itself and goes on in the same run.
    """


def _script_command(name: str, options_class: type) -> click.Command:
    recipe = RECIPES[name]
    combined = dataclasses.make_dataclass(
        "ScriptOptions", [], bases=(options_class, SlurmOptions), kw_only=True, frozen=True
    )

    def callback(**values):
        asked = {key: values.pop(key) for key in list(values) if key.startswith(PREFIX)}
        # What is not valid is refused here; but the job's machine may have a GPU that this lacks.
        if "device" in values:
            one_of("device", values["device"], DEVICES)
            (config,) = recipe(options_class(**values | {"device": "cpu", "precision": "fp32"}))
            device_type = "cpu" if values["device"] == "cpu" else "cuda"
            convolution = values.get("convolution", AUTO)
            dataclasses.replace(
                config,
                device_type=device_type,
                precision=values["precision"],
                convolution_type=resolve_convolution(convolution, config.model, device_type),
            )
        else:
            recipe(options_class(**values))
        settings = SlurmOptions(**asked).slurm_settings()
        differing = {
            field.name: values[field.name]
            for field in dataclasses.fields(options_class)
            if values.get(field.name, field.default) != field.default
        }
        click.echo(script(name, differing, settings), nl=False)

    command = _command(name, combined, inspect.getdoc(recipe), callback)
    # It is no array, and a script that begins afresh after each requeue has no end.
    unused = {PREFIX + "array_parallelism", PREFIX + "pack_minutes", "resume"}
    command.params = [option for option in command.params if option.name not in unused]
    return command


for _name, _recipe in RECIPES.items():
    _options = inspect.signature(_recipe).parameters["options"].annotation
    if not issubclass(_options, LaunchOptions):
        slurm_script.add_command(_script_command(_name, _options))


@cli.command()
@click.argument("run_id")
def cancel(run_id: str):
    """End the Slurm jobs of RUN_ID, a run of several trainings, and the runs that they train in."""
    from eml.launchers.slurm import launcher
    from eml.tracking import find, tags
    from eml.tracking.reap import begin

    begin()
    parent = find.get(run_id)
    seen = set()
    while tags.CONTINUED_IN in parent.tags:  # `mlflow run` has gone on with it in another
        if parent.run_id in seen:
            raise click.UsageError(f"{parent.name} is continued in itself: its tags were edited")
        seen.add(parent.run_id)
        parent = find.get(parent.tags[tags.CONTINUED_IN])
    if tags.PLAN_DIGEST not in parent.tags:
        raise click.UsageError(
            f"{parent.name} is no run of several trainings: give the run that it is part of"
            + (f", {parent.parent}" if parent.parent else "")
        )
    jobs = launcher.cancel(parent)
    click.echo(f"{parent.name}: {jobs} jobs ended" if jobs else f"{parent.name}: no job is left")


@cli.command()
@click.argument("run_ids", metavar="[RUN_ID]...", nargs=-1)
def reap(run_ids: tuple[str, ...]):
    """End runs that are RUNNING by the store, but whose process is gone, and list the others.

    RUN_ID ends a run that nothing here tells of, such as one that `mlflow run` left without conda.
    """
    from eml.tracking.reap import reap

    reap(run_ids)


def _compare(**values):
    from eml.commands.compare import compare

    compare(CompareOptions(**values))


cli.add_command(_command("compare", CompareOptions, inspect.getdoc(CompareOptions), _compare))


@cli.command()
@click.option(
    "--file",
    default="",
    help="TOML file with numbers in place of the sheet's; an absolute path for `mlflow run`",
)
@click.option(
    "--autograd",
    type=TrueOrFalse(("true", "false")),
    default="false",
    show_default=True,
    help="compare with PyTorch's automatic differentiation, too, which takes seconds to load",
)
def gradients(file: str, autograd: bool):
    """One step of gradient descent by hand: the 5-3-1 ReLU network of sheet 3, task 3.1.

    Every value is worked out in exact fractions, printed step by step, logged as metric, Markdown
    and CSV, and compared with central differences in exact fractions, where no step is too small.
    """
    exercise = read_exercise(Path(file)) if file else SHEET
    from eml.commands import gradients
    from eml.models import exact_check
    from eml.tracking import log, runs
    from eml.tracking.reap import begin

    begin(create=True)
    description = inspect.getdoc(gradients.callback)
    with runs.run("gradients", description, {"recipe": "gradients"}):
        solution = solve(exercise)
        click.echo(gradients.text(solution))
        log.log_metrics(exact_check.metrics(solution))
        with tempfile.TemporaryDirectory() as folder:
            gradients.write_files(solution, Path(folder))
            log.log_files(Path(folder))
        differences = exact_check.check(exercise, solution, autograd)
        log.log_metrics(differences)
        for name, value in differences.items():
            click.echo(f"{name.replace('_', ' ')}, largest: {value:g}")
        if len(differences) < 1 + autograd:
            click.echo("a hidden neuron is at ReLU's kink, where a comparison says nothing")
        click.echo(runs.where())


@cli.command()
@click.argument("dataset", type=click.Choice([*SPECS, "all"]), default="all")
@click.option(
    "--torchvision_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="an existing torchvision folder to look in first",
)
@click.option(
    "--min_rate",
    type=click.FloatRange(min=0),
    default=Limits.min_rate / 1e3,
    show_default=True,
    help="kB/s below which a source is left for the next; 0 waits for any",
)
def data(dataset: str, torchvision_dir: Path | None, min_rate: float):
    """Fetch and verify DATASET (all by default), and print where it is."""
    limits = Limits(min_rate=min_rate * 1e3) if min_rate else Limits(min_rate=0, total=float("inf"))
    for name in SPECS if dataset == "all" else [dataset]:
        arrays = fetch(name, torchvision_dir, limits)
        train, test = len(arrays["train_labels"]), len(arrays["test_labels"])
        click.echo(
            f"{SPECS[name].title}: {train} + {test} images, SHA-256 verified: {cache_file(name)}"
        )


@cli.command()
@click.argument("run_id")
@click.option("--device", default=AUTO, show_default=True, help="auto, cpu or cuda")
def evaluate(run_id: str, device: str):
    """Load the weights of RUN_ID and compare their accuracy with the logged one.

    Ends with exit code 1 if they differ by more than 0.1 percentage points, which another
    processor's rounding cannot explain; or 1 point, of a run with precision=tf32 or bf16.
    """
    device_type = resolve_device(device)
    from eml.tracking import models
    from eml.tracking.reap import begin
    from eml.training.loop import load_for, make_learner

    begin()
    config, weights, logged = models.load_model(run_id)
    bound = 1e-3 if config.precision == "fp32" else 1e-2
    if config.framework == "torch":
        config = dataclasses.replace(
            config,
            device_type=device_type,
            precision=config.precision if device_type == "cuda" else "fp32",
            convolution_type=resolve_convolution(AUTO, config.model, device_type),
        )
    learner = make_learner(config, load_for(config))
    try:
        learner.load_state(weights)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"the weights of run {run_id} are not those of its network") from error
    score = learner.evaluate(config.evaluated)
    click.echo(
        f"{config.run_name}: {config.evaluated} accuracy {score.accuracy:.4f} "
        f"on {score.examples} images, logged {logged:.4f}"
    )
    if not abs(score.accuracy - logged) <= bound:  # a NaN is no agreement
        click.echo("they differ", err=True)
        sys.exit(1)


def main() -> None:
    """Run the command line. What the user can mend is shown in a line, without a traceback."""
    raise_on_signals()
    # Our own output says where a run is; MLflow's would say it of each of many.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    given_run_id = os.environ.get("MLFLOW_RUN_ID")  # the id of the run that `mlflow run` made
    if given_run_id:
        stop_with_parent()
    try:
        # Without standalone mode click raises its errors instead of printing its usage text.
        cli.main(args=sys.argv[1:] or ["--help"], prog_name="eml", standalone_mode=False)
    except Stopped as stopped:
        print(f"eml: stopped by {stopped}", file=sys.stderr)
        if given_run_id:
            from eml.tracking import end

            with suppress(UserError):  # the store is away
                end.stop(given_run_id, stopped)
        sys.exit(stopped.exit_code)
    except (UserError, click.ClickException) as error:
        message = _one_line(error) if isinstance(error, click.ClickException) else error.shown()
        print(f"eml: {message}", file=sys.stderr)
        if given_run_id:
            from eml.tracking import end

            with suppress(UserError):  # that may be what the message says
                end.refuse(given_run_id, message)
        sys.exit(error.exit_code)
    except Exception:  # a fault of the program: its traceback is wanted, but no password in it
        print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(1)


def _one_line(error: click.ClickException) -> str:
    message = printable(" ".join(error.format_message().split()), 1000)
    if isinstance(error, click.NoSuchOption):
        valid = [p.opts[0] for p in error.ctx.command.params if isinstance(p, click.Option)]
        name = printable(error.option_name, 100)
        return f"no option {name} for {error.ctx.info_name}: give {', '.join(valid)}"
    if isinstance(error, click.UsageError) and isinstance(
        getattr(error.ctx, "command", None), click.Group
    ):
        return f"{message} Give one of {', '.join(error.ctx.command.commands)}"
    return message
