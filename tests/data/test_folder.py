import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinydiff.data import folder

pytestmark = pytest.mark.usefixtures("own_cache")


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)


def gray(value, size=8):
    return np.full((size, size), value, np.uint8)


def colour(*rgb, size=8):
    return np.full((size, size, 3), rgb, np.uint8)


def quiet(path, **options):
    return folder.load(path, say=lambda line: None, **options)


def test_labels_are_the_folders_in_alphabetical_order(tmp_path):
    save(tmp_path / "dog" / "a.png", gray(1))
    save(tmp_path / "cat" / "deeper" / "b.png", gray(2))
    save(tmp_path / "cat" / "c.JPG", gray(3))
    said = []
    data = folder.load(tmp_path, say=said.append)
    assert data.images.shape == (3, 8, 8, 1) and data.images.dtype == np.uint8
    assert data.labels.tolist() == [0, 0, 1] and data.classes == 2 and data.name == "folder"
    assert data.images[2, 0, 0, 0] == 1
    assert said == [f"{tmp_path}: 0 cat (2), 1 dog (1)"]


def test_all_that_is_passed_over_is_counted_and_named(tmp_path):
    save(tmp_path / "cat" / "a.png", gray(1))
    save(tmp_path / ".hidden" / "d.png", gray(4))
    save(tmp_path / "cat" / ".ipynb_checkpoints" / "a-checkpoint.png", gray(1))
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    for name in ("a.txt", "cat/b", "cat/c.csv", "cat/d.txt"):
        (tmp_path / name).write_text("not a picture")
    said = []
    assert folder.load(tmp_path, say=said.append).class_names == ("cat",)
    assert said[1:] == [
        f"{tmp_path}: passed over 2 hidden (.hidden, cat/.ipynb_checkpoints), "
        "4 without a picture's ending (a.txt, cat/b, cat/c.csv, ...), 1 without images (empty)"
    ]
    with pytest.raises(ValueError, match=r"holds no images \(.png, .*; passed over 1 without images \(deeper\)"):
        quiet(tmp_path / "empty")


def test_links_are_followed(tmp_path):
    save(tmp_path / "elsewhere" / "a.png", gray(1))
    save(tmp_path / "elsewhere" / "b.png", gray(2))
    save(tmp_path / "pets" / "cat" / "c.png", gray(3))
    (tmp_path / "pets" / "cat" / "part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets" / "cat" / "d.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere")
    data = quiet(tmp_path / "pets")
    assert data.class_names == ("cat", "dog") and data.identity.counts == (4, 2)
    assert data.images[:, 0, 0, 0].tolist() == [3, 1, 1, 2, 1, 2]


def test_links_in_circles_end(tmp_path):
    save(tmp_path / "cat" / "a.png", gray(1))
    save(tmp_path / "dog" / "b.png", gray(2))
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "self").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "deeper").mkdir()
    (tmp_path / "cat" / "deeper" / "again").symlink_to(tmp_path / "cat" / "deeper")
    said = []
    assert folder.load(tmp_path, say=said.append).identity.counts == (1, 1)
    assert said[1] == f"{tmp_path}: passed over 3 met before (cat/deeper/again, cat/self, cat/up)"


def test_two_classes_that_are_one_folder(tmp_path):
    save(tmp_path / "2024" / "a.png", gray(1))
    (tmp_path / "latest").symlink_to(tmp_path / "2024")
    with pytest.raises(ValueError, match="the classes 2024 and latest are the same folder, by a link"):
        quiet(tmp_path)


def _link_to_nothing(path):
    path.symlink_to("/nowhere/at/all")
    return "No such file or directory"


def _link_to_itself(path):
    path.symlink_to(path)
    return "Too many levels of symbolic links"


def _pipe(path):
    os.mkfifo(path)
    return "neither a file nor a folder"


def _link_to_a_device(path):
    path.symlink_to("/dev/zero")
    return "neither a file nor a folder"


