"""The command `surprisal`."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bundle import wording
from bundle.errors import BundleError, BundleNotFound, BundleRefused
from reading.errors import FileInvalid, NotRead
from surprisal.cli import demo, evaluate, examples, explore, inspect, models, processes, score, serve, train, wrong_call
from surprisal.cli.failure import CALL_WRONG, STOPPED, WORK_FAILED, fail

app = typer.Typer(
    name="surprisal",
    help="Anomaly scores from variational autoencoders: train a model, score files, serve it over HTTP.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The base of all that the parser raises of a wrong call, which typer does not name."""


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


app.command("train", epilog=examples.epilog("train"))(train.train)
app.command("score", epilog=examples.epilog("score"))(score.score_file)
app.command("serve", epilog=examples.epilog("serve"))(serve.serve)
app.command("evaluate", epilog=examples.epilog("evaluate"))(evaluate.evaluate)
app.command("explore", epilog=examples.epilog("explore"))(explore.explore)
app.command("inspect", epilog=examples.epilog("inspect"))(inspect.inspect)
app.command("demo", epilog=examples.epilog("demo"))(demo.demo)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line; exit code 0 = done, 1 = the work failed, 2 = the call was wrong, 130 = stopped."""
    with processes.one_voice():
        _run()


def _run() -> None:
    try:
        # Else the parser would say itself what is wrong, partly in another library's words.
        app(prog_name="surprisal", standalone_mode=False)
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # The help has been shown.
            raise SystemExit(CALL_WRONG) from error
        fail(wrong_call.said(error, _commands(error)), CALL_WRONG)
    except typer.Abort:
        fail("stopped", STOPPED)
    except wording.Unfit as error:
        fail(error, CALL_WRONG)
    except BundleNotFound as error:
        fail(error, CALL_WRONG)
    except BundleRefused as error:
        fail(error.whole, WORK_FAILED)
    except NotRead as error:
        fail(error, CALL_WRONG)
    except (BundleError, FileInvalid) as error:
        fail(error, WORK_FAILED)
    except OSError as error:
        place = f"{_named(Path(str(error.filename)))}: " if error.filename else ""
        fail(f"{place}{wording.of_system(error)}", WORK_FAILED)


def _named(path: Path) -> Path:
    """A place as a person knows it: what is written beside it first has a name that nobody gave it."""
    for part in (path, *path.parents):
        if part.name.startswith(".writing-"):
            return part.parent
    return path


def _commands(error: Exception) -> list[str]:
    """The names of the commands that there are where a call went wrong."""
    group = getattr(getattr(error, "ctx", None), "command", None)
    return list(getattr(group, "commands", {}))


if __name__ == "__main__":
    main()
