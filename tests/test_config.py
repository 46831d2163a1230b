from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from heedful import config, configs, options
from heedful.config import Config, UserError, install
from heedful.configs import registry


class Optimiser(Config):
    rate: float = Field(1e-3, gt=0)
    betas: list[float] = [0.9, 0.95]
    decay: bool = False


class Stage(Config):
    model: str = "base"
    steps: int = 100
    note: str = ""
    optimiser: Optimiser = Optimiser()


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stage.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_anything_the_defaults_hold() -> None:
    assert config.load(Stage) == Stage()


def test_later_sources_win(tmp_path: Path) -> None:
    path = toml(tmp_path, 'model = "file"\nsteps = 1\nnote = "file"\n[optimiser]\nrate = 0.5\n')
    stage = config.load(Stage, path, ["note=override"], model=None, steps=2, note="input")
    assert (stage.model, stage.steps, stage.note, stage.optimiser.rate) == ("file", 2, "override", 0.5)


def test_overrides_keep_the_rest_of_a_section(tmp_path: Path) -> None:
    path = toml(tmp_path, "[optimiser]\nrate = 0.5\n")
    stage = config.load(Stage, path, ["optimiser.decay=true"])
    assert stage.optimiser == Optimiser(rate=0.5, decay=True)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps=7", Stage(steps=7)),
        (" steps = 7 ", Stage(steps=7)),
        ("optimiser.rate=2e-4", Stage(optimiser=Optimiser(rate=2e-4))),
        ("optimiser.decay=true", Stage(optimiser=Optimiser(decay=True))),
        ("optimiser.betas=[0.8, 0.99]", Stage(optimiser=Optimiser(betas=[0.8, 0.99]))),
        ("note=bare words", Stage(note="bare words")),
        ('note="quoted = 1"', Stage(note="quoted = 1")),
        ("note=a=b", Stage(note="a=b")),
        ("note=", Stage(note="")),
        ("note=runs/2024", Stage(note="runs/2024")),
        ('optimiser={rate=0.25}', Stage(optimiser=Optimiser(rate=0.25))),
    ],
)  # fmt: skip
def test_override_values(override: str, expected: Stage) -> None:
    assert config.load(Stage, None, [override]) == expected


@pytest.mark.parametrize("text", ["7", "true", "1979-05-27", "[1]"])
def test_a_string_field_takes_what_reads_as_another_type(text: str) -> None:
    """A run called 7 is a legal name; it needs no quoting twice."""
    assert config.load(Stage, None, [f"note={text}"]).note == text


def test_optional_text_and_paths_are_text_and_free_mappings_are_not() -> None:
    class Mixed(Config):
        name: str | None = None
        path: Path = Path()
        weights: dict[str, Any] = {}

    mixed = config.load(Mixed, None, ["name=7", "path=8", "weights.a=0.5"])
    assert mixed == Mixed(name="7", path=Path("8"), weights={"a": 0.5})


def test_the_callers_sections_are_left_alone() -> None:
    section = {"rate": 0.5}
    stage = config.load(Stage, None, ["optimiser.rate=0.25"], optimiser=section)
    assert (stage.optimiser.rate, section) == (0.25, {"rate": 0.5})


def test_one_line_of_toml_cannot_smuggle_in_a_second() -> None:
    assert config.load(Stage, None, ["note=a\nsteps = 3"]).note == "a\nsteps = 3"
    assert config.load(Stage, None, ["note=1\nsteps = 3"]).steps == 100


@pytest.mark.parametrize("override", ["steps", "=3", " =3", "optimiser..rate=1", ".steps=1", "optimiser.=1"])
def test_a_malformed_override_says_how_to_write_it(override: str) -> None:
    with pytest.raises(UserError, match=r"--set .*section\.key=value"):
        config.load(Stage, None, [override])


