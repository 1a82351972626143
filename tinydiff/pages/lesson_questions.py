"""The questions of the lesson, with an explanation for every answer that one may give."""

from __future__ import annotations

from typing import NamedTuple

from tinydiff.pages.page import with_formulas


class Answer(NamedTuple):
    text: str
    why: str
    right: bool = False


class Question(NamedTuple):
    ask: str
    answers: tuple[Answer, ...]


# Text is HTML, with formulas and the page's facts as {name}.
QUESTIONS = (
    Question(
        "What does the network of a diffusion model learn?",
        (
            Answer(
                "Both ways: how noise destroys pictures, and how to undo it.",
                "The way to noise is a formula with fixed numbers. Nothing in it is learned.",
            ),
            Answer(
                "To say what lies under the noise, at every noise level.",
                "That is all that training asks of it; the sampler makes many small steps of its answers.",
                right=True,
            ),
            Answer(
                "To store the training pictures under their noise.",
                "It has far fewer numbers than the training pictures have pixels, and the noise is drawn anew each time.",
            ),
        ),
    ),
    Question(
        r"At some step \(\bar\alpha_t = 0.01\). What is the signal-to-noise ratio?",
        (
            Answer(
                "−40 dB",
                "That would take the logarithm 20 times. Twenty is for amplitudes; \\(\\bar\\alpha_t\\) is a power already.",
            ),
            Answer(
                "−20 dB",
                r"\(10 \log_{10}(0.01 / 0.99) \approx -20\): a hundredth of the power.",
                right=True,
            ),
            Answer(
                "0.1 dB",
                r"0.1 is the signal rate \(\sqrt{0.01}\), no decibels. Where noise is stronger, decibels are negative.",
            ),
        ),
    ),
    Question(
        r"DDPM's linear schedule has 1000 steps with \(\beta_t\) from 0.0001 to 0.02. What is left at its end?",
        (
            Answer(
                r"\(\bar\alpha_T = 1/e\), a good third",
                "That would need the \\(\\beta_t\\) to add up to 1. They add up to {linear_total}.",
            ),
            Answer(
                r"\(\bar\alpha_T = 0\), exactly nothing",
                r"A product of numbers above 0 is above 0. It is small, and that suffices.",
            ),
            Answer(
                r"\(\bar\alpha_T\) = {linear_end}",
                "That is {linear_end_db}: close to e to the power −{linear_total}.",
                right=True,
            ),
        ),
    ),
    Question(
        "The same range of \\(\\beta_t\\) is used with 200 steps instead of 1000. What goes wrong?",
        (
            Answer(
                "Steps are too large, so the network cannot follow.",
                "The steps are as large as they were. There are too few of them.",
            ),
            Answer(
                "{unscaled_end_signal} of the signal is left at the end, and drawing starts from noise without any.",
                "The network never met pure noise in training. Multiplied by 1000/<i>T</i>, the steps end in noise again.",
                right=True,
            ),
            Answer(
                "Nothing: 200 steps are only faster.",
                "Faster, yes, but the walk to noise then ends at {unscaled_end_db}, where the picture still shows.",
            ),
        ),
    ),
    Question(
        "Asked about pure noise, the network answers with a blur. Why?",
        (
            Answer(
                "The mean of all possible pictures has the least squared error, and under pure noise all are possible.",
                "With a label, all of that label. The blur is the best answer, and sharpens as less remains possible.",
                right=True,
            ),
            Answer(
                "It was trained for too short a time.",
                "More training would not help: the best of all networks gives a blur there.",
            ),
            Answer(
                "Its convolutions blur what they see.",
                "The same convolutions give sharp edges at low noise. Look at section 4.",
            ),
        ),
    ),
    Question(
        r"Must a network predict the noise \(\varepsilon\)?",
        (
            Answer(
                "Yes: only noise can be subtracted.",
                r"With \(\hat x_0\) or \(\hat v\), \(\hat\varepsilon\) follows from \(x_t\) and the two rates. "
                "See the formulas of section 4.",
            ),
            Answer(
                "No, and it makes no difference whatever.",
                "For one given guess it does not. In training it does: the same mistake counts more or less.",
            ),
            Answer(
                "No: noise, picture and velocity say the same; they weigh mistakes differently by noise level.",
                "By SNR between noise and picture, and SNR + 1 between velocity and picture, as you measured.",
                right=True,
            ),
        ),
    ),
    Question(
        r"DDIM (\(\eta = 0\)) draws twice from the same starting noise, with the same network. What comes out?",
        (
            Answer(
                "Two different pictures: sampling is random.",
                "All that is random in DDIM is the start. DDPM adds fresh noise and would give two pictures.",
            ),
            Answer(
                "The same picture.",
                "No noise is added on the way, so the start decides everything, here to the last bit.",
                right=True,
            ),
            Answer(
                "The mean of all pictures.",
                "Only the first answer is that. The way back follows the noise it started from.",
            ),
        ),
    ),
)


def as_html(facts):
    """All of them: a form with a fieldset each."""
    return "\n".join(_question(number, each, facts) for number, each in enumerate(QUESTIONS, 1))


def _question(number, question, facts):
    name = f"q{number}"
    choices = "\n".join(
        f'<li><label><input type="radio" name="{name}" value="{i}"{" data-right" if answer.right else ""} /> '
        f'<span>{_text(answer.text, facts)}</span></label><p class="why" hidden>{_text(answer.why, facts)}</p></li>'
        for i, answer in enumerate(question.answers)
    )
    return (
        f'<form class="card question" id="{name}"><fieldset><legend>{number}. {_text(question.ask, facts)}</legend>\n'
        f"<ul>\n{choices}\n</ul>\n"
        f'<button type="submit">Check <span class="visually-hidden">question {number}</span></button> '
        f'<strong class="verdict"></strong></fieldset></form>'
    )


def _text(text, facts):
    """With formulas as MathML, and facts in their places."""
    filled = with_formulas(text)
    for name, value in facts.items():
        filled = filled.replace(f"{{{name}}}", value)
    return filled
