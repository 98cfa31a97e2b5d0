"""Measure how far our maps are from those of Captum, pytorch-grad-cam and torch-cam; write docs/differences.md.

Each difference that is known (`known_differences.py`) is measured on the trained classifier of the demo and its six
pictures, on torchvision's ResNet-18 with seeded random weights and two pictures, or on both. Needs
`pip install -e .[crosscheck,keras]`. From the repository root; takes some minutes:

    python scripts/measure_differences.py
"""

import argparse
import textwrap
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from bench_record import console, log
from difference_settings import Pair, Setting, demo, resnet18
from known_differences import DEMO, RESNET, SECTIONS, Difference

from torchcam_suite.crosscheck import LIBRARIES, crosscheck
from torchcam_suite.metrics.agreement import rank_correlations, top_overlaps

TITLE = "# What differs from other libraries\n"
INTRODUCTION = (
    "Our maps beside those of Captum, pytorch-grad-cam and torch-cam. Where the definition is the same, "
    "`torchcam-suite crosscheck MODEL IMAGE...` proves it on your model. This page has what is defined in another way, "
    "where it stands in their sources, and how much it changes. Written by `scripts/measure_differences.py`; do not "
    "edit by hand.",
    "Measured with {versions}, on the trained classifier of the demo with its six pictures (layer `conv2d_5`), and on "
    "torchvision's ResNet-18 with seeded random weights, at the statistics of noise, and two pictures of 160 x 160 "
    "(`layer4`). Random weights say how large an effect can be, not how large it is in a trained net. All maps are "
    'scaled to [0, 1] at the size of the image. "largest" is the largest difference of a pixel, over all images; '
    '"rank" Spearman\'s rank correlation of the pixels, "top 20 %" the share of the highest 20 % of the pixels that '
    "both have in common (0.2 is chance), both means over the images.",
)
SAME = """## The same

Largest difference to the same definition, relative to the largest value (`torchcam-suite crosscheck`):
"""


def main() -> int:
    options = _options()
    warnings.simplefilter("ignore")  # of the libraries that are measured
    settings = {DEMO: demo(), RESNET: resnet18()}
    text = page(settings, lambda title: log.print(title))
    options.out.write_text(text, encoding="utf-8")
    console.print(f"written to {options.out}")
    return 0


def page(settings: Mapping[str, Setting], report: Callable[[str], None]) -> str:
    """Measure everything, and write the page."""
    versions = _versions(settings[DEMO])
    parts = [TITLE, *(paragraph(text.format(versions=versions)) + "\n" for text in INTRODUCTION)]
    parts += [SAME, _same(settings)]
    for title, differences in SECTIONS.items():
        parts.append(f"## {title}\n")
        for difference in differences:
            report(difference.title)
            parts += _part(difference, settings)
    return "\n".join(parts)


def _part(difference: Difference, settings: Mapping[str, Setting]) -> list[str]:
    parts = [f"### {difference.title}\n", paragraph(difference.text) + "\n"]
    on = [settings[name] for name in difference.on]
    if difference.measure is not None:
        rows = [(setting.name, pair) for setting in on for pair in difference.measure(setting)]
        lines = ["| on | what | largest | rank | top 20 % |", "|---|---|---|---|---|"]
        parts.append("\n".join([*lines, *(f"| {name} | {_cells(pair)} |" for name, pair in rows)]) + "\n")
    if difference.facts is not None:
        facts = [fact for setting in on for fact in difference.facts(setting)]
        parts.append("\n".join(textwrap.fill(f"* {fact}", 118, subsequent_indent="  ") for fact in facts) + "\n")
    return parts


def paragraph(text: str) -> str:
    """A text as it stands on the page."""
    return textwrap.fill(text, 118, break_on_hyphens=False, break_long_words=False)


def _cells(pair: Pair) -> str:
    largest = float((pair.ours - pair.theirs).abs().max())
    rank, top = (_mean(figure(pair.ours, pair.theirs)) for figure in (rank_correlations, top_overlaps))
    return f"{pair.what} | {_size(largest)} | {rank} | {top}"


def _size(largest: float) -> str:
    if not largest:
        return "0"
    return f"{largest:.2f}" if largest >= 0.005 else f"{largest:.0e}"


def _mean(values: tuple[float | None, ...]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.2f}" if known else "-"


def _same(settings: Mapping[str, Setting]) -> str:
    """The cross-check's rows of the same definition."""
    errors: dict[tuple[str, str, str], dict[str, float]] = {}
    for setting in settings.values():
        found = crosscheck(setting.model, setting.images, layer=setting.layer, target=setting.classes)
        for row in found.rows:
            if row.same_definition:
                errors.setdefault((row.method, row.library, row.theirs), {})[setting.name] = row.error
    lines = [f"| method | | {' | '.join(settings)} |", f"|---|---|{'---|' * len(settings)}"]
    for (method, library, theirs), found in errors.items():
        cells = [_size(found[name]) if name in found else "not comparable" for name in settings]
        lines.append(f"| {method} | {library} {theirs} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _versions(setting: Setting) -> str:
    found = crosscheck(setting.model, setting.images[:1], layer=setting.layer, methods=["gradcam"]).versions
    return ", ".join([f"torch {torch.__version__}", *(f"{name} {found[name]}" for name in LIBRARIES)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/differences.md"), help="the page")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
