"""Import every model of keras.applications, prove each, and write the table `docs/import-coverage.md`.

Each model has random weights, those of BatchNormalization's statistics included, at its own input size, and is
converted in a fresh process without the cache. A row is a pass if the output, every tap and the gradient at the
default layer agree with Keras (the certificate; at least six taps), the peak of memory is at most 3 x weights + 1.5 GB
and the conversion takes at most 90 s. Seconds and memory are measured as in `bench_import.py`.

The figures are kept in `docs/import-coverage.json`, so that a run with a filter renews only its own rows. Needs
`pip install -e .[keras,bench]`. From the repository root:

    python scripts/check_applications.py
    python scripts/check_applications.py ResNet 'EfficientNetV2*'
"""

import argparse
import fnmatch
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_import import measure
from bench_record import conditions, console, log, print_conditions, print_table

from converters.applications import PREFIX, PREPROCESSING

SECONDS, BYTES_BESIDE_WEIGHTS, TIMES_WEIGHTS, TAPS = 90, 1.5e9, 3, 6
PACKAGES = ("torch", "tensorflow", "keras", "tf2onnx", "onnx", "onnx2torch", "numpy")
HEADERS = {
    "model": "model",
    "parameters": "parameters (M)",
    "layers": "layers",
    "taps": "taps",
    "gradients": "of them with gradient",
    "seconds": "seconds",
    "peak": "peak (GB)",
    "bound": "allowed (GB)",
    "error": "worst relative error",
    "rounding": "granted for rounding",
    "cosine": "worst 1 - cosine of gradients",
    "transposes": "runtime transposes",
    "result": "result",
}
EXPLANATION = """# Import coverage

The models of `keras.applications` as this package imports them: with random weights, those of BatchNormalization's
statistics included, and at their own input size. Written by `scripts/check_applications.py`; do not edit by hand.

A model passes if its output, every tap and the gradient at the default layer agree with Keras (relative error of 1e-4
of each value plus 1e-5 of the largest; cosine of gradients over 0.9999), if the peak of memory, summed over all
processes, is at most 3 x weights + 1.5 GB, and if the conversion takes at most 90 s, TensorFlow's start and the proof
included. Where a model is so large that the gradients of all its taps would take too much memory, those nearest to the
output are compared. In very deep models the rounding of float32 alone can exceed the tolerance; what was then granted
beside it, as a part of the largest value and as a run in float64 shows it, has a column.
"""


def main() -> int:
    options = _options()
    if options.convert:
        _convert(options.convert, options.out, options.timeout)
        return 0
    store = options.out.with_suffix(".json")
    record: dict[str, Any] = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {"rows": {}}
    chosen = [name for name in PREPROCESSING if _matches(name, options.names)]
    if not chosen:
        console.print(f"no model of keras.applications matches {', '.join(options.names)}")
        return 2
    for name in chosen:
        log.print(f"{name} ...", end=" ")
        row = _checked(name, options.timeout)
        log.print(row["result"], f"{row['seconds']:.0f} s")
        record = record | {"conditions": conditions(PACKAGES), "rows": record["rows"] | {name: row}}
        store.parent.mkdir(parents=True, exist_ok=True)
        store.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        options.out.write_text(_page(record), encoding="utf-8")
    print_conditions(record["conditions"])
    _print(record, chosen)
    return 0 if all(record["rows"][name]["result"] == "pass" for name in chosen) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names, or patterns; default: all 40")
    parser.add_argument("--out", type=Path, default=Path("docs/import-coverage.md"), help="default: %(default)s")
    parser.add_argument(
        "--timeout", type=float, default=600, help="seconds that one trace may take (default: %(default)s)"
    )
    parser.add_argument("--convert", help=argparse.SUPPRESS)  # how the script starts its own processes
    return parser.parse_args()


def _matches(name: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, p) or p in name for p in patterns)


# ---------------------------------------------------------------- one model


