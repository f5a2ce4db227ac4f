"""The command `surprisal`."""

from importlib.metadata import version
from typing import Annotated

import typer

from bundle.errors import BundleError, BundleNotFound
from reading.errors import FileInvalid, NotRead
from surprisal.cli import demo, evaluate, explore, inspect, models, score, serve, train
from surprisal.cli.failure import CALL_WRONG, WORK_FAILED, fail

app = typer.Typer(
    name="surprisal",
    help="Anomaly scores from variational autoencoders: train a model, score files, serve it over HTTP.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version("surprisal-vae"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What any command takes."""


app.command("train")(train.train)
app.command("score")(score.score_file)
app.command("serve")(serve.serve)
app.command("evaluate")(evaluate.evaluate)
app.command("explore")(explore.explore)
app.command("inspect")(inspect.inspect)
app.command("demo")(demo.demo)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line; exit code 0 = done, 1 = the work failed, 2 = the call was wrong, 130 = stopped."""
    try:
        app()
    except BundleNotFound as error:
        fail(error, CALL_WRONG)
    except NotRead as error:
        fail(error, CALL_WRONG)
    except (BundleError, FileInvalid) as error:
        fail(error, WORK_FAILED)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        fail(f"{place}{error.strerror or error}", WORK_FAILED)


if __name__ == "__main__":
    main()
