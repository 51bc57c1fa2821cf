"""How long the client of the Hub waits; by itself it waits for ever."""

from __future__ import annotations

import re
from typing import Any

from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from sia_gen.errors import HubError
from sia_gen.hub.errors import AGAIN

# Seconds without a byte after which a connection counts as broken; the client begins a new one.
SILENCE = 120.0
# Seconds that nobody sits through. The Hub counts requests in windows of five minutes.
LONGEST_WAIT = 900
# A limit of which nothing remains, and the seconds until it begins anew.
SPENT = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)")


def give_up_in_time() -> None:
    """Makes the client, in this process, give up what does not come in a sensible time."""
    set_client_factory(new_client)


def new_client() -> Any:
    """An HTTP client like the usual one, for which silence has an end."""
    client = default_client_factory()
    client.timeout = SILENCE
    client.event_hooks = client.event_hooks | {"response": [refuse_long_wait]}
    return client


def refuse_long_wait(response: Any) -> None:
    """Raises `HubError` where the client would wait for longer than people do."""
    wait = wait_of(response)
    if wait > LONGEST_WAIT:
        raise HubError(
            problem=f"the Hub asks to wait for {wait / 3600:.1f} hours.", fix=f"Then {AGAIN}"
        )


def wait_of(response: Any) -> float:
    """The seconds that an answer asks to wait."""
    spent = SPENT.search(response.headers.get("RateLimit", ""))
    if response.status_code == 429 and spent:
        return float(spent[1])
    wait = response.headers.get("Retry-After", "").strip()
    return float(wait) if wait.isdecimal() else 0.0
