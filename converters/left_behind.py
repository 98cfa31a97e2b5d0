"""What runs that were killed left behind: hidden files and folders of an ending that nothing else has."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["ENDING", "remove_left_behind"]

ENDING = ".torchcam-part"
_A_DAY = 24 * 60 * 60
_LOOKED_AT: set[Path] = set()


def remove_left_behind(folder: Path) -> None:
    """Remove the temporary files and folders to which nobody has written for a day, once in a process and folder.

    Whoever still writes does so more often; a number of the process in the name would not tell, since containers that
    share a folder may give the same one.

    Parameters
    ----------
    folder : Path
        Where files and folders are written under a hidden name with `ENDING`, and then renamed.
    """
    folder = folder.absolute()
    if folder in _LOOKED_AT:  # thousands of pictures may be written there
        return
    _LOOKED_AT.add(folder)
    found: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:  # one may write where one may not look
        found = [Path(entry.path) for entry in entries if entry.name.startswith(".") and entry.name.endswith(ENDING)]
    for path in found:
        with suppress(OSError):  # of another user, or gone in the meantime
            if time.time() - _last_written(path) > _A_DAY:
                shutil.rmtree(path) if _is_folder(path) else path.unlink()


def _last_written(path: Path) -> float:
    return max(one.lstat().st_mtime for one in (path, *(path.iterdir() if _is_folder(path) else ())))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
