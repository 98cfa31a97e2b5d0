"""What numbers the options of a method may be."""


def require_count(option: str, value: int) -> None:
    """Raise `ValueError` unless an option is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{option}={value!r}; expected a whole number of at least 1")


def require_between(option: str, value: float, low: float, high: float) -> None:
    """Raise `ValueError` unless an option is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{option}={value!r}; expected a number from {low:g} to {high:g}")
