import json

import numpy as np
import pytest
from PIL import Image

from tinydiff.data import captioned_folder

pytestmark = pytest.mark.usefixtures("own_cache")
LINES = [("a.png", "a red dot"), ("b/c.png", "a blue dot, small"), ("a.png", "something red"), ("d.png", "a red dot")]


def make(folder, lines=LINES, kind="jsonl", images=("a.png", "b/c.png", "d.png", "e.png")):
    for i, name in enumerate(images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 40 * i + np.arange(3), np.uint8)).save(folder / name)
    if kind == "jsonl":
        text = "".join(json.dumps({"file_name": name, "text": text, "width": 4}) + "\n" for name, text in lines)
    else:
        text = "width,file_name,text\n" + "".join(f'4,{name},"{text}"\n' for name, text in lines)
    (folder / f"metadata.{kind}").write_text(text)
    return folder


def load(folder, said=None, **options):
    return captioned_folder.load(folder, say=(said if said is not None else []).append, **options)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_images_with_their_texts(tmp_path, kind):
    said = []
    data = load(make(tmp_path, kind=kind), said)
    texts = [data.class_names[label] for label in data.labels]
    assert texts == ["a red dot", "something red", "a blue dot, small", "a red dot"]
    assert data.images[:, 0, 0, 0].tolist() == [0, 40, 80] and data.images.shape == (3, 4, 4, 3)
    assert data.image_of.tolist() == [0, 0, 1, 2] and len(data) == 4
    assert data.classes == 3 and data.name == "folder" and said == [f"{tmp_path}: 3 images, 4 captions"]


def test_both_kinds_are_the_same_data(tmp_path):
    one, other = (load(make(tmp_path / kind, kind=kind)).identity for kind in ("jsonl", "csv"))
    changed = load(make(tmp_path / "x", [*LINES[:3], ("d.png", "a green dot")])).identity
    assert one == other != changed


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_text_may_hold_any_break_but_a_newline_and_the_file_a_mark_of_its_encoding(tmp_path, kind):
    text = "one\u2028two\x0bthree\x85four"
    content = {
        "jsonl": json.dumps({"file_name": "a.png", "text": text}, ensure_ascii=False),
        "csv": f"file_name,text\r\na.png,{text}\r\n",
    }
    make(tmp_path, kind=kind)
    (tmp_path / f"metadata.{kind}").write_text(content[kind], encoding="utf-8-sig", newline="")
    assert load(tmp_path).class_names == (text,)


def test_images_are_brought_to_a_size_and_may_be_skipped(tmp_path):
    make(tmp_path, [*LINES, ("gone.png", "nothing")])
    with pytest.raises(ValueError, match="gone.png cannot be read .*; --skip-unreadable goes on without it"):
        load(tmp_path)
    said = []
    data = load(tmp_path, said, skip_unreadable=True, size=8)
    assert data.images.shape == (3, 8, 8, 3) and "nothing" not in data.class_names
    assert said[0].startswith(f"skipped {tmp_path / 'gone.png'}: No such file")


@pytest.mark.parametrize(
    "name, text, message",
    [
        (None, "", "holds neither metadata.jsonl nor metadata.csv; captions are read from one of them"),
        ("metadata.jsonl", "", "metadata.jsonl holds no captions"),
        ("metadata.jsonl", '{"file_name": "a.png"}\n', "metadata.jsonl, line 1: text must be a text, got None"),
        (
            "metadata.jsonl",
            '\n{"file_name": "", "text": "a"}\n',
            "metadata.jsonl, line 2: file_name must be a text, got ''",
        ),
        ("metadata.jsonl", '{"file_name": "a.png", "text": 7}\n', "line 1: text must be a text, got 7"),
        ("metadata.jsonl", "{file_name}\n", "metadata.jsonl, line 1 is not JSON"),
        ("metadata.jsonl", "[1]\n", "metadata.jsonl, line 1 must hold fields by name, got list"),
        ("metadata.csv", "file_name,caption\na.png,a\n", "metadata.csv has no column text, only file_name, caption"),
        ("metadata.csv", "file_name,text\na.png\n", "metadata.csv, line 2: text must be a text, got None"),
        (
            "metadata.csv",
            "file_name,text\na.png," + "a" * 2**18 + "\n",
            "metadata.csv, line 2 is not CSV: field larger",
        ),
    ],
)
def test_captions_that_cannot_be_read(tmp_path, name, text, message):
    make(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    if name:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_two_files_of_captions(tmp_path):
    make(make(tmp_path), kind="csv")
    with pytest.raises(
        ValueError, match="holds both metadata.jsonl and metadata.csv; captions are read from one of them"
    ):
        load(tmp_path)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        load(tmp_path / "nowhere")
