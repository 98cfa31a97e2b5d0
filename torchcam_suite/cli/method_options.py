"""Options of methods as text: `--option name=value`."""

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from torchcam_suite.cam import METHODS, Method

_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "none",
}
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


def split_options(texts: Sequence[str]) -> dict[str, str]:
    """Names and values of ``name=value``.

    Examples
    --------
    >>> split_options(["samples=20", "noise=input"])
    {'samples': '20', 'noise': 'input'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"--option {text}; expected name=value, as in --option samples=20")
        if name in found:
            raise ValueError(f"--option {name} is given twice; give it once")
        found[name] = value.strip()
    return found


def options_of(method: Method, given: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Those of the given options, and of the texts, that a method has."""
    types = method.option_types
    parsed = {name: parse_value(name, text, types[name]) for name, text in texts.items() if name in types}
    return {name: value for name, value in given.items() if name in types} | parsed


def require_used(given: Mapping[str, Any], texts: Mapping[str, str], methods: Sequence[str]) -> None:
    """Raise `ValueError` where no chosen method has an option: that is a mistake, not a wish to be ignored."""
    known = list(dict.fromkeys(option for name in methods if name in METHODS for option in METHODS[name].options))
    if not known:
        return  # an unknown method is the greater mistake
    for option in given.keys() & texts.keys():
        raise ValueError(f"--option {option} and --{option.replace('_', '-')} say the same; give one of them")
    flags = {f"--{option.replace('_', '-')}": option for option in given}
    flags |= {f"--option {option}": option for option in texts}
    for flag, option in flags.items():
        if option not in known:
            raise ValueError(f"{flag} is no option of {' or '.join(methods)}; there are {', '.join(known)}")


def parse_value(option: str, text: str, type_: Any) -> Any:
    """A text as a value of a type.

    Examples
    --------
    >>> parse_value("chunk_size", "16", int | Literal["auto"]), parse_value("chunk_size", "auto", int | Literal["auto"])
    (16, 'auto')
    >>> parse_value("sigma", "big", float)
    Traceback (most recent call last):
    ValueError: --option sigma=big; expected a number
    """
    for kind in _kinds(type_):
        value = _parsed(text, kind)
        if value is not _NOT_OF_THE_KIND:
            return value
    raise ValueError(f"--option {option}={text}; expected {type_text(type_)}")


def type_text(type_: Any) -> str:
    """A type in words.

    Examples
    --------
    >>> type_text(int | Literal["auto"]), type_text(Literal["input", "layer"])
    ('a whole number or auto', 'input or layer')
    """
    names = [_NAMES.get(kind, str(kind)) for kind in _kinds(type_)]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


_NOT_OF_THE_KIND = object()


def _kinds(type_: Any) -> list[Any]:
    """Members of a union, and the values of a literal."""
    if get_origin(type_) is Literal or get_args(type_):
        return [kind for member in get_args(type_) for kind in (_kinds(member) if get_args(member) else [member])]
    return [type_]


def _parsed(text: str, kind: Any) -> Any:
    if not isinstance(kind, type):  # one value of a literal
        return kind if text == str(kind) else _NOT_OF_THE_KIND
    if kind is bool:
        return _BOOLEANS.get(text.lower(), _NOT_OF_THE_KIND)
    if kind is NoneType:
        return None if text.lower() == "none" else _NOT_OF_THE_KIND
    try:
        return kind(text)
    except ValueError:
        return _NOT_OF_THE_KIND
