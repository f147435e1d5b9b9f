"""Reads the parameters of a stored run as Config fields; the run may hold any text."""

from dataclasses import MISSING, fields
from functools import lru_cache
from typing import get_type_hints

from eml.config import LEARNING_RATES, Config
from eml.errors import printable
from eml.tracking.stored_run import StoredRun
from eml.tracking.tags import TRAINING_DIGEST

CONFIG = {name: kind for name, kind in get_type_hints(Config).items() if name != "recipe"}
# The values of runs that are older than the field.
DEFAULTS = {f.name: f.default for f in fields(Config) if f.default is not MISSING}
# Bounds of a run's numbers, so that no axis and no product of two numbers overflows.
LOWEST = {"epochs": 1, "batch_size": 1, "learning_rate": LEARNING_RATES[0]}  # else 0
HIGHEST = {"learning_rate": LEARNING_RATES[1]}  # else 10**18
LONGEST_TEXT = 200  # characters shown of a name or tag
LONGEST_NAME = 60  # characters of a Config's text: several share one line of a figure


def config_values(run: StoredRun) -> dict[str, int | float | str]:
    """The fields of the run's Config, without the recipe. Requires that lacks() is ""."""
    return DEFAULTS | {
        name: parameter_value(name, run.params[name]) for name in CONFIG if name in run.params
    }


def lacks(run: StoredRun) -> str:
    """Why a run is not the training of a Config, in words; "" if it is."""
    for name, kind in CONFIG.items():
        if name not in run.params:
            if name in DEFAULTS:
                continue
            other = "made by another version of eml, " if TRAINING_DIGEST in run.tags else ""
            return f"{other}no training with a {name}"
        if kind is not str and not is_number(number_in(run.params[name]), name, kind):
            number = "whole number" if kind is int else "number"
            valid = f"{number} from {LOWEST.get(name, 0):g} to {_highest(name):g}"
            return f"its {name} is no {valid} ({shown(run.params[name], LONGEST_NAME)})"
    return ""


def parameter_value(name: str, text: str) -> int | float | str:
    """The value of a parameter: a number where Config has one, text where it has text."""
    kind = CONFIG.get(name)
    if kind is str:
        return shown(text, LONGEST_NAME)
    number = number_in(text)
    if isinstance(number, str):
        return shown(number)
    if name == "learning_rate":  # rates that look alike everywhere are one
        return float(f"{number:.6g}")
    return int(number) if kind is int else number


def is_number(value: int | float | str, name: str, kind: type) -> bool:
    """Whether the parameter `name` can have this value, as a number of this kind."""
    if isinstance(value, str) or not LOWEST.get(name, 0) <= value <= _highest(name):
        return False
    return kind is float or value == int(value)


def _highest(name: str) -> float:
    return HIGHEST.get(name, 10**18)


def number_in(text: str) -> int | float | str:
    """The text as a number; an integer that no column of a frame holds becomes a float."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if kind is float or abs(number) < 2**63:
            return number
    return text


@lru_cache(1000)  # runs have many tags, and most are equal
def shown(text: str, longest: int = LONGEST_TEXT) -> str:
    return printable(text, longest)
