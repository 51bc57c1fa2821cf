"""The client of the Hub: how long it waits, and what it raises as one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import get_token, set_client_factory
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory

from sia_gen.errors import HubError, UserError, first_line

# Seconds without a byte after which the client counts a connection as broken and tries again.
SILENCE = 120.0
# Seconds beyond which waiting makes no sense; the Hub counts requests in windows of five minutes.
LONGEST_WAIT = 900
# A spent limit, and the seconds until it is renewed.
SPENT = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
# Base class of all errors of the HTTP client, which depends on the version of huggingface_hub.
HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]
AGAIN = "run the same command again: it sends only what is missing."
WRONG_TOKEN = ("the Hub rejects the token.", "Log in again with 'hf auth login', or set HF_TOKEN.")
KINDS: dict[type[Exception], tuple[str, str]] = {
    LocalTokenNotFoundError: (
        "there is no token for the Hub.",
        "Log in with 'hf auth login', or set HF_TOKEN.",
    ),
    OfflineModeIsEnabled: ("HF_HUB_OFFLINE forbids the network.", "Unset it."),
    HFValidationError: (
        "'{repository}' is not the name of a repository.",
        "Give OWNER/NAME with letters, digits, '-', '_' and '.', at most 96 characters.",
    ),
    RevisionNotFoundError: ("{repository} has no such revision.", "Check --revision."),
}
STATUS = {
    401: WRONG_TOKEN,
    403: (
        "the token gives no right to {repository}.",
        "Use a token that may write there, or another repository.",
    ),
    409: ("somebody else is changing {repository}.", f"Wait a moment, then {AGAIN}"),
    429: ("the Hub received too many requests.", f"Wait some minutes, then {AGAIN}"),
}


def give_up_in_time() -> None:
    """Makes the client in this process give up when an answer takes unreasonably long."""

    def new_client() -> Any:
        client = default_client_factory()
        client.timeout = SILENCE
        client.event_hooks = client.event_hooks | {"response": [_refuse_long_wait]}
        return client

    set_client_factory(new_client)


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turns errors of the client into a `HubError` that names the repository."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        hub_error, cause = explain(error, repository), _cause(error)
        # The command line explains what this machine refuses.
        if hub_error is None and isinstance(cause, OSError | MemoryError):
            raise
        # If a server repeats the token, not even a traceback may print it.
        repeated = _without_token(str(cause)) != str(cause)
        raise hub_error or HubError(
            problem="the server is not the Hub, or its client here is too old "
            f"({_presentable(first_line(cause))}).",
            fix="Check HF_ENDPOINT, whether the network requires a login, and the version of "
            "huggingface_hub.",
        ) from (None if repeated else error)


def explain(error: BaseException, repository: str = "the repository") -> HubError | None:
    """Returns the `HubError` of an error; None if it comes neither from the Hub nor the network."""
    error = _cause(error)
    if isinstance(error, HubError):
        return error
    for kind, (problem, fix) in KINDS.items():
        if isinstance(error, kind):
            return HubError(problem=problem.format(repository=repository), fix=fix)
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, repository)
    if isinstance(error, HTTPError | ConnectionError):
        return HubError(
            problem=f"cannot reach the Hub ({_presentable(first_line(error))}).",
            fix=f"Check the network, then {AGAIN}",
        )
    # A header has to be ASCII, but a copied token may contain other characters.
    if isinstance(error, UnicodeEncodeError) and error.object.startswith("Bearer "):
        return HubError(problem=WRONG_TOKEN[0], fix=WRONG_TOKEN[1])
    return None


def _explain_status(error: HfHubHTTPError, repository: str) -> HubError:
    status = error.response.status_code
    wrong_token = error.response.headers.get("X-Error-Message", "").startswith("Invalid ")
    if isinstance(error, RepositoryNotFoundError) and not wrong_token:
        problem = f"there is no repository {repository}, or you have no access to it."
        fix = "Check its name; for a private one log in with 'hf auth login'."
    elif status in STATUS:
        problem, fix = STATUS[status]
        problem = problem.format(repository=repository)
    elif status >= 500:
        problem, fix = f"the Hub fails (status {status}).", f"Wait some minutes, then {AGAIN}"
    else:
        reason = _presentable(error.server_message or error.response.reason_phrase)
        problem = f"the Hub refuses ({status}: {reason})."
        fix = f"Correct the cause, or look at {repository} on the Hub, then {AGAIN}"
    return HubError(problem=problem, fix=fix)


def _cause(error: BaseException) -> BaseException:
    """Returns the error that interrupted an upload, which the client wraps."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _presentable(text: str) -> str:
    """Returns a text from outside as part of a sentence, without the token."""
    return " ".join(_without_token(text).split()).rstrip(".")


def _without_token(text: str) -> str:
    token = get_token()
    return text.replace(token, "***") if token else text


def _refuse_long_wait(response: Any) -> None:
    """Raises `HubError` before the client waits longer than people do."""
    spent = SPENT.search(response.headers.get("RateLimit", ""))
    if response.status_code == 429 and spent:
        wait = float(spent[1])
    else:
        retry_after = response.headers.get("Retry-After", "").strip()
        wait = float(retry_after) if retry_after.isdecimal() else 0.0
    if wait > LONGEST_WAIT:
        raise HubError(
            problem=f"the Hub asks to wait for {wait / 3600:.1f} hours.", fix=f"Then {AGAIN}"
        )
