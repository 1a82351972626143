"""The page of digits where its model is damaged, and where it is another one."""

import gzip

import numpy as np
import pytest

from tests.checks import same_bits
from tests.pages.digits_page import drawn, pixels, row, served, states, text, trajectory
from tests.pages.test_all_pages import loaded
from tests.pages.test_digits_parts import colours
from tests.train import tiny
from tinydiff.data.dataset import Dataset
from tinydiff.files import write_atomically
from tinydiff.pages import build, shipped
from tinydiff.train import checkpoint as checkpoints

pytestmark = pytest.mark.slow
WEIGHTS = "digits/weights.safetensors"


def damaged_files(site):
    weights = gzip.decompress(site[WEIGHTS])
    return {
        "truncated": site[WEIGHTS][:100_000],
        "not gzip": b"nothing of the kind",
        "gzip of half": gzip.compress(weights[: len(weights) // 2]),
        "no header": gzip.compress((200).to_bytes(8, "little") + bytes(1000)),
        "missing": None,
    }


@pytest.mark.parametrize("how", ["truncated", "not gzip", "gzip of half", "no header", "missing"])
def test_a_damaged_model_ends_in_a_sentence(pages, site, how):
    files = {**site, WEIGHTS: damaged_files(site)[how]}
    pages.expected.append("404")  # of what is missing
    with served({name: content for name, content in files.items() if content is not None}) as at:
        page = loaded(pages.open("index.html", at=at))
        assert text(page, "status") == "There is no model to draw with."
        assert WEIGHTS in text(page, "problem") and text(page, "problem").endswith(".")
        assert any(words in text(page, "problem") for words in ("truncated", "cannot be read: 404"))
        assert page.locator("#seed").is_disabled()


def test_a_damaged_row_leaves_the_rest(pages, site):
    with served({**site, "digits/row.json": site["digits/row.json"][:1000]}) as at:
        page = drawn(pages.open("index.html?steps=2", at=at))
        page.get_by_role("button", name="Draw the row").click()
        page.wait_for_function("document.getElementById('problem').textContent.includes('row.json')")
        page.get_by_role("radio", name="5", exact=True).check()
        assert len(states(page)) == 3 and text(page, "problem") == ""


def rounded(checkpoint, folder):
    """As it is on a page: its parameters in 16 bits."""
    write_atomically(folder / "model.safetensors", shipped.encoded(checkpoint))
    return checkpoints.load(folder / "model.safetensors")


def trained(folder, *args, **options):
    trainer = tiny.trainer(*args, noise_steps=4, **options)
    for _ in range(2):  # before the first the network predicts zeros
        trainer.train_step()
    return rounded(trainer.checkpoint(), folder)


def test_a_model_of_other_images(pages, baseline, tmp_path):
    data = Dataset(**{**vars(tiny.dataset()), "class_names": ("across", "down")})
    checkpoint = trained(tmp_path, data)
    with served(build.contents(checkpoint)) as at:
        page = drawn(pages.open("index.html?seed=3", at=at))
        assert page.locator("h1").text_content() == "Images like those of bars"
        assert page.locator("#classes label").all_text_contents() == ["across", "down", "any"]
        assert page.locator("#judge").is_hidden() and page.locator("#advice").is_hidden()
        assert page.locator("#about-judge").is_hidden() and page.locator("#about-guidance").is_visible()
        assert page.locator("#steps").get_attribute("max") == "4"
        page.get_by_role("radio", name="down").check()
        page.get_by_role("slider", name="Guidance").fill("2")
        wanted = trajectory(checkpoint, baseline, steps=4, guidance=2).draw([1], seed=3)
        assert same_bits(states(page)[-1]["x"], wanted.ravel())
        page.get_by_role("button", name="Draw the row").click()
        wanted = trajectory(checkpoint, baseline, 2, steps=4, guidance=2).draw([0, 1], seed=3)
        assert same_bits(row(page), wanted.ravel())
        assert page.locator("#row span").all_text_contents() == ["across", "down"]


def test_a_model_without_classes_in_colour(pages, baseline, tmp_path):
    checkpoint = trained(tmp_path, colours(), model=dict(classes=0, image_channels=3))
    pages.expected.append("willReadFrequently")  # a warning about the reading of canvases below
    with served(build.contents(checkpoint)) as at:
        page = drawn(pages.open("index.html?sampler=heun", at=at))
        assert page.locator("#classes").count() == 0 and page.locator("#guidance-field").is_hidden()
        assert page.locator("#judge").is_hidden() and page.locator("#about-guidance").is_hidden()
        wanted = trajectory(checkpoint, baseline, steps=4, sampler="heun").draw([0])
        assert same_bits(states(page)[-1]["x"], wanted.ravel())
        shown = np.clip(np.rint(127.5 * (1 + np.float64(wanted.ravel()))), 0, 255).astype(np.uint8)
        assert np.array_equal(pixels(page), shown)
        page.get_by_role("button", name="Draw the row").click()
        wanted = trajectory(checkpoint, baseline, 10, steps=4, sampler="heun").draw([0] * 10)
        assert same_bits(row(page), wanted.ravel())


def test_a_model_of_many_classes_has_a_list_of_them(pages, baseline, tmp_path):
    images = np.repeat(tiny.dataset().images[:1], 30, axis=0)
    data = Dataset("many", images, np.arange(30), 30, tuple(f"kind {each}" for each in range(30)))
    checkpoint = trained(tmp_path, data, model=dict(classes=30))
    with served(build.contents(checkpoint)) as at:
        page = drawn(pages.open("index.html", at=at))
        page.get_by_label("Class", exact=True).select_option("kind 22")
        wanted = trajectory(checkpoint, baseline, steps=4, sampler="ddim").draw([22])
        assert same_bits(states(page)[-1]["x"], wanted.ravel())
        assert "label=22" in page.url
        page.get_by_role("button", name="Draw the row").click()
        assert row(page).shape == (10 * 8 * 8,)
