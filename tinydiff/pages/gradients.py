"""The page gradients.html: every op with its derivation, its place in a training step, its worked example, its sources.

    gradients/examples.json     what the examples compute, see ``examples``
    gradients/sources.json      {path: text}
    gradients/kernels/, step/   programs, see ``examples`` and ``step``
"""

from __future__ import annotations

import html
import json

from tinydiff import backends
from tinydiff.gradcheck.table import ROWS
from tinydiff.ops import OPS, WITHOUT_GRADIENT
from tinydiff.pages import derivations, examples, sources, step

FOLDER = "gradients"
# why a training step of the model may have no call of an op
WITHOUT_A_CALL = {
    "philox": "draw_batch and corrupt draw its numbers where they need them",
    "dropout": "this model was trained without",
    **dict.fromkeys(("layer_norm", "gelu", "geglu"), "it is of a transformer's blocks"),
    **dict.fromkeys(("l1_loss", "gaussian_sample", "gaussian_kl"), "it is of an autoencoder's"),
}
LANGUAGE_NAMES = {"python": "NumPy", "cpp": "C++", "cuda": "CUDA"}


def make(checkpoint):
    """(facts, files) of the page, see ``build.contents``."""
    shares = step.shares(checkpoint.config)
    facts = {
        "operations": _contents(),
        "derivations": "\n".join(_section(op, shares) for op in OPS),
        "batch": str(checkpoint.config.batch),
        "measured_batch": str(step.BATCH),
        "calls": str(sum(share.calls for share in shares.values())),
        "shares": _table(shares),
    }
    folders = {"kernels": examples.kernel_files(backends.get("numpy")), "step": step.program_files(checkpoint.config)}
    files = {f"{FOLDER}/{folder}/{name}": text for folder, some in folders.items() for name, text in some.items()}
    files[f"{FOLDER}/examples.json"] = examples.data()
    files[f"{FOLDER}/sources.json"] = json.dumps(sources.texts(), ensure_ascii=False).encode()
    return facts, files


def _contents():
    """Links to all ops, those with a gradient first."""
    groups = {
        "With a gradient": [op for op in OPS if op not in WITHOUT_GRADIENT],
        "Without": [op for op in OPS if op in WITHOUT_GRADIENT],
    }
    parts = []
    for title, ops in groups.items():
        links = "".join(f'<li><a href="#{op}">{op}</a></li>' for op in ops)
        parts.append(f"<h2>{title}</h2><ul>{links}</ul>")
    return "\n".join(parts)


def _section(op, shares):
    """All that the page says of an op without computing."""
    module = OPS[op]
    parts = [
        f'<section class="op" data-op="{op}" aria-labelledby="{op}"><div>',
        f'<h2 id="{op}"><code>{op}</code></h2>',
        f'<p class="summary">{_sentence(derivations.summary(module))}</p>',
        f'<p class="note">{_place(op, shares.get(op))}</p>',
        f'<div class="derivation">{derivations.derivation(module)}</div>',
    ]
    if op in ROWS:
        parts.append(f'<div class="live" data-op="{op}"></div>')
    parts.append(f'</div><div class="sources"><h3>The sources</h3>{_files(op)}</div></section>')
    return "\n".join(parts)


def _sentence(text):
    return text if text.startswith("<") else text[0].upper() + text[1:]


def _place(op, share):
    if share is None:
        return f"A training step has no call of it: {WITHOUT_A_CALL.get(op, 'this model has no use for it')}."
    calls = f"{share.calls} call{'s' * (share.calls > 1)}"
    products = f"{_percent(share.flops)} of the operations of matrix products" if share.flops else "no matrix product"
    return f"In a training step: {calls}, {products}, {_percent(share.bytes)} of the bytes that calls read and write."


def _percent(part):
    return f"{part:.1%}" if part >= 0.001 else "less than 0.1%"


def _files(op):
    """The files of an op in each language."""
    lists = []
    for language, paths in sources.files(op).items():
        items = "".join(f"<li><code>{html.escape(path)}</code></li>" for path in paths)
        lists.append(f'<li data-language="{language}">{LANGUAGE_NAMES[language]}<ul>{items}</ul></li>')
    return f'<ul class="files">{"".join(lists)}</ul>'


def _table(shares):
    """The rows of the table of a training step."""
    rows = []
    for op, share in sorted(shares.items(), key=lambda item: (-item[1].flops, -item[1].bytes)):
        name = f'<a href="#{op}">{op}</a>' if op in OPS else "sums and copies between ops"
        numbers = [str(share.calls), _percent(share.flops) if share.flops else "–", _percent(share.bytes)]
        cells = "".join(f"<td>{each}</td>" for each in numbers)
        rows.append(f'<tr data-op="{op}"><th scope="row">{name}</th>{cells}<td>–</td><td>–</td><td>–</td></tr>')
    return "".join(rows)
