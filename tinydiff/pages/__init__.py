"""The site, made: ``tinydiff site`` puts what stands in ``tinydiff/site`` together with all that Python computes for it.

    build.py      the files of the whole site, {path: bytes}
    page.py       one page: its layout, its formulas, its facts
    shipped.py    the model of digits that comes with the package, how it was trained, how good it is
    digits.py     its programs, for the pages that draw digits
    lab.py        programs that train on points in the plane
    lesson.py     what the lesson states and shows
    gradients.py  every operation: of its parts derivations.py and formulas.py typeset the docstring, examples.py makes the
                  example that computes, sources.py finds the code, step.py its share of a training step
    serve.py      a server on this computer, for a browser on it

The browser's side is HTML, CSS and modules by hand, one module an idea, in ``tinydiff/site``.
"""

SAMPLERS = ("ddpm", "ddim", "heun", "dpm++")  # that pages let their visitors choose from
PREDICTIONS = ("eps", "x0", "v")  # likewise, and shows
