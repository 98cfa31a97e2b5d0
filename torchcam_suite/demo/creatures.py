"""Procedural pictures of three families of creatures, each with the exact mask of the creature.

Everything is drawn from a `numpy.random.Generator` and measured in fractions of the picture, so that one seed
gives one scene at any size. The scene is drawn before the creature and does not know its family: a classifier
can tell the families apart only by the creature.
"""

import colorsys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from torchcam_suite.errors import TorchcamError

__all__ = ["FAMILIES", "SAMPLES", "dataset", "draw", "draw_sample"]

Points = NDArray[np.float64]
Colour = tuple[int, int, int]

FAMILIES = ("ember", "sprout", "ripple")

#: Seeds of the sample pictures. They are single numbers, those of `dataset` are triples: the streams differ.
SAMPLES = {"ember_1": 8, "ember_2": 21, "sprout_1": 5, "sprout_2": 20, "ripple_1": 19, "ripple_2": 12}

_SUPERSAMPLING = 4
_NIGHT: Colour = (38, 24, 52)
_WHITE: Colour = (255, 255, 255)
_CREAM: Colour = (255, 240, 212)
_BLUSH: Colour = (255, 120, 130)
_LEAF: Colour = (104, 158, 92)


@dataclass(frozen=True)
class Part:
    """A filled closed curve.

    Attributes
    ----------
    outline : ndarray, shape (n, 2)
        Vertices (x, y), y pointing down.
    colour : tuple of int
        RGB, 0 to 255.
    inked : bool
        Whether the part has a dark contour and shading.
    """

    outline: Points
    colour: Colour
    inked: bool = True


Recipe = Callable[[np.random.Generator], list[Part]]


@dataclass(frozen=True)
class Pose:
    """Where a creature stands.

    Attributes
    ----------
    foot : ndarray, shape (2,)
        The point on the ground below it (x, y), in fractions of the picture.
    unit : float
        Length of one unit of anatomy, in fractions of the picture.
    angle : float
        Radians, clockwise.
    stretch : ndarray, shape (2,)
        Factors of x and y before the rotation; a negative x mirrors.
    """

    foot: Points
    unit: float
    angle: float
    stretch: Points

    def place(self, outline: Points) -> Points:
        """Take an outline from units of anatomy to fractions of the picture."""
        centre = self.foot - [0, self.unit]
        return _place(outline * self.stretch, centre, self.unit, self.angle)

    def covers(self, x: float, y: float) -> bool:
        """Whether a thing that touches the ground here would stick out below the creature."""
        return abs(x - self.foot[0]) < 1.1 * self.unit and -0.6 < (y - self.foot[1]) / self.unit < 0.75


