"""The page gradients.html in a browser."""

import numpy as np
import pytest

from tests.pages.browser import LONGEST_TASK, NARROW, main_thread, reached_by_keyboard, serious
from tests.pages.test_all_pages import loaded
from tinydiff.gradcheck import terms
from tinydiff.gradcheck.adjoint import TOLERANCE, as_tuple, by_definition, compare
from tinydiff.gradcheck.table import OP_ROWS, ROWS
from tinydiff.gradcheck.worked import EXAMPLES
from tinydiff.ops import OPS, WITHOUT_GRADIENT
from tinydiff.pages import sources

pytestmark = pytest.mark.slow
IDS = [row.name for row in OP_ROWS]


def opened(pages, query="", **options):
    return loaded(pages.open(f"gradients.html{query}", **options))


def problem(page):
    return page.locator("#problem").text_content()


def status(page):
    return page.locator("#status").text_content()


def column(page, op, name, which):
    """The numbers of a gradient, or of y, as the table has them: by derivation 0, by definition 1, by the kernel 2."""
    title = name if name == "y" else f"d{name}"
    return page.evaluate(
        """([op, title, which]) => [...document.querySelectorAll(`.live[data-op=${op}] tbody`)]
          .filter((body) => body.querySelector("th code").textContent === title)
          .flatMap((body) => [...body.querySelectorAll("tr")].slice(1).map((row) => row.cells[1 + which].textContent))""",
        [op, title, which],
    )


def numbers(texts):
    return np.array([float(text) for text in texts])


def kernel_done(page, op):
    page.wait_for_function(
        f"""[...document.querySelectorAll(".live[data-op={op}] tbody tr")]
          .every((row) => row.cells.length < 4 || row.cells[3].textContent !== "–")"""
    )


@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_an_example_shows_the_gradients_of_gradcheck(pages, row):
    example = EXAMPLES[row.name]
    page = opened(pages, f"?op={row.name}")
    kernel_done(page, row.name)
    inputs = {name: x if x is None else x.copy() for name, x in example.inputs.items()}
    forward = lambda: row.module.forward(*inputs.values(), **example.options)
    y, cache = forward()
    for name, dx in zip(inputs, as_tuple(row.module.backward(example.dy, cache))):
        if dx is not None:
            shown = [numbers(column(page, row.name, name, which)) for which in range(3)]
            defined = by_definition(forward, example.dy, inputs[name]).ravel()
            for found, expected in zip(shown, (dx.ravel(), defined, dx.ravel())):
                assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.allclose(numbers(column(page, row.name, "y", 0)), np.ravel(y), rtol=1e-5, atol=1e-6)
    for line in (*example().forward, *example().backward):
        assert line.strip() in page.locator(".current .live").text_content()
    assert problem(page) == "" and "are right here" in status(page)


@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_a_term_left_out_shows_the_gradients_that_gradcheck_finds_wrong(pages, row):
    example = EXAMPLES[row.name]
    page = opened(pages, f"?op={row.name}")
    for term in row.terms:
        op, inputs = terms.without(row, term), {name: x if x is None else x.copy() for name, x in example.inputs.items()}
        forward = lambda op=op, inputs=inputs: op.forward(*inputs.values(), **example.options)
        errors = {name: each.error for name, each in compare(forward, op.backward, inputs, dy=example.dy)}
        page.locator(f".current .terms input[value={term}]").check()
        page.wait_for_function(f"location.search.includes('without={term}')")
        wrong = page.locator(".current .ways th.wrong code").all_text_contents()
        right = page.locator(".current .ways th.right code").all_text_contents()
        assert wrong == [f"d{name}" for name, error in errors.items() if not error <= TOLERANCE] != []
        assert right == [f"d{name}" for name, error in errors.items() if error <= TOLERANCE]
        number, text = terms.lines(row, term)[0]
        assert f"{number}: {text}" in page.locator(".current .terms").text_content()
        assert f"Without {term}: {', '.join(wrong)} " in status(page)
    page.locator(".current .terms input[value='']").check()
    assert page.locator(".current .ways th.wrong").count() == 0


