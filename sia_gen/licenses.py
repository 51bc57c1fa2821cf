"""Which licence a work has that was made from works under several."""

from __future__ import annotations

import re
from collections.abc import Iterable

CREATIVE_COMMONS = re.compile(r"cc-(by(?:-nc)?(?:-nd|-sa)?)-(\d\.\d)")
PERMISSIVE = ("cc0-1.0", "unlicense", "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause")
# What the Hub takes for a licence besides the ones above; all others are `other` there.
UNSTATED = ("unknown", "other")


def strictest(licenses: Iterable[str]) -> str:
    """The licence that keeps to all of some licences, as the Hub names it.

    What any of several Creative Commons licences asks for, the result asks for. One that is not
    stated, or not known here, counts as stricter than all that allow commercial use, but does not
    hide that another forbids it.

    Args:
        licenses: At least one, such as `cc-by-nc-sa-4.0`, `mit` or `unknown`.
    """
    stated = list(dict.fromkeys(licenses))
    matches = [match for one in stated if (match := CREATIVE_COMMONS.fullmatch(one))]
    demands = {demand for match in matches for demand in match[1].split("-")}
    foreign = [one for one in stated if one not in PERMISSIVE and not CREATIVE_COMMONS.match(one)]
    if foreign and "nc" not in demands:
        return foreign[0]
    if not matches:
        return stated[0]
    # Without derivatives there are none to share alike.
    order = ("by", "nc", "nd") if "nd" in demands else ("by", "nc", "sa")
    kept = "-".join(demand for demand in order if demand in demands)
    return f"cc-{kept}-{max(match[2] for match in matches)}"


def hub_license(name: str) -> dict[str, str]:
    """A licence as the metadata of a card state it."""
    if name in (*PERMISSIVE, *UNSTATED) or CREATIVE_COMMONS.fullmatch(name):
        return {"license": name}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", name.lower())}