def _checked(name: str, timeout: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="check-applications-") as folder:
        answer, output = Path(folder) / "answer.json", Path(folder) / "output.log"
        command = [sys.executable, __file__, "--convert", name, "--out", str(answer), "--timeout", str(timeout)]
        used = measure(command, output)
        row: dict[str, Any] = {"seconds": used.seconds, "cpu_seconds": used.cpu_seconds, "peak_bytes": used.peak_bytes}
        if used.code != 0:
            lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return row | {"result": f"fails: {lines[-1][:200] if lines else f'exit status {used.code}'}"}
        row |= json.loads(answer.read_text(encoding="utf-8"))
    row["allowed_bytes"] = TIMES_WEIGHTS * row["weight_bytes"] + BYTES_BESIDE_WEIGHTS
    missed = [
        what
        for what, met in {
            "fewer than six taps": row["taps"] >= TAPS,
            "no gradient at the default layer": row["default_layer_has_gradient"],
            "memory": row["peak_bytes"] <= row["allowed_bytes"],
            "time": row["seconds"] <= SECONDS,
        }.items()
        if not met
    ]
    return row | {"result": "misses: " + ", ".join(missed) if missed else "pass"}


def _convert(name: str, answer: Path, timeout: float) -> None:
    from safetensors import safe_open

    import converters
    from converters import weights_file
    from converters.bundle import PROOF, WEIGHTS

    with tempfile.TemporaryDirectory(prefix="check-applications-") as folder:
        source = f"{PREFIX}{name}?weights=none"
        bundle = converters.convert(source, out=Path(folder) / "bundle", cache=False, timeout=timeout)
        default = [row for row in bundle.layers if len(row.shape) == 3][-1]
        with safe_open(bundle.path / PROOF, framework="np") as proof:
            has_gradient = f"gradient/{default.tap}" in proof.keys()  # noqa: SIM118 (not a dict)
        large = sum(place.length for place in weights_file.places(bundle.path / WEIGHTS).values())
        small = (bundle.path / "graph.onnx").stat().st_size
        certificate = bundle.certificate
        facts = {
            "weight_bytes": large,
            "graph_bytes": small,
            "layers": len({row.name for row in bundle.layers}),
            "taps": certificate.taps,
            "gradients": certificate.gradients,
            "default_layer": default.tap,
            "default_layer_has_gradient": has_gradient,
            "worst_error": max(certificate.prediction, certificate.logits, certificate.worst_activation),
            "rounding": certificate.rounding,
            "worst_cosine": certificate.worst_cosine,
            "transposes": certificate.runtime_transposes,
        }
    answer.write_text(json.dumps(facts), encoding="utf-8")


# ---------------------------------------------------------------- the table


def _cells(name: str, row: dict[str, Any]) -> dict[str, str]:
    cells = dict.fromkeys(HEADERS, "-") | {
        "model": name,
        "seconds": f"{row['seconds']:.0f}",
        "peak": f"{row['peak_bytes'] / 1e9:.2f}",
        "result": row["result"],
    }
    if "taps" in row:
        cells |= {
            "parameters": f"{row['weight_bytes'] / 4e6:.1f}",
            "layers": str(row["layers"]),
            "taps": str(row["taps"]),
            "gradients": str(row["gradients"]),
            "bound": f"{row['allowed_bytes'] / 1e9:.2f}",
            "error": f"{row['worst_error']:.0e}",
            "rounding": f"{row['rounding']:.0e}" if row.get("rounding") else "-",
            "cosine": f"{max(0.0, 1 - row['worst_cosine']):.0e}",
            "transposes": str(row["transposes"]),
        }
    return cells


def _page(record: dict[str, Any]) -> str:
    machine, rows = record["conditions"]["machine"], record["rows"]
    versions = ", ".join(f"{name} {number}" for name, number in record["conditions"]["versions"].items() if number)
    lines = [EXPLANATION, f"{machine['cpu']}, {machine['cores']} cores; {versions}.", ""]
    lines += ["| " + " | ".join(HEADERS.values()) + " |", "|---" + "|---:" * (len(HEADERS) - 2) + "|---|"]
    done = [name for name in PREPROCESSING if name in rows]
    lines += ["| " + " | ".join(_cells(name, rows[name]).values()) + " |" for name in done]
    skipped = [name for name in PREPROCESSING if name not in rows]
    lines += ["", f"Skipped: {', '.join(skipped) or 'none'}."]
    return "\n".join(lines) + "\n"


def _print(record: dict[str, Any], chosen: list[str]) -> None:
    shown = ["model", "taps", "seconds", "peak", "bound", "error", "transposes", "result"]
    cells = [_cells(name, record["rows"][name]) for name in chosen]
    print_table(
        "Import of keras.applications", [HEADERS[key] for key in shown], [[c[key] for key in shown] for c in cells]
    )
    skipped = len(PREPROCESSING) - len(chosen)
    console.print(f"{len(chosen)} models checked, {skipped} skipped")


if __name__ == "__main__":
    sys.exit(main())
