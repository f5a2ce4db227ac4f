"""`surprisal demo`: simulate card payments, train on them, serve, and print what to try."""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from surprisal.cli.failure import WORK_FAILED, fail, needs_training
from surprisal.cli.progress import Progress

FOLDER = Path("demo")
NAME = "transactions"
ROWS, SEED = 24_000, 7
PAYMENT = {
    "amount": 31.40, "hour": 17, "merchant_category": "groceries", "country": "SE", "channel": "contactless",
    "card_present": True, "new_merchant": False, "distance_km": 3.2, "minutes_since_last": 410,
    "transactions_24h": 2, "average_amount_30d": 29.80,
}  # fmt: skip
FRAUD = PAYMENT | {
    "amount": 400.00, "merchant_category": "cash", "country": "PL", "channel": "atm", "distance_km": 84.0,
    "minutes_since_last": 12, "transactions_24h": 8,
}  # fmt: skip


def demo(
    port: Annotated[int, typer.Option(help="Port to serve on, on 127.0.0.1.")] = 8000,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the model once there is one.")] = True,
) -> None:
    """Train on simulated card payments (once) and serve the model."""
    from bundle.folder import store
    from service.process import start
    from service.settings import settings as settings_of

    models = FOLDER / "models"
    settings = settings_of(models=models, port=port, default_model=NAME, workers=1)
    if not store.versions(models, NAME):
        FOLDER.mkdir(exist_ok=True)
        # Where nothing is served nobody is there to look at the payments, and no place to keep them.
        with contextlib.nullcontext(str(FOLDER)) if serve else tempfile.TemporaryDirectory() as folder:
            _train(Path(folder) / "transactions.parquet", models)
    if not serve:
        return
    _print_commands(port)
    raise SystemExit(start.run(settings))


def _train(path: Path, models: Path) -> None:
    told = Progress()
    try:
        import pyarrow.parquet

        from surprisal.cli import train
        from training import config
        from training.data import transactions
        from training.data.read import read
        from training.errors import TrainingError
    except ImportError as error:
        needs_training(error)
    pyarrow.parquet.write_table(transactions.simulate(ROWS, SEED), path)
    told.say(f"simulated {ROWS:,} card payments: {path}")
    settings = config.build({"data": {"label": transactions.LABEL, "normal": transactions.NORMAL}})
    try:
        trained = train.run(read(path), models, NAME, settings, "auto", False, told)
    except TrainingError as error:
        fail(error, WORK_FAILED)
    train.summarise(trained, models, told)


def _print_commands(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    print("\nPaste into another terminal:\n")
    for what, command in (
        ("a normal payment", _curl(url, PAYMENT)),
        ("a fraud: a cloned card at a foreign cash machine, and why it is strange", _curl(url, FRAUD, explain=True)),
        ("the API's page", f"python3 -m webbrowser {url}/docs"),
    ):
        print(f"# {what}\n{command}\n", flush=True)


def _curl(url: str, record: dict[str, Any], **members: Any) -> str:
    body = json.dumps({"records": [record], **members})
    return f"curl -s {url}/score -H 'Content-Type: application/json' -d '{body}'"