def draw(family: str, generator: np.random.Generator, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """Draw one creature in a random pose before a random scene.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    generator : numpy.random.Generator
        Source of every random choice.
    size : int
        Side of the square picture in pixels.

    Returns
    -------
    picture : PIL.Image.Image
        Mode "RGB".
    mask : PIL.Image.Image
        Mode "L", 255 on the creature and 0 elsewhere (the shadow on the ground is elsewhere).

    Raises
    ------
    TorchcamError
        The family is unknown.
    """
    if family not in FAMILIES:
        raise TorchcamError(f"family {family!r} is unknown; choose one of {', '.join(FAMILIES)}")
    side = size * _SUPERSAMPLING
    horizon = generator.uniform(0.34, 0.66)
    pose = _pose(generator, horizon)
    picture = _scene(generator, horizon, pose, side)
    _shadow(picture, pose)
    parts = (replace(part, outline=pose.place(part.outline) * side) for part in _ANATOMY[family](generator))
    mask = Image.new("L", picture.size)
    _paint(picture, parts, 0.035 * pose.unit * side, mask)
    smooth = mask.reduce(_SUPERSAMPLING)
    return picture.reduce(_SUPERSAMPLING), smooth.point([0] * 128 + [255] * 128)


def dataset(count_per_family: int, seed: int, size: int = 256) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    """Yield (family, picture, mask), the families in turn.

    Each picture has its own stream of random numbers: the first pictures of a longer data set are those of a
    shorter one.
    """
    for index in range(count_per_family):
        for label, family in enumerate(FAMILIES):
            yield family, *draw(family, np.random.default_rng([seed, index, label]), size)


def draw_sample(name: str) -> tuple[Image.Image, Image.Image]:
    """Draw the sample picture of this name and its mask, 256 pixels wide.

    Raises
    ------
    TorchcamError
        `SAMPLES` has no such name.
    """
    if name not in SAMPLES:
        raise TorchcamError(f"sample {name!r} is unknown; choose one of {', '.join(SAMPLES)}")
    return draw(name.partition("_")[0], np.random.default_rng(SAMPLES[name]))


def _pose(generator: np.random.Generator, horizon: float) -> Pose:
    """Anywhere on the ground where the whole creature fits, or nearly."""
    unit, width = generator.uniform(0.115, 0.2), generator.uniform(0.93, 1.07)
    highest = max(horizon + 0.04, 2.7 * unit)
    return Pose(
        foot=generator.uniform([1.15 * unit, highest], [1 - 1.15 * unit, 0.96]),
        unit=unit,
        angle=generator.normal(0, 0.12),
        stretch=np.array([generator.choice([-width, width]), 1 / width]),
    )


# Curves


def _curve(controls: str) -> Points:
    """Closed quadratic B-spline around control points given as "x y, x y, ..."; "x y!" is a sharp tip."""
    points = []
    for control in controls.split(","):
        x, y = control.rstrip("!").split()
        points += [(float(x), float(y))] * (2 if control.endswith("!") else 1)
    return _spline(np.array(points))


def _spline(controls: Points) -> Points:
    """Closed quadratic B-spline, 12 vertices a control point; one given twice is a tip through that point."""
    control = controls[:, None]
    start = (np.roll(control, 1, axis=0) + control) / 2
    end = (np.roll(control, -1, axis=0) + control) / 2
    t = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
    return ((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end).reshape(-1, 2)


def _ellipse(x: float, y: float, x_radius: float, y_radius: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + x_radius * np.cos(turn), y + y_radius * np.sin(turn)], axis=1)


def _place(outline: Points, centre: Points, scale: float, angle: float = 0.0) -> Points:
    """Rotate about the origin (radians, clockwise on the screen), scale, then move to the centre."""
    cos, sin = np.cos(angle), np.sin(angle)
    return scale * outline @ np.array([[cos, sin], [-sin, cos]]) + centre


def _both(outline: Points) -> list[Points]:
    """The outline and its mirror image."""
    return [outline, outline * [-1.0, 1.0]]


# Colours and paint


def _flat(outline: Points, colour: Colour) -> Part:
    return Part(outline, colour, inked=False)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(saturation, 1.0), min(value, 1.0))
    return round(255 * red), round(255 * green), round(255 * blue)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _paint(picture: Image.Image, parts: Iterable[Part], line: float, mask: Image.Image | None = None) -> None:
    """Fill the parts (outlines in pixels), one over the other; `mask` becomes 255 wherever there is paint."""
    for part in parts:
        extent = np.ptp(part.outline, axis=0)
        depth = max(1, round(0.12 * float(extent.min())))
        corner = np.floor(part.outline.min(axis=0)).astype(int) - depth - round(line) - 2
        size = np.ceil(extent).astype(int) + 2 * (depth + round(line) + 2) + 1
        vertices = [(float(x), float(y)) for x, y in part.outline - corner]
        shape = Image.new("L", (int(size[0]), int(size[1])))
        ImageDraw.Draw(shape).polygon(vertices, fill=255)
        layers = [(part.colour, shape)]
        if part.inked:
            layers += _shading(part.colour, shape, depth)
            layers.append((_mix(part.colour, _NIGHT, 0.72), _contour(vertices, shape.size, line)))
        for colour, layer in layers:
            picture.paste(colour, (int(corner[0]), int(corner[1])), layer)
            if mask is not None:
                mask.paste(255, (int(corner[0]), int(corner[1])), layer)


