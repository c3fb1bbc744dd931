"""Presets: named compositions with the papers' hyper-parameters.

A preset is the first thing to call and nothing that could not be written from the parts
(`jnas.search.differentiable` and the rooms it takes them from). All for images take the
options `Common` beside their own.
"""

from typing import Any

from jnas.errors import unknown_name
from jnas.presets.continuous import darts, drnas, fair_darts, milenas, pc_darts
from jnas.presets.deciding import darts_pt, sgas
from jnas.presets.figures import Common, Published, scaled_arch_rate
from jnas.presets.one_shot import rsps, setn, spos
from jnas.presets.progressive import drnas_progressive, p_darts
from jnas.presets.recurrent import darts_rnn
from jnas.presets.regularised import (
    beta_darts,
    darts_minus,
    darts_plus,
    lambda_darts,
    oles,
)
from jnas.presets.robust import (
    DROP_PATHS,
    WEIGHT_DECAYS,
    darts_ada,
    darts_es,
    hessian_darts,
    r_darts_dp,
    r_darts_l2,
    sdarts_adv,
    sdarts_rs,
)
from jnas.presets.sampled import dsnas, gdas, gdas_frc, proxyless, snas

__all__ = [
    "DROP_PATHS",
    "WEIGHT_DECAYS",
    "Common",
    "Published",
    "beta_darts",
    "darts",
    "darts_ada",
    "darts_es",
    "darts_minus",
    "darts_plus",
    "darts_pt",
    "darts_rnn",
    "drnas",
    "drnas_progressive",
    "dsnas",
    "fair_darts",
    "gdas",
    "gdas_frc",
    "get",
    "hessian_darts",
    "lambda_darts",
    "milenas",
    "names",
    "oles",
    "p_darts",
    "pc_darts",
    "proxyless",
    "r_darts_dp",
    "r_darts_l2",
    "rsps",
    "scaled_arch_rate",
    "sdarts_adv",
    "sdarts_rs",
    "setn",
    "sgas",
    "snas",
    "spos",
]

_PRESETS = {
    function.__name__: function
    for function in (
        darts,
        milenas,
        p_darts,
        pc_darts,
        fair_darts,
        drnas,
        drnas_progressive,
        gdas,
        gdas_frc,
        snas,
        dsnas,
        proxyless,
        spos,
        setn,
        rsps,
        sdarts_rs,
        sdarts_adv,
        r_darts_l2,
        r_darts_dp,
        darts_es,
        darts_ada,
        hessian_darts,
        darts_minus,
        beta_darts,
        lambda_darts,
        oles,
        darts_plus,
        darts_pt,
        sgas,
        darts_rnn,
    )
}


def names() -> dict[str, str]:
    """The presets.

    Returns:
      ``{name: one line}``.

    Example:
      >>> names()["gdas"]
      'GDAS: hard Gumbel samples, of which only the drawn candidates are computed.'
    """
    return {k: (v.__doc__ or "").splitlines()[0] for k, v in _PRESETS.items()}


def get(name: str) -> Any:
    """A preset by name.

    Args:
      name: its name.

    Returns:
      The function.

    Raises:
      JnasError: unknown name, with close matches.

    Example:
      >>> get("darts").__name__
      'darts'
    """
    if name not in _PRESETS:
        raise unknown_name("method", name, _PRESETS)
    return _PRESETS[name]
