"""YAML files: our own bounds hold before the library is asked; nothing within them is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oodbench.declare import yaml_files
from oodbench.declare.yaml_files import MAX_DEPTH, read_yaml
from oodbench.errors import ConfigError


def lists(depth: int) -> object:
    """A list in a list …, `depth` collections deep in all."""
    found: object = 0
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize("flow", [True, False])
@pytest.mark.parametrize("spare", [1, 0])
def test_as_deep_as_is_allowed_and_no_deeper(tmp_path: Path, flow: bool, spare: int) -> None:
    value = {"a": lists(MAX_DEPTH - spare)}  # the mapping itself is one level
    path = tmp_path / "deep.yaml"
    path.write_text(yaml.safe_dump(value, default_flow_style=flow, width=10_000))
    if spare:
        assert read_yaml(path) == value
    else:
        with pytest.raises(ConfigError, match=r"line \d+: nested more than 40 levels deep"):
            read_yaml(path)


@pytest.mark.parametrize("opening", ["[", "{a: ", '["x", [', "[ # [ [\n  "])
def test_deep_brackets_never_reach_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise yaml.YAMLError("in the library's own words")

    monkeypatch.setattr(yaml_files.yaml, "parse", refuse)
    path = tmp_path / "deep.yaml"
    path.write_text("a:\n  " + opening * 100_000)
    with pytest.raises(ConfigError, match="nested more than 40 levels deep"):
        read_yaml(path)


def test_brackets_in_texts_and_comments_do_not_count(tmp_path: Path) -> None:
    many = "[" * 100
    path = tmp_path / "texts.yaml"
    path.write_text(
        f"# {many}\na: '{many}''{{'\nb: \"{many} \\\" {{\"  # {many}\n"
        f'c: it\'s fine\nd: ["{many}", \'{many}\', {{e: "{many}"}}]\n'
    )
    assert read_yaml(path) == {
        "a": f"{many}'{{",
        "b": f'{many} " {{',
        "c": "it's fine",
        "d": [many, many, {"e": many}],
    }


@pytest.mark.parametrize("tag", ["!mine", "!!python/name:os.system", "!!set2"])
def test_tags_of_objects_are_refused_and_plain_ones_kept(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "tags.yaml"
    path.write_text(f"a: 1\nb: {tag} 3\n")
    with pytest.raises(ConfigError, match=r"line 2: the tag .* is not allowed"):
        read_yaml(path)
    path.write_text("a: !!str 1\nb: !!int 2\nc: !!float 3\n")
    assert read_yaml(path) == {"a": "1", "b": 2, "c": 3.0}


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")), max_size=20)
values = st.recursive(
    st.one_of(texts, st.text("[]{}'\"# ", max_size=20), st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)


@given(value=st.dictionaries(texts, values, min_size=1, max_size=4), flow=st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, object], flow: bool
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "any.yaml"
    path.write_text(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True), "utf-8")
    assert read_yaml(path) == value
