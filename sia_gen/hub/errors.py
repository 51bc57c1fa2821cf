"""What can go wrong between here and the Hub, as one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sia_gen.errors import HubError, UserError, first_line

# The base of all errors of the HTTP client, which one it is depends on the version of the Hub's.
HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]
AGAIN = "run the same command again: what has arrived is not sent twice."
# What has no status: the connection, or what was sent through it.
SAID = {
    LocalTokenNotFoundError: (
        "there is no token for the Hub.",
        "Log in with 'hf auth login', or set HF_TOKEN.",
    ),
    OfflineModeIsEnabled: ("HF_HUB_OFFLINE keeps off the network.", "Unset it."),
}
STATUS = {
    401: ("the Hub does not take the token.", "Log in anew with 'hf auth login', or set HF_TOKEN."),
    403: (
        "the token gives no right to {repository}.",
        "Use a token that may write there, or another repository.",
    ),
    409: ("somebody else is changing {repository}.", f"Wait a moment, then {AGAIN}"),
    429: ("the Hub got too many requests.", f"Wait some minutes, then {AGAIN}"),
}


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turns what the client of the Hub raises into a `HubError` that names the repository."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = explain(error, repository)
        cause = cause_of(error)
        # What this machine refuses is told elsewhere.
        if told is None and isinstance(cause, OSError | MemoryError):
            raise
        # A server that repeats the token must not have it printed, not even to find bugs.
        repeated = without_token(str(cause)) != str(cause)
        raise told or senseless(cause) from (None if repeated else error)


def explain(error: BaseException, repository: str = "the repository") -> HubError | None:
    """The `HubError` of an error; None if it does not come from the Hub or the way to it."""
    error = cause_of(error)
    if isinstance(error, HubError):
        return error
    for kind, (problem, fix) in SAID.items():
        if isinstance(error, kind):
            return HubError(problem=problem, fix=fix)
    if isinstance(error, HFValidationError):
        return HubError(
            problem=f"'{repository}' is no name of a repository.",
            fix="Give OWNER/NAME, of letters, digits, '-', '_' and '.', at most 96.",
        )
    if isinstance(error, RevisionNotFoundError):
        return no_revision(repository)
    if isinstance(error, HfHubHTTPError):
        return explain_status(error, repository)
    if isinstance(error, HTTPError | ConnectionError):
        return HubError(
            problem=f"cannot reach the Hub ({presentable(first_line(error))}).",
            fix=f"Check the network, then {AGAIN}",
        )
    # Headers are ASCII; a copied token may have picked up something else.
    if isinstance(error, UnicodeEncodeError) and error.object.startswith("Bearer "):
        problem, fix = STATUS[401]
        return HubError(problem=problem, fix=fix)
    return None


def no_revision(repository: str) -> HubError:
    """The error of a branch or pull request that is not there."""
    return HubError(problem=f"{repository} has no such revision.", fix="Check --revision.")


def cause_of(error: BaseException) -> BaseException:
    """What broke off an upload, which the client wraps."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def senseless(error: BaseException) -> HubError:
    """The error of an answer that the client cannot make sense of, in whatever way it says so."""
    return HubError(
        problem="what answers is not the Hub, or its client is too old for it "
        f"({presentable(first_line(error))}).",
        fix="Check HF_ENDPOINT, whether the network wants a login, and huggingface_hub's version.",
    )


def presentable(text: str) -> str:
    """A text from elsewhere as a part of a sentence, in which the token is not."""
    return " ".join(without_token(text).split()).rstrip(".")


def without_token(text: str) -> str:
    """A text in which the token is not."""
    token = get_token()
    return text.replace(token, "***") if token else text


def explain_status(error: HfHubHTTPError, repository: str) -> HubError:
    """The error of an answer of the Hub."""
    status = error.response.status_code
    wrong_token = error.response.headers.get("X-Error-Message", "").startswith("Invalid ")
    if isinstance(error, RepositoryNotFoundError) and not wrong_token:
        return HubError(
            problem=f"there is no repository {repository}, or it is not for you to see.",
            fix="Check its name; for a private one log in with 'hf auth login'.",
        )
    if status in STATUS:
        problem, fix = STATUS[status]
        return HubError(problem=problem.format(repository=repository), fix=fix)
    if status >= 500:
        return HubError(
            problem=f"the Hub fails (status {status}).", fix=f"Wait some minutes, then {AGAIN}"
        )
    said = presentable(error.server_message or error.response.reason_phrase)
    return HubError(
        problem=f"the Hub refuses ({status}: {said}).",
        fix=f"Mend what it says, or look at {repository} there, then {AGAIN}",
    )