@pytest.mark.parametrize("make", [_link_to_nothing, _link_to_itself, _pipe, _link_to_a_device])
@pytest.mark.parametrize("name", ["dog/x.png", "x.png"])
def test_what_is_no_file_is_unreadable(tmp_path, make, name):
    save(tmp_path / "cat" / "a.png", gray(1))
    save(tmp_path / "dog" / "b.png", gray(2))
    reason = make(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{tmp_path}/{name} cannot be read \({reason}\); --skip-unreadable goes on"):
        quiet(tmp_path)
    said = []
    assert folder.load(tmp_path, skip_unreadable=True, say=said.append).identity.counts == (1, 1)
    assert said[0] == f"skipped {tmp_path}/{name}: {reason}"


@pytest.fixture
def locked(monkeypatch):
    """Folders that may not be read, also where the tests' user may read everything."""
    folders, listdir = set(), os.listdir

    def refuse(path):
        if Path(path) in folders:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    return folders


def test_a_folder_that_may_not_be_read_is_an_error_and_skipped_keeps_its_label(tmp_path, locked):
    for name in ("ant", "bee/deeper", "cat"):
        save(tmp_path / name / "a.png", gray(1))
    locked.add(tmp_path / "ant")
    with pytest.raises(ValueError, match=rf"{tmp_path}/ant cannot be read \(Permission denied\); --skip-unreadable"):
        quiet(tmp_path)
    locked.add(tmp_path / "bee" / "deeper")
    data = quiet(tmp_path, skip_unreadable=True)
    assert data.class_names == ("ant", "bee", "cat") and data.labels.tolist() == [2]
    locked.add(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path} cannot be read \(Permission denied\)$"):
        quiet(tmp_path, skip_unreadable=True)


def test_numbers_order_as_numbers(tmp_path):
    ordered = ["01", "1", "1b", "2", "10", "a2b10", "a2c3", "a10b1", "b", "\u00e9\u00b2"]
    for name in reversed(ordered):
        save(tmp_path / name / "a.png", gray(1))
    assert list(quiet(tmp_path).class_names) == ordered


def test_without_folders_there_is_one_class(tmp_path):
    save(tmp_path / "b.png", gray(2))
    save(tmp_path / "a.png", gray(1))
    data = quiet(tmp_path)
    assert data.class_names == ("all",) and data.images[:, 0, 0, 0].tolist() == [1, 2]


def test_a_folder_is_known_again_where_it_was_moved_and_not_with_other_files(tmp_path, monkeypatch):
    save(tmp_path / "pets" / "cat" / "a.png", gray(1))
    save(tmp_path / "pets" / "cat" / "b.png", gray(2))
    before = quiet(tmp_path / "pets").identity
    (tmp_path / "pets").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert quiet(".").identity == before and before.files_digest
    Path("cat/a.png").rename("cat/c.png")
    renamed = quiet(".").identity
    assert before.difference(renamed) == "its files have other names or content"
    with open("cat/c.png", "ab") as file:
        file.write(b"more")
    assert renamed.difference(quiet(".").identity) == "its files have other names or content"

    monkeypatch.chdir("cat")
    flat = quiet(".").identity
    assert quiet(tmp_path / "moved" / "cat").identity == flat


def test_grays_among_colours_become_three_equal_channels(tmp_path):
    save(tmp_path / "a.png", gray(7))
    save(tmp_path / "b.png", colour(1, 2, 3))
    assert quiet(tmp_path).images[:, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda path: save(path, Image.fromarray(colour(250, 0, 10)).quantize(2)), [250, 0, 10]),
        (lambda path: save(path, np.full((8, 8, 4), (200, 100, 0, 0), np.uint8)), [255, 255, 255]),
        (lambda path: save(path, np.full((8, 8, 4), (200, 100, 0, 255), np.uint8)), [200, 100, 0]),
        (lambda path: save(path, np.full((8, 8, 2), (100, 0), np.uint8)), [255]),  # gray with alpha
        (lambda path: save(path, np.full((8, 8), 0xAB12, np.uint16)), [0xAB]),
        (lambda path: save(path, gray(255), "1"), [255]),
        (lambda path: save(path, colour(9, 9, 9), "P", transparency=0), [255, 255, 255]),
        (lambda path: save(path.with_suffix(".tif"), colour(255, 0, 0), "CMYK"), [254, 0, 0]),
    ],
    ids=["palette", "transparent", "opaque", "gray with alpha", "16 bits", "1 bit", "transparent palette", "CMYK"],
)
def test_every_kind_of_pixel(tmp_path, make, expected):
    make(tmp_path / "a.png")
    pixel = quiet(tmp_path).images[0, 3, 3]
    assert np.abs(pixel.astype(int) - expected).max() <= 1


