"""What a TCAV found."""

import csv
import hashlib
import io
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from torchcam_suite.errors import ConceptError
from torchcam_suite.explanation import write_atomically

TABLE, VECTORS, CSV = "tcav.json", "cavs.safetensors", "tcav.csv"
SCHEMA = 1
_RANDOM = "random/"


@dataclass(frozen=True)
class TcavRow:
    """One concept for one target at one layer.

    Attributes
    ----------
    layer, concept, target : str
        What was asked.
    score : float
        TCAV score in [0, 1]: the share of the target's images whose score grows in the direction of the concept;
        the mean over the runs (Kim et al. 2018, equation 2).
    low, high : float
        95 % interval of the score over the target's images and the random sets: the wider of the bootstrap's and
        Wilson's. The pictures of the concept are always the same, so that it says nothing about those. Of fewer than
        ten random sets it is too short.
    mean_sensitivity : float
        Mean directional derivative along the CAV of length 1, in units of the target's score for one unit of
        activation.
    p, p_corrected : float or None
        Of the significance test, and for all rows together; None where none was made.
    accuracy : float
        Of the probe on held-out pictures, 0.5 is chance; the mean over the runs.
    verdict : str
        `significant`, `not significant`, `undecided` (too few random sets to tell), or `not tested`.
    runs : int
        Random sets that the concept was told from.
    """

    layer: str
    concept: str
    target: str
    score: float
    low: float
    high: float
    mean_sensitivity: float
    p: float | None
    p_corrected: float | None
    accuracy: float
    verdict: str
    runs: int

    @property
    def significant(self) -> bool | None:
        """Whether it is; None where that was not tested or could not be decided."""
        return {"significant": True, "not significant": False}.get(self.verdict)


