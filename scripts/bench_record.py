"""What every benchmark records beside its figures: the machine, the versions, the date."""

import argparse
import datetime
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(width=80, highlight=False)
log = Console(stderr=True, highlight=False)


def conditions(packages: Sequence[str]) -> dict[str, Any]:
    """Date, machine and versions, as JSON values.

    Returns
    -------
    dict
        `load_average` is that of the last minute, None where the system has none: with other work on the machine
        the figures are too high. `versions` has None for a package that is not installed.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
    }


def cpu_name() -> str:
    """As the system calls it."""
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def print_conditions(found: dict[str, Any]) -> None:
    machine = found["machine"]
    console.print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']:.1f}, {found['date']}")
    console.print(", ".join(f"{name} {number or 'missing'}" for name, number in found["versions"].items()))


def print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose others are figures."""
    table = Table(title=title, title_justify="left", title_style="", box=None, header_style="bold", pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)


def write_json(record: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"\nwritten to {file}")


def at_least_one(text: str) -> int:
    """Read a whole number from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}; expected at least 1")
    return number


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