def png(depth, kind, pixels, transparent=None):
    """The bytes of a PNG of two equal rows of those bytes, which Pillow could not write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    channels = {0: 1, 2: 3, 4: 2}[kind]
    header = struct.pack(">IIBBBBB", len(pixels) * 8 // (depth * channels), 2, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(2 * (b"\0" + pixels))), (b"IEND", b"")]
    if transparent is not None:
        chunks.insert(1, (b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


GRAY, RGB, GRAY_ALPHA = 0, 2, 4


@pytest.mark.parametrize(
    "depth, kind, pixels, transparent, expected",
    [
        (1, GRAY, b"\x3f", [0], [255, 255]),
        (1, GRAY, b"\x3f", [1], [0, 0]),
        (1, GRAY, b"\x7f", [0x0101], [0, 255]),  # bits above the depth do not count
        (2, GRAY, b"\x1b", [1], [0, 255]),
        (4, GRAY, b"\xa5", [10], [255, 0x55]),
        (8, GRAY, b"\x0a\x0b", [10], [255, 11]),
        (16, GRAY, b"\x12\x34\x12\x35", [0x1234], [255, 0x12]),
        (16, GRAY_ALPHA, b"\x12\x34\0\0\x12\x34\xff\xff", None, [255, 0x12]),
        (8, RGB, b"\1\2\3\1\2\4", [1, 2, 3], [(255, 255, 255), (1, 2, 4)]),
        (16, RGB, b"\x12\x34" * 3 + b"\x56\x78" * 3, [0x1234] * 3, [(255, 255, 255), (0x56, 0x56, 0x56)]),
    ],
)
def test_transparency_of_a_png_in_its_own_bits(tmp_path, depth, kind, pixels, transparent, expected):
    (tmp_path / "a.png").write_bytes(png(depth, kind, pixels, transparent))
    image = folder._read(tmp_path / "a.png")
    assert [image.getpixel((x, 1)) for x in (0, 1)] == expected


def test_other_sizes_are_cropped_in_the_middle_and_resized(tmp_path):
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = (200, 100, 50)
    save(tmp_path / "a.png", wide)
    save(tmp_path / "b.png", colour(5, 5, 5, size=3))
    images = quiet(tmp_path, size=4).images
    assert images.shape == (2, 4, 4, 3)
    assert (images[0] == (200, 100, 50)).all() and (images[1] == 5).all()


def test_the_cameras_orientation_is_obeyed(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    image[0] = 255
    turned, tag = Image.fromarray(image), Image.Exif()
    tag[0x0112] = 3  # taken upside down
    save(tmp_path / "a.png", turned, exif=tag)
    assert quiet(tmp_path).images[0, -1, 0].tolist() == [255, 255, 255]


def test_of_animations_the_first_frame(tmp_path):
    frames = [Image.fromarray(gray(value)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert quiet(tmp_path).images[0, 0, 0, 0] == 10


def damaged(tmp_path):
    save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.png").write_text("not an image")


def test_unreadable_files_are_named(tmp_path):
    damaged(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}/b.png cannot be read \(.*--skip-unreadable"):
        quiet(tmp_path)


def test_unreadable_files_are_skipped_on_request(tmp_path):
    damaged(tmp_path)
    said = []
    assert len(folder.load(tmp_path, skip_unreadable=True, say=said.append)) == 1
    assert [line.split(":")[0] for line in said[:2]] == [f"skipped {tmp_path}/{name}.png" for name in "bc"]


def test_beside_images_a_folder_that_may_not_be_read_is_no_class(tmp_path, locked):
    save(tmp_path / "a.png", gray(1))
    (tmp_path / "lost+found").mkdir()
    locked.add(tmp_path / "lost+found")
    assert quiet(tmp_path, skip_unreadable=True).class_names == ("all",)


def jpeg_with_exif(*entries):
    """The bytes of a JPEG with those entries (tag, type, count, four bytes of value) in its EXIF."""
    file = io.BytesIO()
    Image.fromarray(gray(0)).save(file, "JPEG")
    directory = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    start, rest = file.getvalue()[:2], file.getvalue()[2:]
    return start + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + rest


TURNED = (0x112, 3, 1, b"\6\0\0\0")


@pytest.mark.parametrize(
    "entry",
    [
        (0x103, 2, 4, b"abc\0"),  # struct.error
        (0x101, 8, 1, struct.pack("<hh", -1, 0)),  # struct.error
        (0x11A, 2, 4, b"\0\0\0\0"),  # TypeError
        (0x131, 10, 2, b"\0\0\0\0"),  # AttributeError
        (0x106, 6, 4, b"\xff\xff\xff\xff"),  # KeyError
        (0x8825, 6, 2, b"\xff\xff\xff\xff"),  # ValueError
    ],
    ids=lambda entry: hex(entry[0]),
)
def test_damaged_exif_is_unreadable_like_other_damage(tmp_path, entry):
    (tmp_path / "a.jpg").write_bytes(jpeg_with_exif(*sorted([TURNED, entry])))
    save(tmp_path / "b.png", gray(7))
    with pytest.raises(ValueError, match=rf"{tmp_path}/a.jpg cannot be read \(.+\); --skip-unreadable goes on"):
        quiet(tmp_path)
    assert len(quiet(tmp_path, skip_unreadable=True)) == 1


@pytest.mark.parametrize("error, reason", [(IndexError(), "IndexError"), (NotImplementedError("strips"), "strips")])
def test_whatever_pillow_raises_is_the_files_fault(tmp_path, monkeypatch, error, reason):
    save(tmp_path / "a.png", gray(7))
    monkeypatch.setattr(folder, "_read", raising(error))
    with pytest.raises(ValueError, match=rf"a.png cannot be read \({reason}\)"):
        quiet(tmp_path)


def test_want_of_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    save(tmp_path / "a.png", gray(7))
    monkeypatch.setattr(folder, "_read", raising(MemoryError()))
    with pytest.raises(MemoryError):
        quiet(tmp_path, skip_unreadable=True)


def raising(error):
    def read(file):
        raise error

    return read


@pytest.mark.parametrize(
    "prepare, message",
    [
        (lambda path: path.rmdir(), "is not a folder"),
        (lambda path: None, "holds no images"),
        (lambda path: (path / "notes.txt").write_text("x"), "holds no images"),
        (lambda path: (path / "class").mkdir(), "holds no images"),
        (
            lambda path: [save(path / "a.png", gray(0)), save(path / "b.png", gray(0, 9))],
            "images must be square and of one size: .*a.png is 8x8, .*b.png is 9x9; --image-size brings all to one",
        ),
        (lambda path: save(path / "a.png", np.zeros((4, 6), np.uint8)), "a.png is 6x4; --image-size brings all to one"),
        (
            lambda path: [save(path / "a.png", gray(0)), save(path / "class" / "b.png", gray(0))],
            r"holds images \(a.png\) beside folders of classes \(class\)",
        ),
        (lambda path: save(path / "a.tif", np.zeros((4, 4), np.float32)), "32-bit numbers of unknown range"),
    ],
)
def test_bad_folders(tmp_path, prepare, message):
    path = tmp_path / "images"
    path.mkdir()
    prepare(path)
    with pytest.raises(ValueError, match=message):
        quiet(path)


def test_nothing_left_after_skipping(tmp_path):
    (tmp_path / "c.png").write_text("not an image")
    with pytest.raises(ValueError, match="none of its images can be read"):
        quiet(tmp_path, skip_unreadable=True)
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        quiet(tmp_path, size=0)