@dataclass(frozen=True, eq=False, repr=False)
class TcavResult:
    """What `tcav` found. Prints as a table.

    Attributes
    ----------
    rows : tuple of TcavRow
        By target, layer and concept.
    scores, sensitivities : dict of (layer, concept, target) to array (R,)
        TCAV score and mean sensitivity of each run.
    random_scores : dict of (layer, target, pictures) to array (R, R)
        TCAV score of random set r against random set s, with as many pictures as a concept has; NaN at r = s. Empty
        where no test was made.
    cavs : dict of str to array (concepts, R, d)
        By layer: unit vectors that point to the concept, float32, for activations in the order of `shapes`; zeros where
        a probe found no direction. Relative CAVs have as many runs here as the concept with the fewest.
    shapes : dict of str to tuple
        By layer: what one CAV is, (C, h, w), (C,) or (T, C).
    concepts : tuple of str
        In the order of `cavs`.
    settings : dict
        All that the result depends on beside the model: options, sets with their pictures, images of each target.
    model, versions : dict
        As in `torchcam_suite.Explanation`.
    notes : tuple of str
        What a reader of the table should know, as that the random sets are too few.
    """

    rows: tuple[TcavRow, ...]
    scores: dict[tuple[str, str, str], np.ndarray]
    sensitivities: dict[tuple[str, str, str], np.ndarray]
    random_scores: dict[tuple[str, str, int], np.ndarray]
    cavs: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    concepts: tuple[str, ...]
    settings: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"TcavResult({len(self.rows)} rows: {', '.join(self.concepts)} at {', '.join(self.cavs)})"

    def __str__(self) -> str:
        header = ("target", "layer", "concept", "score", "95 % interval", self.p_header, "accuracy", "")
        lines = [header, *(self._cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        table = "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )
        return "\n".join([table, *self.notes])

    @property
    def p_header(self) -> str:
        """How the corrected p values are headed in tables."""
        names = {"holm": "p (Holm)", "benjamini_hochberg": "p (BH)"}
        return names.get(self.settings["test"]["correction"], "p")

    @staticmethod
    def _cells(row: TcavRow) -> tuple[str, ...]:
        p = "-" if row.p_corrected is None else f"{row.p_corrected:.3f}"
        interval = f"{row.low:.2f} to {row.high:.2f}"
        return (row.target, row.layer, row.concept, f"{row.score:.2f}", interval, p, f"{row.accuracy:.2f}", row.verdict)

    def row(self, concept: str, layer: str | None = None, target: str | int | None = None) -> TcavRow:
        """The row of a concept; layer and target may be left out where there is one.

        Raises
        ------
        ConceptError
            There is none, or there are several.
        """
        found = [
            row
            for row in self.rows
            if row.concept == concept and layer in {None, row.layer} and str(target) in {"None", row.target}
        ]
        if len(found) != 1:
            what = "several rows have" if found else "no row has"
            raise ConceptError(
                f"{what} concept={concept!r}, layer={layer!r}, target={target!r}; concepts: "
                f"{', '.join(self.concepts)}; layers: {', '.join(self.cavs)}; targets: "
                f"{', '.join(dict.fromkeys(row.target for row in self.rows))}"
            )
        return found[0]

    def layer(self, name: str | None = None) -> str:
        """The layer of a name, or the only one.

        Raises
        ------
        ConceptError
            There are no CAVs of it, or there are several layers and none was named.
        """
        known = list(self.cavs)
        if name is None and len(known) == 1:
            return known[0]
        if name not in known:
            raise ConceptError(f"layer={name!r}; expected one of those with CAVs: {', '.join(map(repr, known))}")
        return name

    def cav(self, concept: str, layer: str | None = None) -> np.ndarray:
        """The mean of a concept's CAVs over the runs, of length 1, in the shape of the layer (`shapes`).

        Zeros where no probe found a direction.

        Raises
        ------
        ConceptError
            Concept or layer is not among them.
        """
        layer = self.layer(layer)
        if concept not in self.concepts:
            raise ConceptError(f"concept={concept!r}; expected one of {', '.join(map(repr, self.concepts))}")
        mean = self.cavs[layer][self.concepts.index(concept)].astype(np.float64).mean(0)
        length = float(np.linalg.norm(mean))
        return (mean / (length or 1.0)).reshape(self.shapes[layer])

    def to_json(self) -> dict[str, Any]:
        """Everything but the CAVs, as JSON values."""
        return {
            "schema": SCHEMA,
            "rows": [asdict(row) | {"significant": row.significant} for row in self.rows],
            "notes": list(self.notes),
            "concepts": list(self.concepts),
            "shapes": {layer: list(shape) for layer, shape in self.shapes.items()},
            "runs": [
                {
                    "layer": layer,
                    "concept": concept,
                    "target": target,
                    "scores": scores.tolist(),
                    "sensitivities": self.sensitivities[layer, concept, target].tolist(),
                }
                for (layer, concept, target), scores in self.scores.items()
            ],
            "settings": self.settings,
            "model": self.model,
            "versions": self.versions,
        }

    def to_csv(self) -> str:
        """The rows, with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(TcavRow.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return text.getvalue()

    def save(self, folder: str | Path) -> Path:
        """Write `tcav.json`, `tcav.csv` and `cavs.safetensors` into a folder; no pickle."""
        from safetensors.numpy import save

        place = Path(folder)
        arrays = {f"cavs/{layer}": np.ascontiguousarray(vectors) for layer, vectors in self.cavs.items()}
        arrays |= {f"{_RANDOM}{json.dumps(key)}": array for key, array in self.random_scores.items()}
        vectors = save(arrays)
        # the table names the vectors that it belongs to, and is written last
        table = self.to_json() | {"cavs_sha256": hashlib.sha256(vectors).hexdigest()}
        texts = {CSV: self.to_csv(), TABLE: json.dumps(table, indent=1, allow_nan=False)}
        encoded = {name: text.encode(errors="backslashreplace") for name, text in texts.items()}
        place.mkdir(parents=True, exist_ok=True)
        for name, content in ({VECTORS: vectors} | encoded).items():
            write_atomically(place / name, partial(_write, content))
        return place

    @classmethod
    def load(cls, folder: str | Path) -> "TcavResult":
        """Read what `save` wrote.

        Raises
        ------
        ConceptError
            It is not there, or not whole.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        place = Path(folder)
        try:
            stored = json.loads((place / TABLE).read_text(encoding="utf-8"))
            if stored["schema"] != SCHEMA:
                raise ValueError(f"schema {stored['schema']}, and this version reads {SCHEMA}")
            with (place / VECTORS).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != stored["cavs_sha256"]:
                    raise ValueError(f"{VECTORS} is of another run than {TABLE}")
            return cls._from_stored(stored, load_file(place / VECTORS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ConceptError(f"{place} holds no whole TCAV result ({type(error).__name__}: {error})") from error

    @classmethod
    def _from_stored(cls, stored: dict[str, Any], arrays: dict[str, np.ndarray]) -> "TcavResult":
        fields = TcavRow.__dataclass_fields__
        keys = [(run["layer"], run["concept"], run["target"]) for run in stored["runs"]]
        return cls(
            rows=tuple(TcavRow(**{name: row[name] for name in fields}) for row in stored["rows"]),
            scores={key: np.array(run["scores"]) for key, run in zip(keys, stored["runs"], strict=True)},
            sensitivities={key: np.array(run["sensitivities"]) for key, run in zip(keys, stored["runs"], strict=True)},
            random_scores={
                tuple(json.loads(name.removeprefix(_RANDOM))): array
                for name, array in arrays.items()
                if name.startswith(_RANDOM)
            },
            cavs={layer: arrays[f"cavs/{layer}"] for layer in stored["shapes"]},
            shapes={layer: tuple(shape) for layer, shape in stored["shapes"].items()},
            concepts=tuple(stored["concepts"]),
            settings=stored["settings"],
            model=stored["model"],
            versions=stored["versions"],
            notes=tuple(stored["notes"]),
        )

    def plot(self, path: str | Path, *, target: str | None = None) -> Path:
        """Draw the scores as bars with their intervals; a star marks what is not significant, as in the paper."""
        from torchcam_suite.present.tcav_chart import draw

        return draw(self, Path(path), target=target)


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)
