"""Formulas as mathematics: MathML, which browsers set without a script, with the plain text for who cannot see it."""

from markupsafe import Markup, escape

from bundle.record.fields import NumericField

_MINUS = "\N{MINUS SIGN}"


def _mi(name: str) -> Markup:
    return Markup("<mi>{}</mi>").format(name)


def _mo(operator: str) -> Markup:
    return Markup("<mo>{}</mo>").format(operator)


def _mn(number: str) -> Markup:
    return Markup("<mn>{}</mn>").format(number)


def _row(*parts: Markup) -> Markup:
    return Markup("<mrow>{}</mrow>").format(Markup("").join(parts))


def _within(*parts: Markup, left: str = "(", right: str = ")") -> Markup:
    return _row(_mo(left), *parts, _mo(right))


def _of(name: str, *parts: Markup) -> Markup:
    return _row(_mi(name), _within(*parts))


def _sub(name: Markup, index: Markup) -> Markup:
    return Markup("<msub>{}{}</msub>").format(name, index)


def _ratio(above: Markup, below: Markup) -> Markup:
    """On one line: a fraction touches the lines around it, and brackets grow with it in few fonts alone."""
    return _row(above, _mo("/"), below)


def _math(text: str, *parts: Markup) -> Markup:
    return Markup('<math alttext="{}">{}</math>').format(text, Markup("").join(parts))


_SPACE = Markup('<mspace width="0.17em"></mspace>')
_LOG = _row(_mi("log"), _SPACE)
_X, _Z = _mi("x"), _mi("z")
_ZL = _sub(_Z, _mi("l"))
_MEAN = _row(_ratio(_mn("1"), _mi("L")), _SPACE, _sub(_mo("\N{N-ARY SUMMATION}"), _mi("l")))
_KL = _of("KL", _of("q", _Z, _mo("|"), _X), _mo("\N{PARALLEL TO}"), _of("p", _Z))
_LOG_P = _row(_LOG, _of("p", _X, _mo("|"), _ZL))


def _deviations(letter: str) -> Markup:
    """(s - median) / (1.4826 MAD)."""
    distance = _within(_mi(letter), _mo(_MINUS), _mi("median"))
    return _ratio(distance, _within(_mn("1.4826"), _SPACE, _mi("MAD")))


def _size(text: str, *parts: Markup) -> Markup:
    return _math(text, _within(*parts, left="|", right="|"))


_ASINH_S, _ASINH_D = (
    _math(f"asinh(({letter} - median) / (1.4826 MAD))", _of("asinh", _deviations(letter))) for letter in "sd"
)
_SIZES = Markup("{}, {}, {}").format(
    _size("|x - x_hat|", _X, _mo(_MINUS), Markup("<mover>{}{}</mover>").format(_X, _mo("^"))),
    _size("|mu|", _mi("μ")),
    _size("|sigma|", _mi("σ")),
)

LOG_LIKELIHOOD = _math("log p(x|z)", _LOG, _of("p", _X, _mo("|"), _Z))
"""log p(x|z)."""
KL = _math("KL(q(z|x) || p(z))", _KL)
"""KL(q(z|x) || p(z))."""
LOG_P_X = _math("log p(x)", _LOG, _of("p", _X))
"""log p(x)."""
POSTERIOR = _math("q(z|x)", _of("q", _Z, _mo("|"), _X))
"""q(z|x)."""

DEFINITIONS: dict[str, Markup] = {
    "-(1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z)))": _math(
        "-(1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z)))", _mo(_MINUS), _within(_MEAN, _LOG_P, _mo(_MINUS), _KL)
    ),
    "-log(1/L sum_l p(x|z_l))": _math(
        "-log(1/L sum_l p(x|z_l))", _mo(_MINUS), _mi("log"), _within(_MEAN, _of("p", _X, _mo("|"), _ZL))
    ),
    "-log(1/L sum_l p(x, z_l) / q(z_l|x))": _math(
        "-log(1/L sum_l p(x, z_l) / q(z_l|x))",
        _mo(_MINUS),
        _mi("log"),
        _within(_MEAN, _ratio(_of("p", _X, _mo(","), _ZL), _of("q", _ZL, _mo("|"), _X))),
    ),
    "-1/L sum_l log p(x|z_l)": _math("-1/L sum_l log p(x|z_l)", _mo(_MINUS), _MEAN, _LOG_P),
    "mean of -expected_log_likelihood, as asinh((s - median) / (1.4826 MAD)), and, twofold, neighbours": Markup(
        "One third {}, where {} is \N{MINUS SIGN}expected log-likelihood, and two thirds neighbours"
    ).format(_ASINH_S, _math("s", _mi("s"))),
    "mean of asinh((d - median) / (1.4826 MAD)) of the distances d to a coreset, in two spaces": Markup(
        "Mean of {} over the distances {} to a coreset, in two spaces"
    ).format(_ASINH_D, _math("d", _mi("d"))),
    "of log-likelihood, KL, |x - x_hat|, |mu|, |sigma| and decoder scale from those of normal records": Markup(
        "Distance of log-likelihood, KL, {} and decoder scale from those of normal records"
    ).format(_SIZES),
    "mean of (s - median) / (1.4826 MAD) of complexity, typicality and texture": Markup(
        "Mean of {} over three scores {}: complexity, typicality and texture"
    ).format(_math("(s - median) / (1.4826 MAD)", _deviations("s")), _math("s", _mi("s"))),
    "asinh((d - median) / (1.4826 MAD)) of the distance d of the latent mean to a coreset": Markup(
        "{} of the distance {} from the latent mean to a coreset"
    ).format(_ASINH_D, _math("d", _mi("d"))),
    "of log-likelihood, KL, |x - x_hat|, |mu|, |sigma|, decoder scale and code length from those of normal "
    "images": Markup(
        "Distance of log-likelihood, KL, {}, decoder scale and code length from those of normal images"
    ).format(_SIZES),
    "of log mean square differences of neighbouring levels, along and across, at full size, a half, a quarter and an "
    "eighth": Markup(
        "Distance of the log mean square differences of neighbouring levels from those of normal images; along and "
        "across, at full size, a half, a quarter and an eighth"
    ),
    "-elbo / log 2 less the image's code length, the sum of 2 log2(1 + |r|) + 1 over residuals r of the median edge "
    "predictor": Markup(
        "{}, less the image's code length: the sum of {} over the residuals {} of the median edge predictor"
    ).format(
        _math("-ELBO / log 2", _ratio(_row(_mo(_MINUS), _mi("ELBO")), _row(_LOG, _mn("2")))),
        _math(
            "2 log2(1 + |r|) + 1",
            _mn("2"),
            _sub(_mi("log"), _mn("2")),
            _within(_mn("1"), _mo("+"), _within(_mi("r"), left="|", right="|")),
            _mo("+"),
            _mn("1"),
        ),
        _math("r", _mi("r")),
    ),
}
"""Of each definition of `bundle.contents.scores`, the same as mathematics."""


def definition(text: str) -> Markup:
    """A score's definition; one that another release has written stays text."""
    return DEFINITIONS.get(text, escape(text))


def transformed(field: NumericField) -> Markup:
    """What is modelled of a number x: x itself, or the logarithm of x and an offset."""
    if field.offset is None:
        return _math(field.formula, _X)
    return _math(field.formula, _of("log", _X, _mo("+"), _mn(f"{field.offset:.3g}")))
