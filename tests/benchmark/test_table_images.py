"""What tables say of the images behind their rows, and which runs answer them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oodbench.canonical_json import JSON
from oodbench.declare.layout_files import find_layout
from oodbench.flow.suites import find_suite
from oodbench.leaderboards.rows import Group, group_runs, left_out_notes
from oodbench.store.store import Store
from oodbench.tables.images import (
    Compared,
    image_notes,
    means_note,
    scale_note,
    seeds_note,
    size_note,
    sizes,
    sizes_in_short,
)
from oodbench.tables.request import (
    TableRequest,
    layout_notes,
    suite_groups,
    table_rows,
    table_text,
)
from oodbench.tables.sources.results import results_for

PART = "a: a seeded subset of 50 of 100 images"


def test_sizes_name_who_compares_fewer_images() -> None:
    rows = [
        Compared("a-b", "Glow", "L", 100, ()),
        Compared("a-b", "WAIC", "-WAIC", 50, (PART,)),
        Compared("a-b", "VAE", "L", 100, ()),
        Compared("a-b", "Flow+Group", "GOD1KS", 100, ()),
        Compared("a-b", "Flow+Group", "GOD1KS b=5", 20, (), members=5),
        Compared("a-c", "Glow", "L", 80, ()),
    ]
    assert size_note(rows) == (
        "a-b: 100 ID + 100 OOD images (equal size); 50 + 50 of WAIC; 20 + 20 groups of 5 of"
        " Flow+Group GOD1KS b=5.  a-c: 80 ID + 80 OOD images (equal size)."
    )
    assert sizes_in_short(rows) == "50 to 100, 20 groups of 5 each"
    assert sizes_in_short(rows[:1]) == "100 each"


def test_most_images_speak_for_a_pair_and_not_the_row_that_comes_first() -> None:
    rows = [
        Compared("a-b", "WAIC", "-WAIC", 500, ()),
        Compared("a-b", "Glow", "L", 10_000, ()),
        Compared("a-b", "VAE", "L", 10_000, ()),
    ]
    assert sizes(rows) == "10,000 ID + 10,000 OOD images (equal size); 500 + 500 of WAIC"
    groups = [replace(row, members=20) for row in rows[1:]]
    assert sizes([*groups, rows[0]]) == (
        "500 ID + 500 OOD images (equal size); 10,000 + 10,000 groups of 20 of Glow, VAE"
    )


def test_seeds_and_scales_that_differ_name_their_rows() -> None:
    rows = [
        Compared("a-b", "HVAE(3)", "L", 100, (), seeds=3, scale="small"),
        Compared("a-b", "HVAE(3)", "LLR>1", 100, (), seeds=3, scale="small"),
        Compared("a-b", "HVK", "LLR>1", 100, (), seeds=2, scale="paper"),
        Compared("a-b", "Mean intensity", "", 100, ()),
    ]
    assert seeds_note(rows) == "3 training seeds; 2 of HVK; 1 of Mean intensity"
    assert seeds_note(rows[3:]) == "one seed"
    assert means_note(rows) == (
        "Means over training seeds: 2 of HVK; 1 of Mean intensity; 3 of the others."
    )
    assert (means_note(rows[:2]), means_note(rows[3:])) == ("Means over 3 training seeds.", "")
    assert scale_note(rows) == "Scale of the recipes: small; paper of HVK."
    assert scale_note(rows[3:]) == ""


def test_notes_of_all_stand_alone_and_those_of_some_name_them() -> None:
    everyone = "b: 100 of 200 images"
    rows = [
        Compared("a-b", "Glow", "L", 100, (everyone,)),
        Compared("a-b", "WAIC", "-WAIC", 50, (everyone, PART)),
        Compared("a-b", "VAE", "L", 50, (PART, everyone)),
    ]
    assert image_notes(rows) == [everyone, f"WAIC, VAE: {PART}"]
    chosen = Compared("a-b", "ODIN(3)", "", 100, (everyone, "ODIN: T = 10, chosen on c"))
    assert image_notes([*rows, chosen])[-1] == "ODIN(3): T = 10, chosen on c"


def _with(group: Group, **changes: JSON) -> Group:
    """The same runs with other words in their records."""
    record = {**group.first, **changes}
    return Group(record, [replace(entry, record=record) for entry in group.entries])


def test_a_layout_takes_the_scale_of_most_cells(made_up_store: Store) -> None:
    groups = group_runs(made_up_store.entries("run"))
    layout = find_layout("table2")
    assert results_for(groups, layout).scale == "small"
    # One run of a larger scale does not hide the others ...
    assert results_for([*groups, _with(groups[0], scale="paper")], layout).scale == "small"
    # ... as many of them do.
    trained_long = [_with(group, scale="paper") for group in groups]
    assert results_for([*groups, *trained_long], layout).scale == "paper"


def test_a_layout_groups_subsets_by_detector(made_up_store: Store) -> None:
    layout = find_layout("table2")
    asked = next(layout.queries())["detector"]
    groups = [
        _with(group, notes=[PART]) if group.first["detector"] == asked else group
        for group in group_runs(made_up_store.entries("run"))
    ]
    notes = layout_notes(layout, results_for(groups, layout))
    assert any(note.endswith(f": {PART}") for note in notes)
    assert PART not in notes


@pytest.mark.parametrize("paper", [False, True])
def test_every_format_of_a_layout_says_what_a_reader_has_to_know(
    made_up_store: Store, paper: bool
) -> None:
    said = "F3: chosen on photos"
    groups = [_with(group, notes=[said]) for group in group_runs(made_up_store.entries("run"))]
    request = TableRequest(layout="table2", paper=paper)
    for name in ("table", "latex", "markdown", "html"):
        assert said in table_text(groups, made_up_store, replace(request, format=name)), name
    rows, _ = table_rows(groups, made_up_store, request)
    found = [row for row in rows if row["value"] is not None]
    assert found
    assert {row["notes"] for row in found} == {said}
    assert {row["notes"] for row in rows if row["value"] is None} <= {None}
    assert f",{said}" in table_text(groups, made_up_store, replace(request, format="csv"))
    assert f'"notes": "{said}"' in table_text(
        groups, made_up_store, replace(request, format="json")
    )


def test_a_suite_takes_its_own_recipe_and_the_newest_settings(made_up_store: Store) -> None:
    suite = find_suite("generative-fashionmnist")
    runs = group_runs(made_up_store.entries("run"))
    groups = [group for group in runs if group.first["recipe"] in ("F3", "")]
    asked = suite_groups(groups, suite)
    group = next(g for g in asked if g.first["recipe"] == "F3")
    assert not left_out_notes(asked)
    later = "2999-01-01T00:00:00+00:00"
    sweep = _with(group, recipe="F3-dense", variant="informative", created=later)
    changed = _with(group, created=later)
    assert suite_groups([*groups, sweep], suite) == asked  # though it is newer
    found = suite_groups([*groups, changed], suite)
    assert [g.first for g in found] == [
        changed.first if g is group else g.first for g in asked
    ]  # fmt: skip
    name, runs_before = group.first["detector"], len(group.entries)
    word = "run" if runs_before == 1 else "runs"
    assert left_out_notes(found) == [
        f"{runs_before} {word} of other settings or images left out: {name!r}"
    ]  # fmt: skip


def test_a_suite_shows_a_recipe_that_it_names_or_that_is_not_known(made_up_store: Store) -> None:
    suite = find_suite("generative-fashionmnist")
    groups = group_runs(made_up_store.entries("run"))
    group = next(g for g in suite_groups(groups, suite) if g.first["recipe"] == "F3")
    own = _with(group, recipe="mine.yaml")
    assert suite_groups([own], suite) == [own]
    named = replace(
        suite, parts=tuple(
            replace(part, detectors=tuple(f"{name}@F3-dense" for name in part.detectors))
            for part in suite.parts
        ),
    )  # fmt: skip
    sweep = _with(group, recipe="F3-dense", variant="informative")
    assert suite_groups([group, sweep], named) == [sweep]
