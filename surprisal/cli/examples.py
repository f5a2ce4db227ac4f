"""Calls that work, as `--help` of each command shows them; the tests make every one of them."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (
        "surprisal train payments.csv --label fraud --normal no",
        "surprisal train payments.csv --schema-only > payments.toml",
        "surprisal train payments.csv --config payments.toml --json",
    ),
    "score": (
        "surprisal score models/payments new.csv scored.csv --explain",
        "surprisal score models/payments new.csv strangest.csv --top 20",
        "cat new.ndjson | surprisal score models/payments - -",
    ),
    "serve": (
        "surprisal serve",
        "surprisal serve --models models --port 8080 --workers 2",
        "SURPRISAL_LOG_FORMAT=json surprisal serve",
    ),
    "evaluate": (
        "surprisal evaluate models/payments payments.csv --label fraud --normal no",
        "surprisal evaluate models/payments payments.csv --label fraud --normal no --curves curves.png",
        "surprisal evaluate models/payments new.csv --log-likelihood 256 --json",
    ),
    "explore": (
        "surprisal explore models/scans scans.npz --out scans.html",
        "surprisal explore models/scans scans.npz --out both.html --other other.npz",
    ),
    "inspect": (
        "surprisal inspect models/payments",
        "surprisal inspect models/payments/1 --json",
    ),
    "demo": (
        "surprisal demo",
        "surprisal demo --port 8001",
        "surprisal demo --no-serve",
    ),
    "list": (
        "surprisal models list",
        "surprisal models list models --json",
    ),
    "promote": ("surprisal models promote models/payments/1",),
    "rollback": ("surprisal models rollback models/payments",),
    "unpin": ("surprisal models unpin models/payments",),
    "shadow": (
        "surprisal models shadow models/payments/1",
        "surprisal models shadow models/payments --off",
    ),
    "sign": (
        "openssl genpkey -algorithm ed25519 -out private.pem",
        "surprisal models sign models/payments/1 --key private.pem",
    ),
    "verify": (
        "surprisal models verify models",
        "openssl pkey -in private.pem -pubout -out public.pem",
        "surprisal models verify models/payments/1 --key public.pem",
    ),
    "prune": ("surprisal models prune models/payments --keep 2",),
}
"""By the command's name."""


def epilog(command: str) -> str:
    """What stands below the options of a command.

    Args:
        command: Its name.
    """
    # A paragraph each, or they would be joined.
    return "\n\n".join(("Examples:", *EXAMPLES[command]))
