"""Configurations as frozen dataclasses, their numbers as data: presets in TOML, layered and checked.

``langevin/training/presets/<algorithm>.toml`` holds a table for each preset (``[cpu]``, ``[paper]``) and
tables for datasets laid over it (``[cpu."pointmaze/umaze-v0"]``; ``*`` and ``?`` match as in file names,
later tables win). TOML has no word for None, so it is written ``"none"``.
"""

import dataclasses
import difflib
import importlib.resources
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
import tomli_w

from langevin.errors import UsageError

Config = TypeVar("Config")
_NONE = "none"


def load_preset(
    config_class: type[Config],
    algorithm: str,
    preset: str,
    dataset_id: str,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration of an algorithm: class defaults, preset, dataset's tables, `overrides`, each over the
    last.

    `overrides` may name nested fields with dots (``{"base.alpha": 2.5}``). Raises UsageError for an unknown
    preset or key (naming the nearest) and for a value of the wrong type (naming key, expected and got).
    """
    file = importlib.resources.files("langevin.training") / "presets" / f"{algorithm}.toml"
    if not file.is_file():
        raise UsageError(f"there are no presets for algorithm {algorithm!r} (no presets/{algorithm}.toml)")
    presets = _parse(file.read_text("utf-8"), f"presets/{algorithm}.toml")
    if preset not in presets:
        raise UsageError(f"{algorithm} has no preset {preset!r}{_nearest(preset, presets)}")
    # Only a dataset's name can hold a slash, so it is told from the name of a nested configuration.
    general = {name: value for name, value in presets[preset].items() if "/" not in name}
    layers = [(general, f"presets/{algorithm}.toml [{preset}]")]
    for pattern, table in presets[preset].items():
        if "/" in pattern and fnmatchcase(dataset_id, pattern):
            layers.append((table, f'presets/{algorithm}.toml [{preset}."{pattern}"]'))
    layers.append((_nest(overrides or {}), "overrides"))
    values: dict[str, Any] = {}
    for table, where in layers:
        values = _over(values, _checked(config_class, table, where))
    return _build(config_class, values, f"{algorithm}, preset {preset}")


def to_table(config: Any) -> dict[str, Any]:
    """A configuration as nested dicts that TOML can hold."""
    fields = dataclasses.fields(config)
    return {field.name: toml_value(getattr(config, field.name)) for field in fields if field.init}


def from_table(config_class: type[Config], table: Mapping[str, Any], where: str = "configuration") -> Config:
    """The configuration that `to_table` gave; `where` names the table in errors."""
    return _build(config_class, _checked(config_class, table, where), where)


def to_toml(config: Any) -> str:
    """A configuration as TOML text."""
    return tomli_w.dumps(to_table(config))


def from_toml(config_class: type[Config], text: str, where: str = "configuration") -> Config:
    """The configuration that `to_toml` gave; UsageError as in `load_preset`."""
    return from_table(config_class, _parse(text, where), where)


def toml_value(value: Any) -> Any:
    """A value as TOML can hold it: None becomes "none", tuples lists, dataclasses tables, array scalars
    numbers."""
    if value is None:
        return _NONE
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_table(value)
    if isinstance(value, Mapping):
        return {str(key): toml_value(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return toml_value(value.tolist())
    if isinstance(value, list | tuple):
        return [toml_value(item) for item in value]
    return value


def _checked(config_class: Any, table: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """The table's values in the types of the fields; nested configurations stay nested dicts."""
    hints = typing.get_type_hints(config_class)
    names = [field.name for field in dataclasses.fields(config_class) if field.init]
    checked = {}
    for name, value in table.items():
        if name not in names:
            raise UsageError(f"{where}: unknown key {prefix + name!r}{_nearest(name, names)}")
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise _wrong_type(where, prefix + name, "a table", value)
            checked[name] = _checked(hints[name], value, where, f"{prefix}{name}.")
        else:
            checked[name] = _converted(hints[name], value, where, prefix + name)
    return checked


def _converted(kind: Any, value: Any, where: str, key: str) -> Any:
    """The value as `kind`, an annotation made of int, float, bool, str, None, Literal, tuple and unions of
    them."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and (value is None or value == _NONE):
            return None
        for member in arguments:
            try:
                return _converted(member, value, where, key)
            except UsageError:
                continue
    elif origin is typing.Literal:
        if value in arguments:
            return value
        choices = ", ".join(map(str, arguments))
        raise UsageError(f"{where}: {key} must be one of {choices}, got {value!r}")
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            pairs = zip(kinds, value, strict=True)
            return tuple(
                _converted(kind, item, where, f"{key}[{at}]") for at, (kind, item) in enumerate(pairs)
            )
    elif origin is dict and isinstance(value, Mapping):
        return dict(value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif kind is type(None) and (value is None or value == _NONE):
        return None
    elif isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _wrong_type(where, key, _in_words(kind), value)


def _in_words(kind: Any) -> str:
    """An annotation as a person would read it: "float or union", "int or none"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_in_words, arguments))
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if kind is type(None):
        return _NONE
    return kind.__name__ if isinstance(kind, type) and not origin else str(kind)


def _build(config_class: Any, values: Mapping[str, Any], where: str, prefix: str = "") -> Any:
    """Fill the class from checked values; what is not given comes from its defaults, nested ones included."""
    arguments, hints = {}, typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        given = values.get(field.name, dataclasses.MISSING)
        nested: Any = hints[field.name]
        if dataclasses.is_dataclass(nested) and isinstance(given, Mapping):
            if default is not dataclasses.MISSING:
                given = _over(_checked(nested, to_table(default), where), given)
            arguments[field.name] = _build(nested, given, where, f"{prefix}{field.name}.")
        elif given is not dataclasses.MISSING:
            arguments[field.name] = given
        elif default is dataclasses.MISSING and field.init:
            raise UsageError(f"{where}: key {prefix + field.name!r} is missing and has no default")
    return config_class(**arguments)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested table over another."""
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _over(merged[name], value) if both else value
    return merged


def _nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """``{"base.alpha": 1}`` as ``{"base": {"alpha": 1}}``."""
    nested: dict[str, Any] = {}
    for name, value in dotted.items():
        for part in reversed(name.split(".")):
            value = {part: value}
        nested = _over(nested, value)
    return nested


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from error


def _nearest(name: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(near)}" if near else f"; known: {', '.join(names)}"


def _wrong_type(where: str, key: str, expected: str, value: Any) -> UsageError:
    return UsageError(f"{where}: {key} must be {expected}, got {value!r} ({type(value).__name__})")
