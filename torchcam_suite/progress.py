"""A progress bar for long work, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar that follows `update(done, total)`; it starts anew where `done` does, and vanishes at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update


def reporting(
    description: str, progress: bool | Callable[[int, int], None]
) -> AbstractContextManager[Callable[[int, int], None] | None]:
    """What a ``with`` block reports to: a bar, the function that the caller gave, or nothing."""
    return progress_bar(description) if progress is True else nullcontext(progress or None)
