"""What the page of digits is made of, without a browser."""

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors

from tests.checks import same_bits
from tests.site.hosts import Node
from tests.train import tiny
from tinydiff import backends
from tinydiff.metrics import classifier
from tinydiff.noise import schedules
from tinydiff.pages import digits, shipped
from tinydiff.pages.page import page
from tinydiff.program import file

FEW = dict(noise_steps=3)  # so that there are few ways to record


@pytest.fixture(scope="module")
def node():
    return Node(driver=Path(__file__).parent / "digits_driver.js")


def table(*rows, images=1000):
    names = ("guidance", "steps", "accuracy", "fid")
    real = {"accuracy": 0.99, "fid": 1.5}
    return {"images": images, "real": real, "rows": [dict(zip(names, row, strict=True)) for row in rows]}


def test_states_are_those_of_a_sampler(node):
    simple, heun, one = node.do(["states", 3, 3], ["states", 5, 3], ["states", 1, 1])
    assert simple == [[0, 90, 0, 0], [1, 89, 1, -1], [2, 88, 2, -2], [3, -1, 3, 3]]
    assert heun == [[0, 90, 0, 0], [1, 88, 2, -2], [2, 86, 4, -4], [3, -1, 5, 5]]
    assert one == [[0, 90, 0, 0], [1, -1, 1, 1]]


def test_signal_to_noise_between_steps_is_python_s(node):
    schedule = schedules.get("cosine", 20)
    steps = [0, 3, 3.25, 17.9]
    found = node.do(*[["call", "states", "signalToNoise", schedule.snr_db.tolist(), step] for step in steps])
    signal, noise = np.array([schedule.rates(step) for step in steps]).T
    np.testing.assert_allclose(found, 20 * np.log10(signal / noise), rtol=1e-12)


def test_what_is_under_way_is_stopped_before_the_next_begins(node):
    [found] = node.do(["turns"])
    assert found["heard"] == ["a begins", "a is stopped", "c begins", "c ends"]
    assert found["results"] == ["AbortError", "AbortError", "c"]


def test_the_fewest_steps_within_the_standard_error_are_advised(node):
    given = table((1, 5, 0.900, 9.0), (2, 5, 0.984, 6.0), (2, 10, 0.987, 3.0), (2, 25, 0.989, 2.5), (3, 25, 0.989, 4.0))
    [found, words] = node.do(["call", "advice", "advise", given], ["call", "advice", "sentence", given])
    assert found["error"] == pytest.approx((0.989 * 0.011 / 1000) ** 0.5, rel=0.05)
    assert found["best"] == given["rows"][3], "of two as good the one nearer to real images"
    assert found["enough"] == given["rows"][2]
    assert found["nearest"] == given["rows"][3]
    assert found["likest"] == given["rows"][3]
    assert "98.9 % of 1000" in words and "guidance 2 and 10 steps are enough" in words
    assert "their FID is 3.0, that of guidance 2 and 25 steps 2.5" in words
    assert words.endswith("As many real images have an FID of 1.5.")


def test_what_is_nearest_to_real_images_is_told_where_it_is_recognised_less(node):
    given = table((1, 50, 0.90, 2.0), (2, 5, 0.99, 9.0), (2, 50, 0.99, 4.0))
    [found, words] = node.do(["call", "advice", "advise", given], ["call", "advice", "sentence", given])
    assert (found["likest"], found["nearest"]) == (given["rows"][2], given["rows"][0])
    assert "Nearest to real images are guidance 1 and 50 steps: FID 2.0, 90.0 % recognised." in words


def test_the_best_is_advised_where_nothing_comes_near(node):
    given = table((1, 5, 0.5, 9.0), (2, 10, 0.9, 3.0))
    [found, words] = node.do(["call", "advice", "advise", given], ["call", "advice", "sentence", given])
    assert found["enough"] == found["best"] == given["rows"][1]
    assert "guidance 2 and 10 steps take the fewest steps and come nearest to real images: FID 3.0." in words


def test_perfect_accuracy_has_a_standard_error_too(node):
    [found] = node.do(["call", "advice", "standardError", 1, 1000])
    assert 0 < found < 0.002


@pytest.mark.parametrize("measure", ["accuracy", "fid"])
def test_the_best_is_strongest(node, measure):
    given = table((1, 5, 0.5, 9.0), (2, 5, 0.9, 5.0), (2, 10, 1.0, 2.0))
    [found] = node.do(["call", "advice", "strengths", given, measure])
    assert found[0] == 0 and 0 < found[1] < 1 and found[2] == 1
    [same] = node.do(["call", "advice", "strengths", table((1, 5, 0.5, 9.0)), measure])
    assert same == [1]


