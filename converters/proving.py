"""What to do when a proof that is made again fails."""

import torch


def what_to_do(made: str, device: str) -> str:
    """Advice for a proof that failed on a device, of a bundle that passed with torch `made` on the CPU."""
    elsewhere = "" if device == "cpu" else " See whether it passes on the CPU (--device cpu)."
    return (
        f"The bundle passed with torch {made} on the CPU when it was made, and fails here with torch "
        f"{torch.__version__} on {device}.{elsewhere} Convert the checkpoint again: if that passes, the bundle's "
        f"files were changed; if it fails too, use torch {made} and report it"
    )