def test_edited_numbers_are_taken(pages):
    page = opened(pages, "?op=linear")
    page.get_by_label("x[0,1]").fill("5")
    page.keyboard.press("Enter")
    assert (
        page.locator(".current .forward")
        .text_content()
        .startswith("every y[m,o] takes a row of x and a column of w, and b[o]:y[0,0]  = 1·1 + 5·(-1) + 0.5 = -3.5")
    )
    kernel_done(page, "linear")
    page.wait_for_function("document.querySelector('.current .ways').textContent.includes('-3.5')")
    x = np.array([[1.0, 5.0], [3.0, -1.0]])
    expected = (x.T @ EXAMPLES["linear"].dy).ravel()
    for which in range(2):
        assert np.allclose(numbers(column(page, "linear", "w", which)), expected, rtol=1e-5)
    page.wait_for_function("location.search.includes('given=x')")
    page.reload()
    assert loaded(page).get_by_label("x[0,1]").input_value() == "5" and problem(page) == ""
    page.get_by_role("button", name="Reset the numbers").locator("visible=true").click()
    assert page.get_by_label("x[0,1]").input_value() == "2"
    page.go_back()
    page.wait_for_function("document.querySelector('[aria-label=\"x[0,1]\"]').value === '5'")


def test_nonsense_in_a_number_is_told(pages):
    page = opened(pages, "?op=silu")
    before = page.locator(".current .forward").text_content()
    field = page.get_by_label("x[1]").locator("visible=true")
    field.fill("lots")
    assert problem(page) == ""  # it may yet become a number
    field.press("Enter")
    assert problem(page) == "X[1] is “lots”, which must be a number from -20 to 20; the example goes on with 0."
    assert field.get_attribute("aria-invalid") == "true"
    assert page.locator(".current .forward").text_content() == before
    field.fill("0.5")
    field.press("Enter")
    assert problem(page) == "" and field.get_attribute("aria-invalid") is None
    assert page.locator(".current .forward").text_content() != before


@pytest.mark.parametrize(
    "query, words",
    [
        ("?op=conv3d", "conv3d"),
        ("?op=linear&without=through_var", "which must be a term of linear: dx, dw, db"),
        ("?op=linear&given=x:1,2", "x has 4 numbers, got 2"),
        ("?op=adamw&without=dx", "adamw, which has no gradient"),
    ],
)
def test_nonsense_in_the_address_is_told(pages, query, words):
    page = opened(pages, query)
    assert words in problem(page)
    page.locator(".contents").get_by_role("link", name="silu").click()
    assert problem(page) == ""


@pytest.mark.parametrize("where", ["?op=group_norm&without=through_var", "#group_norm"])
def test_an_address_restores_and_back_goes_back(pages, where):
    page = opened(pages, where)
    assert page.locator(".op:visible").get_attribute("data-op") == "group_norm"
    if "without" in where:
        assert page.locator(".current .terms input[value=through_var]").is_checked()
        assert status(page).startswith("Ready. Without through_var: dx is wrong; ")
    page.locator(".contents").get_by_role("link", name="concat").click()
    assert page.locator(".op:visible").get_attribute("data-op") == "concat"
    assert page.locator(".contents [aria-current]").text_content() == "concat"
    page.go_back()
    page.wait_for_function("document.querySelector('.op.current').dataset.op === 'group_norm'")
    assert ("through_var" in status(page)) == ("without" in where)


