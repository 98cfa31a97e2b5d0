"""The proof that the torch module computes what the original framework computed."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Certificate:
    """How far the torch module is from the original, on the reference batch.

    Errors are `max |ours - theirs| / max |theirs|`.

    Attributes
    ----------
    prediction, logits : float
        Error of the output and of the logits.
    taps : int
        Layer calls that were compared.
    worst_tap : str
        The layer call with the largest error.
    worst_activation : float
        That error.
    gradients : int
        Layer calls whose gradient was compared; the others have none (behind the head, or no path to it), or
        lie so deep below the output that a large model would have needed too much memory.
    worst_gradient : str
        The layer call whose gradient agrees least.
    worst_cosine : float
        The cosine of the angle between both gradients there, of all pictures and positions, as their sketches give it
        (`converters.samples`; 1 - cosine within a few percent).
    runtime_transposes : int
        Activations that are transposed at run time.
    rounding : float
        The largest part of a maximum that was granted, beside the tolerance, for the rounding of float32 as a run in
        float64 shows it; 0 where none was needed.
    torch : str
        Version of torch that computed it.
    """

    prediction: float
    logits: float
    taps: int
    worst_tap: str
    worst_activation: float
    gradients: int
    worst_gradient: str
    worst_cosine: float
    runtime_transposes: int
    rounding: float
    torch: str

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)
