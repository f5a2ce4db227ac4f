"""Whether the packages that are imported are the ones that lie beside this one."""

from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_OURS = ("bundle", "reading", "service", "training")
_OTHER = "surprisal"
"""What another project is called on the package index: surprisals of texts. Ours is `surprisal-vae`."""


def require() -> None:
    """Check the four packages that this one imports.

    Raises:
        ImportError: A folder or another package hides one of them, or the other project is installed as well.
    """
    for name in _OURS:
        found = find_spec(name)
        places = [] if found is None else [Path(each).parent for each in found.submodule_search_locations or ()]
        if found is not None and not places and found.origin is not None:
            places = [Path(found.origin).parent]
        if _ROOT not in places:
            instead = f"the one in {places[0]} hides it: rename that, or run elsewhere" if places else "it is not there"
            raise ImportError(f"surprisal needs its own package {name!r} in {_ROOT}, and {instead}", name=name)
    try:
        summary = metadata(_OTHER)["Summary"] or ""
    except PackageNotFoundError:
        return
    if "variational autoencoders" not in summary:  # an older release of ours had that name
        raise ImportError(
            "another project called 'surprisal' is installed as well, and both have a package of that name: "
            "pip uninstall surprisal, then pip install --force-reinstall surprisal-vae",
            name=_OTHER,
        )