def _shading(colour: Colour, shape: Image.Image, depth: int) -> list[tuple[Colour, Image.Image]]:
    """A lit rim at the upper left and a shaded rim at the lower right, both inside the shape."""
    rims = []
    for tone, shift, strength in ((_WHITE, depth // 2, 0.45), (_mix(colour, _NIGHT, 0.5), -depth, 0.55)):
        rim = ImageChops.subtract(shape, ImageChops.offset(shape, shift, shift))
        rim = rim.filter(ImageFilter.BoxBlur(0.4 * depth)).point([round(strength * v) for v in range(256)])
        rims.append((tone, ImageChops.multiply(rim, shape)))
    return rims


def _contour(vertices: list[tuple[float, float]], size: tuple[int, int], line: float) -> Image.Image:
    contour = Image.new("L", size)
    ImageDraw.Draw(contour).line([*vertices, *vertices[:2]], fill=255, width=max(1, round(line)), joint="curve")
    return contour


def _shadow(picture: Image.Image, pose: Pose) -> None:
    """Darken the ground below the creature, with a soft edge."""
    side = picture.width // _SUPERSAMPLING
    outline = _place(_ellipse(0, -0.02, 0.85, 0.17), pose.foot, pose.unit) * side
    shade = Image.new("L", (side, side))
    ImageDraw.Draw(shade).polygon([(float(x), float(y)) for x, y in outline], fill=110)
    shade = shade.filter(ImageFilter.GaussianBlur(0.06 * pose.unit * side))
    picture.paste(_NIGHT, (0, 0), shade.resize(picture.size, Image.Resampling.BICUBIC))


# Anatomy: feet at y = 1, eyes near y = 0, the tips of ears and crests above y = -1


def _face(generator: np.random.Generator, y: float, spread: float, iris: Colour, skin: Colour) -> list[Part]:
    """Two eyes that look the same way, cheeks and a mouth."""
    look_x, look_y = generator.uniform(-0.03, 0.03), generator.uniform(-0.02, 0.03)
    parts = []
    for x in (-spread, spread):
        parts += [
            _flat(_ellipse(x, y, 0.17, 0.215), _NIGHT),
            _flat(_ellipse(x + look_x, y + 0.07 + look_y, 0.115, 0.12), iris),
            _flat(_ellipse(x + look_x, y + 0.02 + look_y, 0.085, 0.11), _NIGHT),
            _flat(_ellipse(x - 0.05, y - 0.085, 0.065, 0.075), _WHITE),
            _flat(_ellipse(x + 0.065, y + 0.1, 0.03, 0.03), _WHITE),
            _flat(_ellipse(1.5 * x, y + 0.26, 0.11, 0.065), _mix(skin, _BLUSH, 0.6)),
        ]
    return parts + _mouth(y + 0.24, is_open=generator.random() < 0.5)


def _mouth(y: float, is_open: bool) -> list[Part]:
    if is_open:
        lips = _place(_curve("-0.14 0!, 0 0.03, 0.14 0!, 0.09 0.2, -0.09 0.2"), np.array([0, y]), 1)
        return [_flat(lips, (120, 30, 50)), _flat(_ellipse(0, y + 0.125, 0.06, 0.035), _BLUSH)]
    return [_flat(_place(_curve("-0.13 0!, 0 0.11, 0.13 0!, 0 0.17"), np.array([0, y]), 1), _NIGHT)]


def _ember(generator: np.random.Generator) -> list[Part]:
    """Red and pointed: ears, cheek tufts, a crest and a tail tip of flame."""
    hue = generator.uniform(-0.01, 0.055)
    coat, flame, core = _hsv(hue, 0.78, 0.95), _hsv(hue + 0.07, 0.88, 1.0), _hsv(0.14, 0.62, 1.0)
    wave, rise = generator.uniform(-0.12, 0.12), generator.uniform(0.85, 1.15)
    crest = _curve(
        "-0.5 -0.3, -0.66 -0.75, -0.42 -1.12!, -0.3 -0.85, -0.22 -0.95,"
        f"{wave} -1.5!, 0.2 -1, 0.3 -0.85, 0.46 -1.16!, 0.66 -0.75, 0.5 -0.3"
    )
    spark = _curve(f"0 0, -0.3 -0.2, -0.2 -0.55, {0.1 + wave} -0.95!, 0.3 -0.5, 0.3 -0.15")
    return [
        Part(_curve("0.2 0.55, 0.6 0.92, 1.1 0.8, 1.12 0.2!, 0.85 0.5, 0.5 0.6"), coat),
        Part(_place(spark, np.array([1.1, 0.42]), 0.72 * rise), flame),
        _flat(_place(spark, np.array([1.1, 0.36]), 0.4 * rise), core),
        Part(crest * [1.0, rise], flame),
        _flat(crest * [0.62, 0.82 * rise], core),
        *_ember_ears(coat),
        *(Part(_ellipse(x, 0.9, 0.24, 0.14), coat) for x in (-0.27, 0.27)),
        Part(_curve("0 0.05, 0.42 0.15, 0.55 0.75, 0.3 0.98, -0.3 0.98, -0.55 0.75, -0.42 0.15"), coat),
        _flat(_ellipse(0, 0.62, 0.27, 0.28), _CREAM),
        Part(_curve(_EMBER_HEAD), coat),
        _flat(_curve("0 -0.05, 0.4 0.05, 0.45 0.33, 0 0.4, -0.45 0.33, -0.4 0.05"), _CREAM),
        *_face(generator, -0.17, 0.36, _hsv(0.06, 0.9, 0.85), coat),
    ]


_EMBER_HEAD = (
    "0 -0.86, 0.62 -0.78, 0.66 -0.2, 0.98 0.12!, 0.55 0.3, 0 0.42,-0.55 0.3, -0.98 0.12!, -0.66 -0.2, -0.62 -0.78"
)


def _ember_ears(coat: Colour) -> list[Part]:
    ear = _curve("0.22 -0.62, 0.55 -0.85, 0.98 -1.02!, 0.85 -0.6, 0.62 -0.28, 0.3 -0.4")
    inside = _place(ear - [0.66, -0.7], np.array([0.68, -0.7]), 0.5)
    return [
        *(Part(outline, coat) for outline in _both(ear)),
        *(_flat(outline, _mix(coat, _NIGHT, 0.45)) for outline in _both(inside)),
    ]


def _sprout(generator: np.random.Generator) -> list[Part]:
    """Green and round: a ball with two leaves for ears and a curl on top."""
    hue = generator.uniform(0.25, 0.37)
    skin, leaf = _hsv(hue, 0.52, 0.86), _hsv(hue + 0.02, 0.72, 0.7)
    return [
        *_leaf_ears(0.75 + generator.uniform(-0.25, 0.3), leaf),
        Part(_curve("-0.07 -0.6, -0.06 -1, 0.22 -1.12, 0.25 -0.9, 0.1 -0.88, 0.06 -0.6"), leaf),
        *(Part(_ellipse(x, 0.9, 0.25, 0.14), leaf) for x in (-0.34, 0.34)),
        Part(_ellipse(0, 0.14, 0.84, 0.8), skin),
        _flat(_ellipse(0, 0.48, 0.46, 0.38), _mix(skin, _CREAM, 0.7)),
        *(_flat(_ellipse(x, y, 0.055, 0.05), leaf) for x, y in ((-0.14, -0.42), (0.03, -0.5), (0.17, -0.4))),
        *(Part(arm, skin) for arm in _both(_place(_ellipse(0, 0, 0.12, 0.22), np.array([-0.74, 0.45]), 1, 0.5))),
        *_face(generator, 0.02, 0.34, _hsv(0.09, 0.75, 0.7), skin),
    ]


def _leaf_ears(tilt: float, colour: Colour) -> list[Part]:
    """Two leaves with a vein each, tilted outwards by `tilt` radians."""
    blade = _curve("0 0.05!, -0.34 -0.25, -0.3 -0.75, 0 -1.05!, 0.32 -0.75, 0.34 -0.25")
    vein = _curve("-0.03 0, 0 -0.85!, 0.03 0")
    ears = []
    for sign in (-1.0, 1.0):
        root = np.array([0.3 * sign, -0.55])
        ears += [
            Part(_place(blade, root, 0.88, sign * tilt), colour),
            _flat(_place(vein, root, 0.88, sign * tilt), _mix(colour, _WHITE, 0.45)),
        ]
    return ears


def _ripple(generator: np.random.Generator) -> list[Part]:
    """Blue and shaped like a drop, with scalloped fins at the sides and a tail fin."""
    hue = generator.uniform(0.54, 0.62)
    skin, fin = _hsv(hue, 0.6, 0.95), _hsv(hue + 0.06, 0.6, 0.8)
    bend, spread = generator.uniform(-0.25, 0.25), generator.uniform(-0.25, 0.25)
    side_fin = _curve(
        "-0.1 -0.15, 0.3 -0.5, 0.62 -0.5!, 0.5 -0.22, 0.66 -0.02!, 0.46 0.1, 0.5 0.32!, 0.2 0.26, -0.1 0.15"
    )
    body = f"{bend} -1.4!, 0.2 -0.8, 0.8 -0.4, 0.95 0.5, 0.5 0.98, -0.5 0.98, -0.95 0.5, -0.8 -0.4, -0.2 -0.8"
    belly = _curve("0 0.3, 0.55 0.4, 0.6 0.75, 0.3 0.93, -0.3 0.93, -0.6 0.75, -0.55 0.4")
    drop = _curve("0 -0.24!, 0.12 0.02, 0.06 0.16, -0.06 0.16, -0.12 0.02")
    return [
        Part(_curve("0.3 0.7, 0.8 0.8, 1.2 0.42!, 1.12 0.75, 1.32 1!, 0.85 1.02, 0.3 0.95"), fin),
        *(Part(outline, fin) for outline in _both(_place(side_fin, np.array([0.68, 0.1]), 0.95, spread))),
        Part(_curve(body), skin),
        _flat(belly, _mix(skin, _WHITE, 0.72)),
        _flat(_place(drop, np.array([0.45 * bend, -0.5]), 0.85), _mix(skin, _WHITE, 0.65)),
        *_face(generator, 0.02, 0.36, _hsv(0.47, 0.7, 0.75), skin),
    ]


_ANATOMY: dict[str, Recipe] = {
    "ember": _ember,
    "sprout": _sprout,
    "ripple": _ripple,
}


# Scenery: coordinates are fractions of the picture


def _scene(generator: np.random.Generator, horizon: float, pose: Pose, side: int) -> Image.Image:
    """A backdrop, hills and things lying about, `side` pixels wide, with room for a creature in this pose."""
    hue = generator.random()
    top = _hsv(hue, generator.uniform(0.15, 0.4), generator.uniform(0.8, 1.0))
    bottom = _hsv(hue + generator.uniform(-0.15, 0.15), generator.uniform(0.06, 0.22), 1.0)
    backdrop = (_clouds, _bokeh, _haze)[generator.integers(3)]
    picture = _gradient(top, bottom, side)
    backdrop(generator, picture, horizon)
    _hills(generator, picture, horizon)
    for y in np.sort(generator.uniform(horizon + 0.08, 0.97, generator.integers(8, 16))):
        x, parts = generator.uniform(0.03, 0.97), _THINGS[generator.integers(len(_THINGS))](generator)
        scale = 0.55 + 0.6 * (y - horizon) / (1 - horizon)
        if not pose.covers(x, y):
            at = np.array([x, y])
            placed = (replace(part, outline=_place(part.outline, at, scale) * side) for part in parts)
            _paint(picture, placed, 0.003 * side)
    return picture


def _hills(generator: np.random.Generator, picture: Image.Image, horizon: float) -> None:
    """Three ranges of hills, the nearest the strongest in colour."""
    side, hue = picture.width, generator.random()
    for depth in range(3):
        crest = _hill(generator, horizon - 0.1 + 0.07 * depth, 0.05 - 0.012 * depth)
        tone = _hsv(hue + 0.025 * depth, 0.2 + 0.11 * depth, 0.9 - 0.07 * depth)
        shape = Image.new("L", picture.size)
        ImageDraw.Draw(shape).polygon([(float(x), float(y)) for x, y in crest * side], fill=255)
        picture.paste(_gradient(_mix(tone, _CREAM, 0.25), _mix(tone, _NIGHT, 0.25), side), (0, 0), shape)


def _gradient(top: Colour, bottom: Colour, side: int) -> Image.Image:
    column = np.linspace(top, bottom, side)[:, None].round().astype(np.uint8)
    return Image.fromarray(column).resize((side, side))


def _hill(generator: np.random.Generator, height: float, amplitude: float) -> Points:
    x = np.linspace(0, 1, 80)
    waves = np.sin(2 * np.pi * (x * generator.uniform(0.5, 1.8, (2, 1)) + generator.random((2, 1))))
    crest = np.stack([x, height + amplitude * waves.mean(axis=0)], axis=1)
    return np.concatenate([crest, [[1, 1], [0, 1]]])


def _clouds(generator: np.random.Generator, sky: Image.Image, horizon: float) -> None:
    """A few white clouds, each a row of discs."""
    for _ in range(generator.integers(2, 6)):
        at, scale = generator.uniform([0, 0.05], [1, horizon - 0.15]), generator.uniform(0.05, 0.13)
        discs = [_ellipse(x, -0.2 * (1 - x * x), 0.55, 0.5 - 0.25 * x * x) for x in (-0.9, -0.3, 0.3, 0.9)]
        white = _mix(_WHITE, (225, 228, 236), generator.random())
        _paint(sky, [_flat(_place(disc, at, scale) * sky.width, white) for disc in discs], 0)


def _bokeh(generator: np.random.Generator, sky: Image.Image, horizon: float) -> None:
    """Soft discs of light in all colours."""
    for _ in range(generator.integers(10, 22)):
        centre, radius = generator.uniform([0, 0], [1, horizon]), generator.uniform(0.03, 0.11)
        light, strength = _hsv(generator.random(), 0.35, 1.0), int(generator.integers(60, 150))
        width = round(2 * radius * sky.width)
        disc = Image.new("L", (width, width))
        ImageDraw.Draw(disc).ellipse((0, 0, width - 1, width - 1), fill=strength)
        left, top = (round(float(v)) for v in (centre - radius) * sky.width)
        sky.paste(light, (left, top), disc)


def _haze(generator: np.random.Generator, sky: Image.Image, horizon: float) -> None:
    """Drifting haze: three octaves of value noise."""
    haze = np.zeros((64, 64))
    for octave in (4, 8, 16):
        grid = Image.fromarray(generator.random((octave, octave // 2)).astype(np.float32))
        haze += np.asarray(grid.resize((64, 64), Image.Resampling.BICUBIC)) * 2 / octave
    share = np.clip((haze - haze.mean()) / haze.std() * 0.3 + 0.35, 0, 0.85)
    extent = (sky.width, round(horizon * sky.height))
    veil = Image.fromarray((255 * share).astype(np.uint8)).resize(extent, Image.Resampling.BICUBIC)
    sky.paste(_mix(_WHITE, _NIGHT, 0.25 * generator.random()), (0, 0), veil)


# Things on the ground, of any colour: (0, 0) touches the ground


def _flower(generator: np.random.Generator) -> list[Part]:
    hue, count = generator.random(), generator.integers(5, 8)
    turns = 2 * np.pi * np.arange(count) / count
    petals = (_place(_ellipse(0.017, 0, 0.016, 0.011), np.array([0, -0.08]), 1, turn) for turn in turns)
    return [
        Part(_curve("-0.003 0, -0.003 -0.08, 0.003 -0.08, 0.003 0"), _LEAF),
        *(Part(leaf, _LEAF) for leaf in _both(_curve("0 0!, 0.028 -0.012, 0.04 -0.035!, 0.01 -0.03"))),
        *(Part(petal, _hsv(hue, 0.55, 1)) for petal in petals),
        Part(_ellipse(0, -0.08, 0.011, 0.011), (255, 222, 120)),
    ]


def _stone(generator: np.random.Generator) -> list[Part]:
    grey, width = _mix((205, 205, 210), (120, 120, 130), generator.random()), generator.uniform(0.03, 0.065)
    turns = 2 * np.pi * np.arange(7) / 7
    corners = np.stack([np.cos(turns), 0.62 * np.sin(turns)], axis=1) * generator.uniform(0.85, 1.15, (7, 1))
    return [Part(width * (_spline(corners) - [0, 0.45]), grey)]


def _berries(generator: np.random.Generator) -> list[Part]:
    colour = _hsv(generator.random(), 0.7, 0.9)
    leaf = _curve("0 -0.03!, 0.04 -0.055, 0.06 -0.035!, 0.03 -0.02")
    spots = ((-0.02, -0.016), (0.021, -0.015), (0.001, -0.042))
    return [
        *(Part(outline, _LEAF) for outline in _both(leaf)),
        *(Part(_ellipse(x, y, 0.019, 0.019), colour) for x, y in spots),
    ]


def _toadstool(generator: np.random.Generator) -> list[Part]:
    cap = _curve("-0.055 -0.04!, -0.05 -0.095, 0 -0.125, 0.05 -0.095, 0.055 -0.04!, 0 -0.03")
    spots = ((-0.024, -0.065, 0.01), (0.005, -0.088, 0.011), (0.028, -0.058, 0.008))
    return [
        Part(_curve("-0.02 0, -0.016 -0.06, 0.016 -0.06, 0.02 0"), _CREAM),
        Part(cap, _hsv(generator.random(), 0.65, 0.9)),
        *(_flat(_ellipse(x, y, r, r), _WHITE) for x, y, r in spots),
    ]


def _bush(generator: np.random.Generator) -> list[Part]:
    colour = _hsv(generator.random(), generator.uniform(0.3, 0.6), 0.75)
    turns = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radius = 0.058 + 0.014 * np.abs(np.sin(4 * turns + generator.uniform(0, np.pi)))
    outline = np.stack([1.35 * radius * np.cos(turns), radius * np.sin(turns) - 0.045], axis=1)
    outline[:, 1] = np.minimum(outline[:, 1], 0)
    blossoms = generator.uniform([-0.05, -0.085], [0.05, -0.02], (5, 2))
    tint = _hsv(generator.random(), 0.4, 1.0)
    return [Part(outline, colour), *(_flat(_ellipse(x, y, 0.009, 0.009), tint) for x, y in blossoms)]


_THINGS: tuple[Recipe, ...] = (_flower, _flower, _stone, _berries, _toadstool, _bush)
