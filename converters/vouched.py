"""How a user names code of their own that a checkpoint may use: `module:attribute`, `name=module:attribute`."""

from typing import NamedTuple

from converters.errors import CheckpointError

LAMBDA = "Lambda:"  # before the name of a Lambda layer, in the place of a name


class VouchedCode(NamedTuple):
    """One such entry: what the checkpoint calls it, and where it is."""

    name: str
    module: str
    attribute: str


def parse(entry: str) -> VouchedCode:
    """Parse an entry.

    Raises
    ------
    CheckpointError
        It has another form.

    Examples
    --------
    >>> parse("mylayers:Scale")
    VouchedCode(name='Scale', module='mylayers', attribute='Scale')
    >>> parse("Lambda:double=mylayers:times_two")
    VouchedCode(name='Lambda:double', module='mylayers', attribute='times_two')
    """
    name, _, place = entry.rpartition("=")
    module, _, attribute = place.rpartition(":")
    if not (module and attribute) or name == LAMBDA:
        raise CheckpointError(
            f"custom={entry!r}; expected module:attribute as in mylayers:Scale, name=module:attribute, or "
            f"Lambda:layer=module:function"
        )
    return VouchedCode(name or attribute, module, attribute)