@pytest.mark.parametrize("op", OPS)
def test_every_op_shows_its_sources(pages, op):
    page = opened(pages, f"?op={op}")
    page.locator(".current .sources").scroll_into_view_if_needed()
    page.wait_for_selector(".current .pane")
    texts = sources.texts()
    for language, paths in sources.files(op).items():
        pane = page.locator(f".current .pane[data-language={language}]")
        assert pane.locator("pre").text_content() == texts[paths[0]]
        for path in paths[1:]:
            pane.locator("select").select_option(path)
            assert pane.locator("pre").text_content() == texts[path]
    assert page.locator(".current .derivation .formulas math").count() > 0
    assert page.locator(".current .live input").count() > 0 or op in WITHOUT_GRADIENT


def test_the_time_of_a_step_is_measured(pages):
    page = opened(pages)
    page.get_by_role("button", name="Measure in this tab").click()
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Measured')")
    shares = page.locator("#shares tbody tr td:last-child").all_text_contents()
    assert abs(sum(float(share.removesuffix("%")) for share in shares) - 100) < 1
    conv2d = page.locator("#shares tr[data-op=conv2d] td").all_text_contents()
    assert float(conv2d[3]) > 0 and float(conv2d[4]) > 0 and float(conv2d[5].removesuffix("%")) > 20


def edit_and_look_around(page):
    for term in ROWS["conv2d"].terms:
        page.locator(f".current .terms input[value={term}]").check()
    for value in ("1", "2.5", "-3"):
        page.get_by_label("x[0,0]").locator("visible=true").fill(value)
        page.keyboard.press("Enter")
    for op in OPS:
        page.locator(".contents").get_by_role("link", name=op, exact=True).click()
        page.wait_for_function(f"document.getElementById('status').textContent.includes('{op}')")


def measure(page):
    page.get_by_role("button", name="Measure in this tab").click()
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Measured')")


@pytest.mark.parametrize("work", [edit_and_look_around, measure])
def test_nothing_blocks_the_page(pages, work):
    page = opened(pages, "?op=conv2d")
    with main_thread(page) as tasks:
        work(page)
    assert len(tasks) > 100 and 1 < max(tasks) < LONGEST_TASK


def test_the_keyboard_reaches_everything_in_order(pages):
    page = opened(pages, "?op=silu")
    reached = reached_by_keyboard(page)
    expected = ["linear", "silu", "adamw", "x[0]", "x[2]", "dy[2]", "Reset the numbers", "without-silu"]
    expected += ["The gradients three ways", "measure", "A training step by operation"]
    assert [each for each in expected if each in reached] == expected
    assert [reached.index(each) for each in expected] == sorted(reached.index(each) for each in expected)
    page.locator(".current .terms input[value='']").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("location.search.includes('without=through_s')")
    assert "dx is wrong" in status(page)
    page.locator(".contents").get_by_role("link", name="concat").focus()
    page.keyboard.press("Enter")
    assert page.locator(".op:visible").get_attribute("data-op") == "concat"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("query", ["?op=group_norm&without=through_var", "?op=draw_batch"])
def test_nothing_serious_on_a_phone_either(pages, query, scheme):
    page = opened(pages, query, viewport=NARROW, color_scheme=scheme)
    page.locator(".current .sources").scroll_into_view_if_needed()
    page.wait_for_selector(".current .pane")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_without_scripts_all_derivations_are_there(pages):
    page = pages.open("gradients.html", java_script_enabled=False)
    for op in OPS:
        section = page.locator(f".op[data-op={op}]")
        assert page.locator(f"h2#{op}").is_visible() and section.locator(".derivation math").count() > 0
        assert section.locator(".sources code").first.is_visible()


def test_examples_that_are_damaged_are_told(pages):
    page = pages.open("index.html")
    page.route("**/gradients/examples.json", lambda route: route.fulfill(body=b"\x1f\x8bnonsense"))
    page.goto(f"{pages.address}gradients.html?")
    page.wait_for_function("document.getElementById('problem').textContent.includes('truncated or damaged')")
    assert "cannot be loaded" in status(page)
    assert page.locator(".current .derivation math").count() > 0