def test_an_override_cannot_pass_through_a_value() -> None:
    with pytest.raises(UserError, match="'model' is not a section"):
        config.load(Stage, None, ["model.size=3"], model="base")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "unknown key 'stepz'. Known here: model, note, optimiser, steps"),
        ("optimiser.lr=3", "unknown key 'optimiser.lr'. Known here: betas, decay, rate"),
        ("optimizer.rate=3", "unknown key 'optimizer'. Known here: model, note, optimiser, steps"),
    ],
)
def test_an_unknown_key_names_the_known_ones(override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        config.load(Stage, None, [override])
    assert str(error.value) == f"the options: {message}"


def test_unknown_keys_are_found_inside_optional_sections() -> None:
    class Holder(Config):
        section: Optimiser | None = None

    with pytest.raises(UserError, match=r"unknown key 'section\.lr'. Known here: betas, decay, rate"):
        config.load(Holder, None, ["section.lr=1"])


def test_a_wrong_value_names_file_key_and_value(tmp_path: Path) -> None:
    path = toml(tmp_path, "[optimiser]\nrate = -1\n")
    with pytest.raises(UserError) as error:
        config.load(Stage, path)
    assert str(error.value) == f"{path}: 'optimiser.rate': must be greater than 0, not -1"
    with pytest.raises(UserError) as error:
        config.load(Stage, path, ["steps=many"])
    assert str(error.value).startswith("the options: 'steps': ")


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(UserError, match="…") as error:
        config.load(Stage, None, ["steps=" + "x" * 500])
    assert len(str(error.value)) < 200


def test_a_missing_key_is_named() -> None:
    class Needy(Config):
        data: str

    with pytest.raises(UserError, match=r"^the options: 'data': missing. Required: data.$"):
        config.load(Needy)


def test_a_validators_own_words_are_kept() -> None:
    class Picky(Config):
        a: int = 1

        @model_validator(mode="after")
        def _check(self) -> Picky:
            if self.a == 3:
                raise ValueError("three is taken; choose another a")
            return self

    with pytest.raises(UserError, match=r"^the options: three is taken; choose another a$"):
        config.load(Picky, None, ["a=3"])


def test_what_is_nested_too_deep_is_one_line(tmp_path: Path) -> None:
    deep = "[" * 3000
    with pytest.raises(UserError, match=r"stage\.toml: nested too deep\. Use a few levels"):
        config.load(Stage, toml(tmp_path, f"steps = {deep}"))
    with pytest.raises(UserError, match=r"'steps': .*whole number"):
        config.load(Stage, None, [f"steps={deep}"])


@pytest.mark.parametrize("content", [b"steps = ", b"steps = 1\nsteps = 2\n", b"note = '\xff'"])
def test_bad_toml_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not valid TOML") as error:
        config.load(Stage, path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such config file"):
        config.load(Stage, tmp_path / "nowhere.toml")
    with pytest.raises(UserError, match=str(tmp_path)):
        config.load(Stage, tmp_path)


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Stage().steps = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Stage().optimiser.rate = 3  # type: ignore[misc]


def test_a_config_refuses_unknown_keywords() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Stage(stepz=3)  # type: ignore[call-arg]


def test_a_section_given_in_part_keeps_the_rest_of_its_default_here() -> None:
    class Section(Config):
        size: int
        rate: float = 1.0

    class Holder(Config):
        section: Section = Section(size=3, rate=0.5)

    assert config.load(Holder, None, ["section.rate=0.25"]).section == Section(size=3, rate=0.25)
    assert config.load(Holder, section={"size": 4}).section == Section(size=4, rate=0.5)
    with pytest.raises(UserError, match=r"unknown key 'section\.rates'. Known here: rate, size"):
        config.load(Holder, None, ["section.rates=1"])


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "stage.toml"
    path.write_bytes(b'\xef\xbb\xbfmodel = "file"\n')
    assert config.load(Stage, path).model == "file"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_settings_are_finite(value: str) -> None:
    with pytest.raises(UserError, match=r"optimiser\.rate.*finite number"):
        config.load(Stage, None, ["model=m", f"optimiser.rate={value}"])


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (None, "pip install 'heedful[train]'"),
        (
            {"url": "file:///home/ada/my%20code", "dir_info": {"editable": True}},
            "pip install -e '/home/ada/my code[train]'",
        ),
        ({"url": "file:///tmp/heedful.whl", "archive_info": {}}, "pip install '/tmp/heedful.whl[train]'"),
        (
            {"url": "https://example.org/h.git", "vcs_info": {"vcs": "git", "commit_id": "0"}},
            "pip install 'heedful[train] @ git+https://example.org/h.git'",
        ),
    ],
)
def test_the_remedy_for_a_missing_extra_fits_the_installation(
    source: dict[str, Any] | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found:
        def read_text(self, name: str) -> str | None:
            return None if source is None else json.dumps(source)

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Found())
    assert install("train") == command


class Weighing(Config):
    groups: dict[str, float] = {}
    names: dict[str, str] = {}
    steps: int = 1


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("groups.in.house=0.5", {"in.house": 0.5}),
        ('groups."in.house" = 0.5', {"in.house": 0.5}),
        ("groups.a=b=0.5", {"a=b": 0.5}),
        ("groups. a =2", {"a": 2.0}),
    ],
)
def test_names_of_a_mapping_may_hold_dots(override: str, expected: dict[str, float]) -> None:
    assert config.load(Weighing, None, [override]).groups == expected
    assert config.load(Weighing, None, ["names.x.y=a=b"]).names == {"x.y": "a=b"}


