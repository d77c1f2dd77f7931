"""The auditor's page: one HTML file of a received run, which needs no network.

Its text is made from the ledger, never read from the statement. Everything from the run is escaped. The browser may use
only this module's own style and script: the Content-Security-Policy contains their hashes and forbids every request.
The page has layouts for print, dark mode and phones.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedrec import __version__
from fedrec.audit.accountant.tradeoff import certainty
from fedrec.audit.report import charts
from fedrec.audit.report.findings import AttackRow, attack_rows, provenance, released_besides, shared_budget
from fedrec.audit.statement.assumptions import seeded
from fedrec.audit.statement.checklists import IN_WORDS, strength
from fedrec.audit.statement.markdown import ADAPTIVE
from fedrec.audit.statement.promise import percent
from fedrec.audit.statement.received import Received
from fedrec.audit.statement.schema import DpFyRow, PrivacyStatement, PyramidRow

SECTIONS = (
    ("adversaries", "Against whom"),
    ("meaning", "What it means"),
    ("spending", "Where the budget went"),
    ("attacks", "Attacks"),
    ("assumptions", "Assumptions"),
    ("not-protected", "Not protected"),
    ("checklists", "Checklists"),
    ("check", "Check it yourself"),
    ("terms", "Terms"),
)
MARKS = {
    "yes": "full",
    "perfect": "full",
    "strong": "full",
    "partly": "half",
    "reasonable": "half",
    "no": "cross",
    "weak": "cross",
    "none": "cross",
    "unknown": "open",
}
"""Every status has a shape, so that none is shown by colour alone."""
Row = TypeVar("Row", DpFyRow, PyramidRow)
PRIORS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
START_ALARM, START_PRIOR = 4, 3
"""Initial values of the two sliders: 5 % false alarms, 10 % before."""


def page(received: Received) -> str:
    """Return the page as HTML text."""
    stated = received.statement
    css, js = _own("report.css"), _own("report.js")
    spent = [
        charts.Spent(place, charge.epsilon.pld, charge.epsilon.rdp)
        for place, charge in enumerate(received.known.charges, 1)
    ]
    template = _environment().get_template("report.html.j2")
    return template.render(
        r=received,
        s=stated,
        name=received.name,
        fedrec=__version__,
        faults=received.faults,
        notices=notices(received),
        sections=SECTIONS,
        marks=MARKS,
        words={name: name for name in MARKS} | IN_WORDS,
        strength=_strength(stated.epsilon),
        rounds=charts.over_rounds(spent, _number(stated.target_epsilon)) if stated.epsilon else None,
        bars=charts.shares(stated.budget),
        attacks=_with_intervals(attack_rows(received), _number(stated.epsilon)),
        dp_fy=_grouped(stated.checklists.how_to_dp_fy_ml, "section"),
        pyramid=_grouped(stated.checklists.nist_sp_800_226, "level"),
        provenance=provenance(received),
        besides=released_besides(received),
        shared=shared_budget(stated.population_budget),
        adaptive=ADAPTIVE if any(row.factors is not None for row in stated.releases) else "",
        css=Markup(css),
        js=Markup(js),
        policy=f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(js)}'; "
        "base-uri 'none'; form-action 'none'",
        **_attacker(stated),
    )


@dataclass(frozen=True)
class Notice:
    """A notice at the top of the page; `kind` is "bad", or empty for information."""

    kind: str
    title: str
    text: str
    lines: Sequence[str] = ()


def notices(received: Received) -> list[Notice]:
    """Return the notices at the top of the page, worst first."""
    stated, found = received.statement, list[Notice]()
    if received.faults:
        text = "This page says what the ledger gives. The statement's files that came with it say something else:"
        found.append(Notice("bad", "Statement and ledger contradict each other.", text, received.faults))
    if stated.releases and stated.epsilon is None:
        found.append(Notice("bad", "No privacy.", "This run promises nothing; do not give its model to anybody."))
    if seeded(stated.noise_source):
        found.append(
            Notice(
                "",
                "The noise is no secret.",
                "It follows from a seed, so that the run can be repeated: what "
                "follows would hold for a run whose noise nobody knows.",
            )
        )
    if stated.simulation:
        found.append(
            Notice(
                "",
                "A simulation.",
                "All users' data lay in one place. Promises about devices tell what would "
                "hold if the same were run on them.",
            )
        )
    if stated.tuned_on:
        found.append(
            Notice(
                "",
                "Tuned on private data.",
                f"The settings were chosen on {stated.tuned_on}, and epsilon does not cover what that choice tells.",
            )
        )
    if stated.not_recorded:
        text = "The records of this run are older than this page, or end early. They lack:"
        found.append(Notice("", "Not all is recorded.", text, stated.not_recorded))
    if stated.stopped:
        left = len(stated.stopped.unrun)
        what = f"By its private metrics. The {left} rounds that it left out are charged and counted like those it ran."
        found.append(Notice("", "Stopped early.", what))
    elif stated.rounds < stated.rounds_planned:
        found.append(Notice("", "Ended early.", f"{stated.rounds} of {stated.rounds_planned} rounds were released."))
    return found


def _attacker(stated: PrivacyStatement) -> dict[str, Any]:
    curve = stated.curve
    if curve is None or stated.epsilon is None or stated.delta is None or not stated.releases:
        return {"picture": None}
    best = curve.tradeoff()
    picture = charts.attacker(best, float(stated.epsilon), float(stated.delta))
    start = picture.table[START_ALARM]
    after = certainty(start.tpr, start.fpr, PRIORS[START_PRIOR])
    return {
        "picture": picture,
        "exact": best.exact,
        "start": start,
        "start_index": START_ALARM,
        "priors": PRIORS,
        "prior_index": START_PRIOR,
        "after": after,
        "right": math.ceil(100 * after - 1e-9),
        "data": {
            "points": [{"fpr": row.fpr, "tpr": row.tpr, "x": row.x, "y": row.y} for row in picture.table],
            "priors": PRIORS,
        },
    }


def _with_intervals(rows: Sequence[AttackRow], upper: float | None) -> list[AttackRow]:
    places = iter(charts.intervals([row.lower for row in rows if row.lower is not None], upper))
    found = []
    for row in rows:
        start, end = next(places) if row.lower is not None else (0.0, 0.0)
        found.append(replace(row, start=start, end=end))
    return found


def _grouped(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    return {name: list(group) for name, group in groupby(rows, key=lambda row: str(getattr(row, key)))}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Return the templates, which are compiled once in a process."""
    made = Environment(
        loader=PackageLoader("fedrec.audit.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    made.filters |= {"percent": percent, "short": _short, "capital": _capital, "strength": _strength}
    return made


def _own(name: str) -> str:
    return (files("fedrec.audit.report") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _short(text: str) -> str:
    return f"{float(text):.5g}"


def _strength(epsilon: str | None) -> str:
    return strength(_number(epsilon))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
