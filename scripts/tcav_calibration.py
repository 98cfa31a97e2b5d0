"""How often the significance tests of TCAV call a concept significant: one that means nothing, and one that does.

In each draw, probes are trained between random sets of 20 pictures, and between them and three concepts: a null one,
whose pictures are drawn as those of the random sets are, so that to call it significant is an error; and two that are
planted, a weak and a strong one. tcav_calibration_worlds.py says how. A test that keeps its level of 5 % calls 5 % of
the null concepts significant, up to the chance of the draws; its power is the share of the planted ones that it finds.

"scores alone" is `calibrated` without the mean sensitivity that decides between sets of the same score. All draws of a
probe are made with the largest number of random sets; fewer are the first ones of the same draw.

And how often the 95 % interval of a score holds it: tcav_calibration_intervals.py.

Writes the tables between two markers of docs/concepts.md, and docs/tcav-calibration.json. Needs
`pip install -e .[keras]` and SciPy; scikit-learn for the probe `sgd`. From the repository root; takes about a quarter
of an hour of one core:

    python scripts/tcav_calibration.py
    python scripts/tcav_calibration.py --again  # only writes the page, from the JSON that is there
    python scripts/tcav_calibration.py --draws 50 --probes ridge --worlds synthetic --page /tmp/page.md
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import tcav_calibration_intervals
import torch
from bench_record import at_least_one, conditions, log, print_conditions, print_table, write_json
from tcav_calibration_worlds import (
    CONCEPTS,
    LAYERS,
    NULL,
    PICTURES,
    STRONG,
    WEAK,
    Drawn,
    Synthetic,
    World,
    creatures,
    demo_model,
)
from torch import Tensor

from torchcam_suite.concepts.gram import Planes, fit
from torchcam_suite.concepts.probes import PROBES
from torchcam_suite.concepts.significance import TESTS, Runs, calibrated
from torchcam_suite.concepts.testing import measure
from torchcam_suite.concepts.training import LayerProbes

LEVEL = 0.05
SIZES = 19, 20, 39  # random sets
SHOWN = 20
SLOW = ("sgd",)  # is trained one probe at a time
SCORES_ALONE = "scores alone"
BEGIN, END = "<!-- tcav_calibration.py writes from here -->", "<!-- to here -->"
PACKAGES = "torchcam-suite", "torch", "numpy", "scipy", "scikit-learn"

Row = dict[str, Any]


def main() -> int:
    options = _options()
    record = json.loads(options.out.read_text(encoding="utf-8")) if options.again else _measured(options)
    for title, header, lines in tables(record):
        print_table(title, [name.replace(SCORES_ALONE, "scores\nalone") for name in header], lines)
    if not options.again:
        write_json(record, options.out)
    if options.page.exists():
        options.page.write_text(filled(options.page.read_text(encoding="utf-8"), section(record)), encoding="utf-8")
    return 0


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)  # the problems are small: with more, each operation waits for the other threads
    found = conditions(PACKAGES)
    print_conditions(found)
    rows: list[Row] = []
    for world in _worlds(options):
        for probe in options.probes:
            draws = options.slow_draws if probe in SLOW else options.draws
            sets = [size for size in options.sets if size <= SHOWN] if probe in SLOW else options.sets
            started = time.perf_counter()
            rows += count(world, probe, draws, sets)
            log.print(f"{', '.join(world.settings)}: {probe}, {draws} draws, {time.perf_counter() - started:.0f} s")
    settings = {"level": LEVEL, "pictures": PICTURES, "sets": options.sets, "shown": SHOWN}
    intervals = tcav_calibration_intervals.count(options.draws)
    return found | {"settings": settings, "rows": rows, "intervals": intervals}


# ---------------------------------------------------------------- counting


def count(world: World, probe: str, draws: int, sets: Sequence[int]) -> list[Row]:
    """In how many draws each test calls each concept significant, with the first of so many random sets."""
    significant: Counter[tuple[str, int, str, str]] = Counter()
    for number in range(draws):
        for (setting, concept), runs in runs_of(world.draw(number, max(sets)), probe, seed=number).items():
            for size in sets:
                for test, p in p_values(first(runs, size)).items():
                    significant[setting, size, concept, test] += p <= LEVEL
    about = {"probe": probe, "draws": draws}
    return [
        {"setting": setting, "sets": size, "concept": concept}
        | about
        | {"significant": {test: significant[setting, size, concept, test] for test in [*TESTS, SCORES_ALONE]}}
        for setting in world.settings
        for size in sets
        for concept in CONCEPTS
    ]


def runs_of(drawn: Drawn, probe: str, seed: int) -> dict[tuple[str, str], Runs]:
    """What the probes give for each setting and concept."""
    blocks = torch.arange(len(drawn.gram)).view(-1, PICTURES)
    sets = len(blocks) - len(CONCEPTS)

    def planes(pairs: Sequence[tuple[int, int]]) -> Planes:
        rows = torch.stack([torch.cat([blocks[one], blocks[other]]) for one, other in pairs])
        return fit(drawn.gram, rows, _labels(), probe, seed=seed)

    by_concept = {
        concept: planes([(i, other) for other in range(sets)]) for i, concept in enumerate(CONCEPTS, start=sets)
    }
    probes = LayerProbes(
        activations=np.empty((0, 0)),  # the planes need their products only
        planes=by_concept,
        chance={PICTURES: planes(list(combinations(range(sets), 2)))},
        accuracies={},
        sizes=dict.fromkeys(CONCEPTS, PICTURES),
        centred=False,
    )
    return {
        (setting, concept): measured.runs
        for setting, cross in drawn.cross.items()
        for concept, measured in measure(probes, cross).items()
    }


def _labels() -> Tensor:
    return torch.tensor([1.0] * PICTURES + [-1.0] * PICTURES, dtype=torch.float64)


def first(runs: Runs, size: int) -> Runs:
    """The same with the first random sets only."""
    some = slice(size)
    return Runs(
        **{part.name: getattr(runs, part.name)[(some,) * getattr(runs, part.name).ndim] for part in fields(runs)}
    )


def p_values(runs: Runs) -> dict[str, float]:
    """Of each test, and of `calibrated` by the scores alone."""
    alone = replace(
        runs,
        sensitivities=np.zeros_like(runs.sensitivities),
        random_sensitivities=np.zeros_like(runs.random_sensitivities),
    )
    return {test: function(runs) for test, function in TESTS.items()} | {SCORES_ALONE: calibrated(alone)}


# ---------------------------------------------------------------- telling


def section(record: dict[str, Any]) -> str:
    """What stands between the markers: the tables in Markdown."""
    parts = []
    for title, header, lines in tables(record):
        rule = ["---", *["---:"] * (len(header) - 1)]
        parts.append("\n".join([f"{title}:", "", *(f"| {' | '.join(cells)} |" for cells in [header, rule, *lines])]))
    return "\n\n".join(parts)


def tables(record: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and lines of each table."""
    rows, shown = record["rows"], record["settings"]["shown"]
    tests = [*TESTS, SCORES_ALONE]
    null = [row for row in rows if row["concept"] == NULL]
    alike = [row for row in null if row["probe"] == null[0]["probe"]]
    null = [row for row in null if row["sets"] == shown]
    found = f"with {shown} random sets, in % of the draws (95 % interval)"
    return [
        (
            f"Null concepts called significant {found}; {_draws(null)}",
            ["", "probe", *tests],
            [[row["setting"], row["probe"], *(cell(row, test) for test in tests)] for row in null],
        ),
        (
            f"The same for the probe {alike[0]['probe']}, by the number of random sets",
            ["", "sets", *tests],
            [[row["setting"], str(row["sets"]), *(cell(row, test) for test in tests)] for row in alike],
        ),
        *(
            (
                f"{concept.capitalize()} planted concepts found {found}",
                ["", "probe", "calibrated", SCORES_ALONE],
                [
                    [row["setting"], row["probe"]]
                    + [cell(_other(rows, row, concept), test) for test in ("calibrated", SCORES_ALONE)]
                    for row in null
                ],
            )
            for concept in (WEAK, STRONG)
        ),
        tcav_calibration_intervals.table(record["intervals"]),
    ]


