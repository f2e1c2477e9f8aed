"""Folders of one's own images: what is taken, what is said of the rest, parts, identity."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodbench.datasets.loading import DataPlaces, load
from oodbench.datasets.reading import file_identity as identity
from oodbench.declare.recipes import recipe_files
from oodbench.errors import DataError

RNG = np.random.default_rng(3)


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    return DataPlaces((), tmp_path / "cache")


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape or (8, 8), dtype=np.uint8)


def save(path: Path, image: np.ndarray | None = None, **more: object) -> np.ndarray:
    image = pixels() if image is None else image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **more)  # type: ignore[arg-type]
    return image


# ---------------------------------------------------------------------- oddities
def oddities(root: Path) -> list[tuple[str, str]]:
    """Thirty kinds of entries that hold no image that is read, each with its reason."""
    made = []

    def add(name: str, reason: str, content: bytes = b"x") -> None:
        path = root / name.rstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
            save(path / "copy.png")
        else:
            path.write_bytes(content)
        made.append((name, reason))

    for name in (".DS_Store", "a/._000.png", ".hidden.png", "a/.gitkeep"):
        add(name, "hidden")
    for name in (".git/", "a/.ipynb_checkpoints/", ".cache/"):
        add(name, "hidden folders")
    for name in ("__MACOSX/", "a/@eaDir/", "$RECYCLE.BIN/"):
        add(name, "folders left by a system")
    for name in ("Thumbs.db", "a/desktop.ini"):
        add(name, "left by a system")
    for ending in (".heic", ".svg", ".jp2", ".dcm"):
        add(f"photo{ending}", f"images of a kind that is not read, {ending}")
    for name in ("more.zip", "a/old.tar.gz"):
        add(name, "archives")
    for name in ("features.npz", "labels.csv", "model.pt"):
        add(name, "files of arrays or tables")
    for ending in (".txt", ".json", ".xml", ".bak", ".png~", ".mp4"):
        add(f"a/001{ending}", f"files ending in {Path(f'a/001{ending}').suffix}")
    add("a/IMG_0001", "files without an ending")
    for name, target in (("gone.png", ".git/annex/objects/xx"), ("a/lost", "nowhere")):
        (root / name).symlink_to(target)
        made.append((name, "broken links"))
    os.mkfifo(root / "a" / "pipe.png")
    made.append(("a/pipe.png", "neither files nor folders"))
    return made


def test_everything_that_is_skipped_is_named_once(tmp_path: Path, places: DataPlaces) -> None:
    root = tmp_path / ".hidden" / "set"  # a hidden folder above changes nothing
    images = [save(root / "a" / f"{i}.PNG") for i in range(3)]
    made = oddities(root)
    assert len(made) >= 30
    found = load(str(root), "test", places)
    np.testing.assert_array_equal(found.images[:, 0], images)
    assert "\n" not in found.note
    counted = dict[str, int]()
    for number, reason, names in re.findall(r"([0-9]+) ([^()]+?) \(([^()]*)\)", found.note):
        assert reason not in counted
        counted[reason] = int(number)
        held = [name for name, why in made if why == reason]
        assert names.split(", ")[:3] == sorted(held)[:3], reason
    expected = {reason: [r for _, r in made].count(reason) for _, reason in made}
    assert counted == expected
    assert sum(counted.values()) == len(made)


def test_a_socket_is_no_image(tmp_path: Path, places: DataPlaces) -> None:
    save(tmp_path / "s" / "0.png")
    here = os.getcwd()
    os.chdir(tmp_path / "s")  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("x.png")
    finally:
        os.chdir(here)
    note = load(str(tmp_path / "s"), "test", places).note
    assert note == "skipped: 1 neither files nor folders (x.png)"


def test_jpeg_by_any_of_its_endings(tmp_path: Path, places: DataPlaces) -> None:
    for ending in ("jpg", "jpeg", "jpe", "jfif", "JPG"):
        save(tmp_path / "j" / f"x.{ending}", format="JPEG")
    found = load(str(tmp_path / "j"), "test", places)
    assert (len(found), found.note) == (5, "")


def test_a_folder_that_cannot_be_listed_is_no_empty_one(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "f" / "0.png")
    (tmp_path / "f" / "closed").mkdir()
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"closed: it cannot be listed \(Permission denied\)"):
        load(str(tmp_path / "f"), "test", places)


# ---------------------------------------------------------------------- links
def test_links_to_class_folders_are_followed(tmp_path: Path, places: DataPlaces) -> None:
    kept = {}
    for name in ("cats", "dogs"):
        kept[name] = [save(tmp_path / "shared" / name / f"{i}.png") for i in range(3)]
    kept["owls"] = [save(tmp_path / "set" / "owls" / "0.png")]
    for name in ("cats", "dogs"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "shared" / name)
    (tmp_path / "set" / "owls" / "1.png").symlink_to(tmp_path / "shared" / "cats" / "0.png")
    found = load(str(tmp_path / "set"), "test", places)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    expected = [*kept["cats"], *kept["dogs"], *kept["owls"], kept["cats"][0]]
    np.testing.assert_array_equal(found.images[:, 0], expected)


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_that_leads_back_is_refused(target: str, tmp_path: Path, places: DataPlaces) -> None:
    save(tmp_path / "set" / "a" / "0.png")
    (tmp_path / "set" / "a" / "again").symlink_to(target)
    if target == "../..":  # above the named folder, it holds that folder again
        with pytest.raises(DataError, match="this link leads back to a folder above it"):
            load(str(tmp_path / "set"), "test", places)
        return
    with pytest.raises(DataError, match=r"a/again: this link leads back to a folder above it"):
        load(str(tmp_path / "set"), "test", places)


# ---------------------------------------------------------------------- parts and classes
@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("train", "val"), ("Train", "Test"), ("training", "valid"),
     ("TRAIN", "Validation")],
)  # fmt: skip
def test_common_layouts_of_parts(train: str, test: str, tmp_path: Path, places: DataPlaces) -> None:
    kept = {
        (part, name): [save(tmp_path / "s" / part / name / f"{i}.png") for i in range(count)]
        for part, count in ((train, 4), (test, 2))
        for name in ("cat", "dog")
    }
    for split, part in (("train", train), ("test", test)):
        found = load(str(tmp_path / "s"), split, places, divide=True)
        np.testing.assert_array_equal(found.images[:, 0], [*kept[part, "cat"], *kept[part, "dog"]])
        assert found.labels is not None
        assert set(found.labels.tolist()) == {0, 1}
        said = f"{train}/ is for training, {test}/ for testing"
        assert (said in found.note) == ((train, test) != ("train", "test"))


def test_parts_that_are_not_used_are_said(tmp_path: Path, places: DataPlaces) -> None:
    for part, count in (("train", 5), ("val", 3), ("test", 2), ("extra", 4)):
        for index in range(count):
            save(tmp_path / "s" / part / f"{index}.png")
    save(tmp_path / "s" / "cover.png")
    found = load(str(tmp_path / "s"), "test", places)
    assert len(found) == 2
    assert found.note == "its val part is not used; 5 images beside train/ and test/ are not used"
    (tmp_path / "s" / "Training").mkdir()
    with pytest.raises(DataError, match="Training/ and train/ are both a train part"):
        load(str(tmp_path / "s"), "test", places)


def test_a_part_without_images_is_refused(tmp_path: Path, places: DataPlaces) -> None:
    save(tmp_path / "s" / "train" / "0.png")
    (tmp_path / "s" / "test").mkdir()
    with pytest.raises(DataError, match=r"s/test: no images in it"):
        load(str(tmp_path / "s"), "test", places)


def test_mvtec_tests_on_good_images_alone(tmp_path: Path, places: DataPlaces) -> None:
    root = tmp_path / "bottle"
    good = [save(root / "train" / "good" / f"{i}.png") for i in range(5)]
    kept = {name: [save(root / "test" / name / f"{i}.png") for i in range(3)]
            for name in ("broken", "good", "stained")}  # fmt: skip
    save(root / "ground_truth" / "broken" / "0_mask.png")
    train = load(str(root), "train", places, divide=True)
    test = load(str(root), "test", places, divide=True)
    np.testing.assert_array_equal(train.images[:, 0], good)
    np.testing.assert_array_equal(test.images[:, 0], kept["good"])
    assert "6 images of test/ in other folders than good/ are not used" in test.note
    assert "1 images beside train/ and test/ are not used" in test.note
    for name in ("broken", "stained"):
        found = load(f"{root}[{name}]", "test", places, beside=str(root))
        np.testing.assert_array_equal(found.images[:, 0], kept[name])
    both = load(f"{root}[broken,stained]", "test", places, beside=str(root))
    assert len(both) == 6


# ---------------------------------------------------------------------- several images a file
def test_all_pages_and_frames_are_read_and_said(tmp_path: Path, places: DataPlaces) -> None:
    pages = [pixels() for _ in range(5)]
    first, *more = [Image.fromarray(page) for page in pages]
    (tmp_path / "t" / "a").mkdir(parents=True)
    first.save(tmp_path / "t" / "a" / "stack.tif", save_all=True, append_images=more)
    last = save(tmp_path / "t" / "b" / "one.png")
    found = load(str(tmp_path / "t"), "test", places)
    np.testing.assert_array_equal(found.images[:, 0], [*pages, last])
    assert found.labels is not None
    assert found.labels.tolist() == [0] * 5 + [1]
    assert found.note == "5 images are pages or frames of 1 files (a/stack.tif)"
    (tmp_path / "g").mkdir()
    first.save(tmp_path / "g" / "x.gif", save_all=True, append_images=more, loop=0)
    frames = load(str(tmp_path / "g"), "test", places)
    np.testing.assert_array_equal(frames.images[:, 0], pages)
    parts = [load(str(tmp_path / "g"), s, places, divide=True) for s in ("train", "test")]
    together = np.concatenate([part.images for part in parts])
    assert sorted(map(bytes, together)) == sorted(map(bytes, frames.images))


def test_an_animation_in_the_clothes_of_an_image_is_refused(
    tmp_path: Path, places: DataPlaces
) -> None:
    first, second = Image.fromarray(pixels()), Image.fromarray(pixels())
    (tmp_path / "p").mkdir()
    first.save(tmp_path / "p" / "x.png", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=r"x\.png: it holds 2 images"):
        load(str(tmp_path / "p"), "test", places)


# ---------------------------------------------------------------------- what identifies a source
def forge(path: Path, stat: os.stat_result) -> None:
    """Give a file the size (kept by the caller) and times of another."""
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_other_content_of_the_same_size_and_time_is_read_again(
    tmp_path: Path, places: DataPlaces
) -> None:
    path, one, two = tmp_path / "x.npz", pixels(6, 8, 8), pixels(6, 8, 8)
    np.savez(path, images=one)
    before, held = load(str(path), "test", places), path.stat()
    np.savez(path, images=two)
    forge(path, held)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (held.st_size, held.st_mtime_ns)
    after = load(str(path), "test", places)
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.images[:, 0], two)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_large_file_that_was_forged_is_read_again(
    replaced: bool, tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "HASHED", 10)  # every file is large
    monkeypatch.setattr(identity, "DOUBT_NS", 0)  # and its times are believed
    path, one, two = tmp_path / "x.npz", pixels(6, 8, 8), pixels(6, 8, 8)
    np.savez(path, images=one)
    assert bytes(load(str(path), "test", places).images) == bytes(one)
    held = path.stat()
    if replaced:
        np.savez(tmp_path / "new.npz", images=two)
        os.replace(tmp_path / "new.npz", path)  # another inode
    else:
        np.savez(path, images=two)  # another change time
    forge(path, held)
    assert bytes(load(str(path), "test", places).images) == bytes(two)


def test_an_image_of_a_folder_that_was_forged_is_read_again(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "DOUBT_NS", 0)
    path = tmp_path / "f" / "0.bmp"  # the size of a BMP does not depend on its pixels
    save(path)
    load(str(tmp_path / "f"), "test", places)
    held = path.stat()
    new = save(path)
    forge(path, held)
    assert path.stat().st_size == held.st_size
    np.testing.assert_array_equal(load(str(tmp_path / "f"), "test", places).images[0, 0], new)


def test_a_file_that_has_just_changed_is_in_doubt(
    tmp_path: Path, places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All times of the file stay the same, as on a file system that counts whole seconds."""
    path = tmp_path / "f" / "0.bmp"
    save(path)
    held = path.stat()
    scan = identity.listing_identity

    def coarse(root: Path, files: object) -> object:
        return scan(root, [("0.bmp", held)])

    monkeypatch.setattr("oodbench.datasets.formats.image_folder.listing_identity", coarse)
    load(str(tmp_path / "f"), "test", places)
    new = save(path)
    np.testing.assert_array_equal(load(str(tmp_path / "f"), "test", places).images[0, 0], new)
    # Once the last reading is later than the change by the doubt, nothing is read again.
    monkeypatch.setattr(identity, "DOUBT_NS", 0)
    kept = load(str(tmp_path / "f"), "test", places)
    save(path)
    again = load(str(tmp_path / "f"), "test", places)
    np.testing.assert_array_equal(again.images, kept.images)


