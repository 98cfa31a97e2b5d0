"""What a page takes for granted in its folder, beside what every page finds there: small, under the page's names."""

import shutil
from collections.abc import Callable
from pathlib import Path

from code_blocks import ROOT
from original_sets import write_caltech101, write_dogs_vs_cats, write_outline

from torchcam_suite.datasets import make


def originals(folder: Path) -> None:
    """The data sets that one downloads by hand, in the layouts of their makers."""
    write_dogs_vs_cats(folder, each=12)
    write_caltech101(folder, ("airplanes", "Leopards", "watch", "BACKGROUND_Google"), each=6)
    for index in range(1, 7):
        write_outline(folder, "watch", index, (3, 11, 5, 15))


def sets_of_the_articles(folder: Path) -> None:
    """Pictures in train/CLASS and test/CLASS, those of a folder without a split, and concepts."""
    for name, train, test in (("pets", 12, 8), ("objects", 15, 9), ("faces", 18, 18), ("families", 15, 12)):
        make(name, folder / name, train=train, test=test, size=32, workers=1)
    (folder / "photographs").symlink_to(folder / "test_pictures")
    (folder / "concepts").symlink_to(folder / "pictures")


def demo(folder: Path) -> None:
    """The classifier of the demo, and one of its six samples."""
    assets = ROOT / "torchcam_suite" / "demo" / "assets"
    (folder / "samples").mkdir()
    for name in ("model.json", "weights.h5", "samples/ember_1.png", "samples/ember_1_mask.png"):
        shutil.copy(assets / name, folder / name)


STAND_INS: dict[str, Callable[[Path], None]] = {
    "docs/data.md": originals,
    "docs/five-articles.md": sets_of_the_articles,
    "docs/map-quality.md": demo,
}
