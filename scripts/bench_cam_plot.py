"""The picture of what bench_cam.py measured: time of Score-CAM beside the plain passes that it cannot do without."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLORS = {"plain passes": "#999999", "ours": "#0072b2", "torch-cam": "#e69f00", "pytorch-grad-cam": "#d55e00"}


def draw(groups: Sequence[dict[str, Any]], title: str, file: Path) -> None:
    """One block of bars a model and batch; length is time as a multiple of the plain passes in float32."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [(group, row) for group in groups for row in group["contestants"]]
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.3 * len(bars) + 0.2 * len(groups)), layout="constrained")
    place, places, labels = 0.0, [], []
    for group in groups:
        base = group["contestants"][0]["median_seconds"]
        axes.text(
            0.005, place, f"{group['model']}, {group['masks']} masks, batch {group['batch']}", weight="bold", size=9
        )
        for row in group["contestants"]:
            place -= 1
            length, spread = row["median_seconds"] / base, row["iqr_seconds"] / base / 2
            axes.barh(
                place, length, height=0.75, color=COLORS.get(row["name"], "#cc79a7"), xerr=spread, ecolor="#444444"
            )
            axes.text(length + spread, place, f"  {length:.2f}", va="center", size=8)
            places.append(place)
            labels.append(row["name"] if row["precision"] == "float32" else f"{row['name']}, {row['precision']}")
        place -= 1.3
    axes.set_yticks(places, labels, size=8)
    axes.axvline(1, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.08)
    axes.set_ylim(place + 0.8, 1)
    axes.set_xlabel("time, plain float32 passes = 1 (less is better)")
    axes.set_title(title, size=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