def test_a_small_file_is_hashed_once_a_process(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=pixels(3, 8, 8))
    os.utime(path, ns=(10**18, 10**18))
    first = identity.file_identity(path)
    copy = tmp_path / "other" / "x.npz"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert identity.file_identity(copy) == first  # wherever it stands


# ---------------------------------------------------------------------- many files
def test_processes_decode_what_one_process_decodes(tmp_path: Path) -> None:
    from oodbench.datasets.reading.image_decoding import decode
    from oodbench.datasets.reading.parallel_decoding import Workers

    paths = []
    for index in range(40):
        path = tmp_path / f"{index} ä.png"
        save(path, pixels(5 + index % 3, 7, 3) if index % 2 else pixels(6, 6))
        paths.append(str(path))
    save(tmp_path / "wide.tif", np.full((4, 4), 3000, np.uint16))
    paths.append(str(tmp_path / "wide.tif"))
    sizes = [1 << 20] * len(paths)  # a few files a run
    with Workers(2) as workers:
        found = list(workers.decode(paths, [1] * len(paths), sizes))
        for path, decoded in zip(paths, found, strict=True):
            expected = decode(Path(path), path).frames[0]
            assert decoded.frames[0].dtype == expected.dtype
            np.testing.assert_array_equal(decoded.frames[0], expected)
        torn = tmp_path / "torn.png"
        torn.write_bytes(Path(paths[0]).read_bytes()[:60])
        with pytest.raises(DataError, match=r"torn\.png: not a readable image"):
            list(workers.decode([*paths, str(torn)], [1] * 42, [*sizes, 9]))
    assert all(process.poll() is not None for process in workers.processes)


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    from oodbench.datasets.reading.parallel_decoding import Workers

    save(tmp_path / "0.png")
    with Workers(1) as workers:
        workers.processes[0].kill()
        workers.processes[0].wait()
        with pytest.raises(DataError, match=r"the process that decoded it .* ended"):
            list(workers.decode([str(tmp_path / "0.png")], [1], [9]))


def test_mixed_sizes_are_told_of_a_size_that_recipes_have(
    tmp_path: Path, places: DataPlaces
) -> None:
    save(tmp_path / "s" / "0.png", pixels(45, 60))
    save(tmp_path / "s" / "1.png", pixels(41, 70))
    with pytest.raises(DataError) as raised:
        load(str(tmp_path / "s"), "test", places)
    sides = {file.shape[1] for file in recipe_files().values()}
    (side,) = map(int, re.findall(r"@resize\(([0-9]+)\)", str(raised.value)))
    assert side == max(side for side in sides if side <= 41)
    assert "recipes are made for the sides 8, " in str(raised.value)