def test_a_mapping_keeps_the_entries_of_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, "[groups]\na = 1\n'in.house' = 2\n")
    assert config.load(Weighing, path, ["groups.in.house=3"]).groups == {"a": 1.0, "in.house": 3.0}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("steps=true", "'steps': a number is needed, not true"),
        ("optimiser.rate=false", "'optimiser.rate': a number is needed, not false"),
        ("optimiser.betas=[0.9, true]", "'optimiser.betas': a number is needed, not true"),
        ("steps=1e30", "'steps': the largest number is 1e\\+15"),
        (f"steps={10**25}", "'steps': the largest number is 1e\\+15"),
        ("optimiser.rate=1e300", "'optimiser.rate': the largest number is 1e\\+15"),
    ],
)
def test_what_is_no_sensible_number_is_refused(override: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        config.load(Stage, None, [override])
    with pytest.raises(UserError, match="'groups': a number is needed, not true"):
        config.load(Weighing, None, ["groups.a=true"])
    assert config.load(Stage, None, ["optimiser.decay=true"]).optimiser.decay


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimiser.lr=1e300", "'optimiser.lr'"),
        ("optimiser.lr=11", "'optimiser.lr': .* at most 10, not 11"),
        (f"epochs={10**25}", "'epochs'"),
        ("epochs=2000000", "'epochs': .* at most 1000000, not 2000000"),
        ("epochs=true", "'epochs': a number is needed, not true"),
    ],
)
@pytest.mark.parametrize("stage", ["sft", "ppo", "reward"])
def test_stages_refuse_nonsense(stage: str, override: str, told: str) -> None:
    required = {"model": "m", "data": "d", "policy": "m", "reward": ["r"], "prompts": "p"}
    cls = registry.stages()[stage].config
    given = {
        name: value
        for name, value in required.items()
        if name in cls.model_fields and cls.model_fields[name].is_required()
    }
    with pytest.raises(UserError, match=told):
        config.load(cls, None, [override], **given)


def test_an_option_replaces_the_mapping_of_the_file_and_set_changes_an_entry(tmp_path: Path) -> None:
    path = toml(tmp_path, "[groups]\na = 1\nb = 2\n")
    (groups,) = (one for one in options.settings(Weighing) if one.path == "groups")
    given = [(groups, ("in.house=0.5", "c=3"))]
    assert options.loaded(Weighing, given, {}, path, ()) == Weighing(groups={"in.house": 0.5, "c": 3.0})
    both = options.loaded(Weighing, given, {}, path, ("groups.c=4",))
    assert both == Weighing(groups={"in.house": 0.5, "c": 4.0})
    assert options.loaded(Weighing, [], {}, path, ("groups.b=4",)) == Weighing(groups={"a": 1.0, "b": 4.0})


def sections(module_names: list[str]) -> list[type[Config]]:
    """Every class of settings in heedful.configs, and that of the web server."""
    modules = [import_module(name) for name in module_names]
    return list({one: None for module in modules for one in vars(module).values()
                 if isinstance(one, type) and issubclass(one, Config) and one is not Config})  # fmt: skip


SECTIONS = sections(
    [f"heedful.configs.{one.name}" for one in iter_modules(configs.__path__)] + ["heedful.web.settings"]
)
BOUNDS = {"ge": -1, "gt": 0, "le": 1, "lt": 0}
"""The limits of a number, and the way to the next number that is refused."""


def bounded(kind: Any, limits: list[Any]) -> list[tuple[Any, dict[str, float]]]:
    """Every kind of number that an annotation allows, with its limits."""
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        more = [item for one in more for item in ([one, *one.metadata] if isinstance(one, FieldInfo) else [one])]
        return bounded(inner, [*limits, *more])
    if kind in (int, float):
        return [(kind, {key: getattr(one, key) for one in limits for key in BOUNDS if hasattr(one, key)})]
    parts = [part for part in get_args(kind) if not isinstance(part, str)] if get_origin(kind) is not Literal else []
    return [found for part in parts for found in bounded(part, limits if get_origin(kind) is not dict else [])]


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_every_number_has_sensible_bounds_that_act(cls: type[Config]) -> None:
    """A value beyond a limit is refused in one line, alone, as the only problem of its key."""
    for name, field in cls.model_fields.items():
        for kind, limits in bounded(field.annotation, list(field.metadata)):
            low, high = limits.keys() & {"ge", "gt"}, limits.keys() & {"le", "lt"}
            assert low, f"{cls.__name__}.{name} has no lower limit"
            assert high, f"{cls.__name__}.{name} has no upper limit"
            assert max(abs(limit) for limit in limits.values()) <= config.LARGEST / 10, name
            if get_origin(field.annotation) is dict:
                continue
            for key, limit in limits.items():
                beyond = limit + BOUNDS[key] * (1 if kind is int else max(1e-3, abs(limit) * 1e-3))
                with pytest.raises(ValidationError) as error:
                    cls.model_validate({name: kind(beyond)})
                assert name in [problem["loc"][0] for problem in error.value.errors()], f"{name}={beyond}"


def test_there_are_many_numbers() -> None:
    found = [name for cls in SECTIONS for name, field in cls.model_fields.items() if bounded(field.annotation, [])]
    assert len(found) > 150
