"""The procedural sets by name, and the stream of random numbers of each picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from torchcam_suite.datasets import creatures, faces, objects, pets
from torchcam_suite.datasets.figures import Drawing
from torchcam_suite.errors import TorchcamError

__all__ = ["PROCEDURAL", "SPLITS", "ProceduralSet", "draw", "generator_of"]

SPLITS = ("train", "val", "test")
SMALLEST_SIZE, LARGEST_SIZE = 16, 4096
"""Sides of square pictures in pixels; to draw one of the largest size takes up to 2 GB of memory."""


@dataclass(frozen=True)
class ProceduralSet:
    """A set of drawn pictures.

    Attributes
    ----------
    name : str
        What `make` and `draw` call it.
    class_names : tuple of str
        In sorted order, as Keras and torchvision number class folders.
    about : str
        What the classes differ in.
    draw : function
        Takes a class name, a `numpy.random.Generator` and the size; gives the picture and the mask.
    """

    name: str
    class_names: tuple[str, ...]
    about: str
    draw: Callable[[str, np.random.Generator, int], Drawing]


PROCEDURAL: dict[str, ProceduralSet] = {
    known.name: known
    for known in (
        ProceduralSet("pets", pets.PETS, "cats and dogs; only ears, muzzle and tail tell them apart", pets.draw),
        ProceduralSet(
            "families",
            tuple(sorted(creatures.FAMILIES)),
            "three families of creatures, of different colours and shapes",
            creatures.draw,
        ),
        ProceduralSet("faces", tuple(faces.PEOPLE), "six people; expression, light and clothes change", faces.draw),
        ProceduralSet(
            "objects", objects.OBJECTS, "aeroplanes, leopards and watches in their surroundings", objects.draw
        ),
    )
}


def find(name: str) -> ProceduralSet:
    """Look a set up by its name.

    Raises
    ------
    TorchcamError
        There is none of this name.
    """
    if name not in PROCEDURAL:
        raise TorchcamError(f"data set {name!r} is unknown; the procedural ones are {', '.join(PROCEDURAL)}")
    return PROCEDURAL[name]


def generator_of(seed: int, split: str, class_index: int, index: int) -> np.random.Generator:
    """The random numbers of one picture, which depend on no other picture."""
    return np.random.default_rng([seed, SPLITS.index(split), class_index, index])


def draw(name: str, class_name: str, generator: np.random.Generator | int = 0, size: int = 256) -> Drawing:
    """Draw one picture of a procedural set.

    Parameters
    ----------
    name : str
        A key of `PROCEDURAL`.
    class_name : str
        One of its classes.
    generator : numpy.random.Generator or int
        Source of every random choice. A number n is the n-th training picture that `make` with seed 0 writes.
    size : int
        Side of the square picture in pixels, 16 to 4096. A generator in the same state gives the same scene at any
        size.

    Returns
    -------
    picture : PIL.Image.Image
        Mode "RGB".
    mask : PIL.Image.Image
        Mode "L", 255 on the object and 0 elsewhere.

    Raises
    ------
    TorchcamError
        The set or the class is unknown, the size is out of its range, or the number below 0.
    """
    known = find(name)
    if class_name not in known.class_names:
        raise TorchcamError(f"class {class_name!r} is not in {name!r}; choose one of {', '.join(known.class_names)}")
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise TorchcamError(f"size={size}; expected a side of {SMALLEST_SIZE} to {LARGEST_SIZE} pixels")
    if not isinstance(generator, np.random.Generator):
        if generator < 0:
            raise TorchcamError(f"picture {generator}; expected a number of 0 or more, or a numpy.random.Generator")
        generator = generator_of(0, "train", known.class_names.index(class_name), generator)
    return known.draw(class_name, generator, size)
