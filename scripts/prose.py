"""Sentences of the README and the pages: none longer than 35 words, none with "What" as its subject.

    python scripts/prose.py [FILE...]

Code, formulas and links' targets do not count. A cell of a table and an item of a list are sentences of their own.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 35
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")]
PAGES += sorted(ROOT.glob("docs/**/*.md"))
_APART = re.compile(r"^\s*(?:#{1,6} |[-*] |\d+\. |> |!!! |\?\?\? |===|\||:::|<)")
_END = re.compile(r"(?<=[.!?])[)\"'”*_]*\s+(?=[\"'“(*_`]*[A-Z0-9`])")
_NO_END = re.compile(r"\b(?:e\.g|i\.e|et al|eq|Fig|vs|cf)\.$")


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """The first line's number and the text of each paragraph, cell and item, without code."""
    gathered, first, fenced, front = list[str](), 0, False, text.startswith("---\n")
    for number, line in enumerate(text.splitlines(), 1):
        if front:
            front = not (line == "---" and number > 1)
            continue
        is_fence = line.lstrip().startswith(("```", "~~~"))
        is_code = fenced or is_fence or (line.startswith("    ") and not gathered)
        fenced ^= is_fence
        if is_code or not line.strip() or _APART.match(line):
            if gathered:
                yield first, " ".join(gathered)
            gathered = []
            if is_code or not line.strip():
                continue
            if line.lstrip().startswith("|"):
                yield from ((number, cell) for cell in line.strip().strip("|").split(" | "))
                continue
        first = first if gathered else number
        gathered.append(line.strip())
    if gathered:
        yield first, " ".join(gathered)


def sentences(paragraph: str) -> Iterator[str]:
    """Its sentences, without marks of Markdown; code and formulas are one word each."""
    plain = re.sub(r"``.+?``|`[^`]+`|\\\(.+?\\\)|\\\[.+?\\\]|\$[^$]+\$", "Code", paragraph)
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain)
    plain = re.sub(r"<[^>]+>|^\s*(?:#+|[-*]|\d+\.|>)\s+|[*_]{1,3}", "", plain)
    held = ""
    for part in _END.split(plain):
        held = f"{held} {part}".strip()
        if not _NO_END.search(held):
            yield held
            held = ""
    if held:
        yield held


def faults(path: Path) -> Iterator[str]:
    """Every sentence that breaks a rule, with its place."""
    for line, paragraph in paragraphs(path.read_text(encoding="utf-8")):
        for sentence in sentences(paragraph):
            words = len(re.findall(r"[^\s\w]*\w\S*", sentence))
            where = f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}"
            if words > LONGEST:
                yield f"{where}: {words} words, {LONGEST} are allowed: {sentence}"
            if re.match(r"What\b", sentence) and not sentence.endswith("?"):
                yield f'{where}: "What" is the subject: {sentence}'


def main() -> int:
    """Print the faults; 1 where there are some."""
    found = [fault for path in [Path(name) for name in sys.argv[1:]] or PAGES for fault in faults(path)]
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
