"""The code blocks of README and docs, and the commands of a shell block."""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts))

# a word of a command: quoted parts may hold spaces
_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\\.|[^\s'"\\])+""")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)"|\\(.)""")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes
    ----------
    page : str
        Path of the page in the repository.
    line : int
        Number of its first line of code.
    language : str
        What stands behind the fence; empty where nothing does, "indented" for a block without a fence.
    code : str
    """

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a shell block.

    Attributes
    ----------
    words : tuple of (str, bool)
        Each word without its quotes, and whether it is a pattern of file names to the shell.
    status : int
        With which it is to end, as a comment "# exit status 3" says.
    """

    words: tuple[tuple[str, bool], ...]
    status: int

    def arguments(self, folder: Path) -> list[str]:
        """The words as the shell hands them over in a folder."""
        found: list[str] = []
        for word, pattern in self.words:
            names = sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if pattern else []
            found += names or [word]
        return found


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """All code blocks of a page, in their order."""
    name = page.relative_to(ROOT).as_posix()
    tokens = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8") if text is None else text)
    found = []
    for token in tokens:
        if token.type in ("fence", "code_block") and token.map is not None:
            fenced = token.type == "fence"
            language = token.info.strip() if fenced else "indented"
            found.append(Block(name, token.map[0] + 1 + fenced, language, token.content))
    return found


def runs_a_script(page: Path) -> bool:
    """Whether a command of the page is one of `scripts/`, which takes seconds at its smallest."""
    blocks = (block for block in blocks_of(page) if block.language == "sh")
    return any(command.words[0][0] == "python" for block in blocks for command in commands_of(block.code))


def commands_of(code: str) -> list[Command]:
    """The commands of a shell block: continued lines joined, comments taken off.

    Raises
    ------
    ValueError
        Something that is no plain command, as a pipe, a variable or an open quote.
    """
    lines = [(line, _words(line)) for line in code.replace("\\\n", " ").splitlines()]
    return [Command(words, _status(line)) for line, words in lines if words]


def _words(line: str) -> tuple[tuple[str, bool], ...]:
    found: list[tuple[str, bool]] = []
    end = 0
    for match in _WORD.finditer(line):
        if match[0].startswith("#"):
            return tuple(found)
        bare = _QUOTED.sub("", match[0])
        if line[end : match.start()].strip() or re.search(r"[|&;<>$`~{}]", bare):
            raise ValueError(f"{line!r} is no plain command")
        end = match.end()
        word = _QUOTED.sub(lambda part: part[1] or part[2] or part[3] or "", match[0])
        found.append((word, re.search(r"[*?\[]", bare) is not None))
    if line[end:].strip():
        raise ValueError(f"{line!r} has an open quote")
    return tuple(found)


def _status(line: str) -> int:
    said = re.search(r"#.*\bexit status (\d+)", line)
    return int(said[1]) if said else 0