def _draws(rows: Sequence[Row]) -> str:
    """As in "300 draws, 100 with sgd"."""
    by_probe = {row["probe"]: row["draws"] for row in rows}
    most = max(by_probe.values())
    fewer = [f", {draws} with {probe}" for probe, draws in by_probe.items() if draws < most]
    return f"{most} draws{''.join(fewer)}"


def _other(rows: Sequence[Row], row: Row, concept: str) -> Row:
    """The row of another concept, all else equal."""
    same = ("setting", "probe", "sets")
    return next(one for one in rows if one["concept"] == concept and all(one[key] == row[key] for key in same))


def cell(row: Row, test: str) -> str:
    """A share in % with its interval."""
    low, high = interval(row["significant"][test], row["draws"])
    return f"{100 * row['significant'][test] / row['draws']:.0f} ({100 * low:.0f}–{100 * high:.0f})"


def interval(found: int, draws: int) -> tuple[float, float]:
    """95 % interval of a share, by Clopper and Pearson."""
    from scipy.stats import binomtest

    bounds = binomtest(found, draws).proportion_ci()
    return float(bounds.low), float(bounds.high)


def filled(page: str, text: str) -> str:
    """The page with a text between its markers.

    Raises
    ------
    ValueError
        A marker is not there once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page does not have {BEGIN!r} and {END!r} once each")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


# ---------------------------------------------------------------- options


def _worlds(options: argparse.Namespace) -> list[World]:
    found: list[World] = []
    if "synthetic" in options.worlds:
        found.append(Synthetic())
    if "demo" in options.worlds:
        least = (max(options.sets) + 1) * PICTURES
        found += creatures(demo_model(), LAYERS, random=2 * least, planted=10 * PICTURES)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=at_least_one, default=300, help="concepts of each kind (default: %(default)s)")
    parser.add_argument("--slow-draws", type=at_least_one, default=100, help="for sgd (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="measure nothing, write the page from --out")
    parser.add_argument(
        "--quick", action="store_true", help="10 draws with 19 and 20 random sets: figures mean nothing"
    )
    parser.add_argument("--probes", nargs="+", default=list(PROBES), choices=list(PROBES), metavar="PROBE")
    parser.add_argument("--worlds", nargs="+", default=["synthetic", "demo"], choices=["synthetic", "demo"])
    parser.add_argument("--out", type=Path, default=Path("docs/tcav-calibration.json"), help="figures as JSON")
    parser.add_argument("--page", type=Path, default=Path("docs/concepts.md"), help="page with the markers")
    options = parser.parse_args()
    options.sets = list(SIZES)
    if options.quick:
        options.draws = options.slow_draws = 10
        options.sets = [size for size in SIZES if size <= SHOWN]
    return options


if __name__ == "__main__":
    raise SystemExit(main())
