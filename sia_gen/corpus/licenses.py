"""Which licence a work has that was made from works under several."""

from __future__ import annotations

import re
from collections.abc import Iterable

# With the country it is adapted to, as in `cc-by-nc-3.0-de`, if to any.
CREATIVE_COMMONS = re.compile(r"cc-(by(?:-nc)?(?:-nd|-sa)?)-(\d\.\d)(?:-[a-z]+)?")
PERMISSIVE = ("cc0-1.0", "unlicense", "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause")
UNSTATED = ("unknown", "other")
# The ones that the Hub has a name for; all others are `other` there.
NAMED = {
    *PERMISSIVE,
    *UNSTATED,
    *(f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")),
    *(f"cc-by-sa-{version}" for version in ("3.0", "4.0")),
    *(f"cc-by-nc-{version}" for version in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-sa-{version}" for version in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-nd-{version}" for version in ("3.0", "4.0")),
    "cc-by-nd-4.0",
}


def strictest(licenses: Iterable[str]) -> str:
    """The licence that keeps to all of some licences, as the Hub names it.

    What any of several Creative Commons licences asks for, the result asks for. One that is not
    stated, or not known here, counts as stricter than all that allow commercial use, but does not
    hide that another forbids it.

    Args:
        licenses: At least one, such as `cc-by-nc-sa-4.0`, `mit` or `unknown`.
    """
    stated = list(dict.fromkeys(map(canonical, licenses)))
    if len(stated) == 1:
        return stated[0]
    matches = [match for one in stated if (match := CREATIVE_COMMONS.fullmatch(one))]
    demands = {demand for match in matches for demand in match[1].split("-")}
    foreign = [
        one for one in stated if one not in PERMISSIVE and not CREATIVE_COMMONS.fullmatch(one)
    ]
    if foreign and "nc" not in demands:
        return foreign[0]
    if not matches:
        return stated[0]
    # Without derivatives there are none to share alike.
    order = ("by", "nc", "nd") if "nd" in demands else ("by", "nc", "sa")
    kept = "-".join(demand for demand in order if demand in demands)
    return f"cc-{kept}-{max(match[2] for match in matches)}"


def canonical(name: str) -> str:
    """The name of a licence as the Hub writes it, if it is one of those that are known here."""
    written = re.sub(r"[\s_-]+", "-", name.strip().lower())
    known = written in NAMED or CREATIVE_COMMONS.fullmatch(written)
    return written if known else name


def hub_license(name: str) -> dict[str, str]:
    """A licence as the metadata of a card state it."""
    name = canonical(name)
    if name in NAMED:
        return {"license": name}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", name.lower())}