def test_nothing_is_said_to_be_certain(node):
    assert node.do(*[["call", "odds", "likely", part] for part in (1, 0.9996, 0.9994, 0)]) == [
        "> 99.9 %",
        "> 99.9 %",
        "99.9 %",
        "0.0 %",
    ]


def test_the_engine_s_classifier_is_python_s(baseline, tmp_path):
    stored = file.gather({"classify": digits.classify(backends.get("numpy"), 1)})
    types = dict.fromkeys(stored.values, "F16")
    folder = tmp_path / "classifier"
    folder.mkdir()
    for name, content in file.contents(stored, types=types).items():
        (folder / name).write_bytes(content)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    host = Node()
    calls = [{"program": "classify", "set": {"image": image.ravel()}, "get": ["logits"]} for image in images]
    _, found = host.do(["load", host.address(folder / "program.json")], ["run", calls])
    wanted, _ = classifier.trained(baseline).forward(images)
    for each, want in zip(found, wanted, strict=True):
        assert same_bits(each["logits"], want)


def about(files, name="program.json"):
    return json.loads(files[f"digits/{name}"])["about"]


def test_another_model_says_what_it_draws():
    data = dataclasses.replace(tiny.dataset(), class_names=("<across>", "down"))
    checkpoint = tiny.trainer(data, **FEW).checkpoint()
    files = digits.programs(checkpoint)
    found = about(files)
    assert (found["names"], found["digits"], found["row"]) == (["<across>", "down"], False, 2)
    assert len(found["snr_db"]) == 3 and "advice" not in found
    assert found["ways"].keys() == {"ddpm", "ddim", "heun", "dpm++"} and found["ways"]["ddim"].keys() == {"1", "2", "3"}
    assert about(files, "row.json")["count"] == 2
    assert "classify" not in json.loads(files["digits/program.json"])["programs"]
    content = page("index", digits.facts(checkpoint)).decode()
    assert "Images like those of bars" in content and "8×8 grey" in content
    assert digits.facts(checkpoint)["accuracy"] == ""


def test_only_parameters_are_rounded():
    checkpoint = tiny.trainer(model=dict(positions=3), **FEW).checkpoint()
    stored = digits.programs(checkpoint)["digits/weights.safetensors"]
    kinds = {name: entry["dtype"] for name, entry in safetensors.deserialize(stored)}
    parameters = checkpoint.parts[shipped.PART]
    assert {kind for name, kind in kinds.items() if name in parameters} == {"BF16"}
    others = [kind for name, kind in kinds.items() if name not in parameters]
    assert others == ["F32"]  # the waves that tell the network where it is


def test_a_model_without_classes_draws_ten_in_a_row():
    checkpoint = tiny.trainer(model=dict(classes=0, image_channels=3), data=colours(), **FEW).checkpoint()
    found = about(digits.programs(checkpoint))
    assert (found["names"], found["row"], found["classes"]) == ([], 10, 0)
    assert "8×8 colour" in page("index", digits.facts(checkpoint)).decode()


def colours():
    data = tiny.dataset()
    return dataclasses.replace(data, images=np.repeat(data.images, 3, axis=-1))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_target_of_each_kind_of_network_is_a_formula(prediction):
    checkpoint = tiny.trainer(prediction=prediction, **FEW).checkpoint()
    content = page("index", digits.facts(checkpoint)).decode()
    assert "{{" not in content and "\\(" not in content and content.count("<math") > 20


def test_a_name_of_a_data_set_is_no_html():
    checkpoint = tiny.trainer(dataclasses.replace(tiny.dataset(), name="<script>"), **FEW).checkpoint()
    assert "<script>" not in page("index", digits.facts(checkpoint)).decode().split("<main")[1]


def test_the_shipped_model_tells_how_good_it_is():
    facts = digits.facts(shipped.load())
    row = next(each for each in shipped.measured()["rows"] if (each["guidance"], each["steps"]) == (1.0, 25))
    assert f"{100 * row['accuracy']:.1f} %" in facts["accuracy"]
    assert facts["parameters"] == "719,361"


def test_the_shipped_model_is_small():
    assert len(gzip.compress(shipped.WEIGHTS.read_bytes())) < 1_500_000
