"""A Hub on this machine: speaks the protocol of the real one to its real client.

It keeps what is pushed in memory, and can be told to fail (`Fault`).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.store import LARGE, HubError, Repository, Store

# Tokens and whose they are. A user may write to repositories of that name.
TOKENS = {f"hf_of_{user}": user for user in ("ada", "bob", "you", "google")}
REPO = r"/api/(models|datasets)/([^/]+/[^/]+)"
FILES = r"/(datasets/)?([^/]+/[^/]+)"
BLOCK = 1 << 14


@dataclass
class Fault:
    """Something that goes wrong with requests such as `PUT /lfs/...`.

    Attributes:
        request: A pattern of method and path.
        status: What is answered; 0 drops the connection instead.
        after: So many bytes of the body are let through before.
        times: How often it happens.
        headers: Of the answer.
        content: Of the answer; by itself an error as the Hub tells it.
    """

    request: str
    status: int = 0
    after: int = 0
    times: int = 1
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None


class Hub(Store):
    """The server, and what it holds.

    Attributes:
        url: What HF_ENDPOINT has to be.
        faults: Those to come.
        received: Bytes of large files that came in, also of uploads that were broken off.
        requests: Method and path of all requests.
        xet_token: What the client needs for the other transport; its files do not come here.
        down_from: Once so many bytes have been received, all connections end; None for never.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Fault] = []
        self.received = 0
        self.requests: list[str] = []
        self.down_from: int | None = None
        self.xet_token: dict[str, Any] | None = None
        self.lock = threading.RLock()
        hub = self

        class Bound(Handler):
            def __init__(self, *arguments: Any) -> None:
                self.hub = hub
                super().__init__(*arguments)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def clear(self) -> None:
        """Forgets everything."""
        with self.lock:
            for held in (self.repositories, self.small, self.large, self.faults, self.requests):
                held.clear()
            self.received, self.down_from, self.xet_token = 0, None, None

    def receive(self, count: int) -> None:
        """Counts bytes of large files; with nothing to count it tells whether the server is up."""
        with self.lock:
            self.received += count
            if self.down_from is not None and self.received >= self.down_from:
                raise Dropped

    def fault(self, request: str) -> Fault | None:
        """What goes wrong with a request, if anything."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.request, request):
                    fault.times -= 1
                    return fault
        return None


class Dropped(Exception):
    """The connection is to end without an answer."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request after another of a connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def handle_one(self) -> None:
        """Answers a request; what goes wrong is an answer too, or the end of the connection."""
        url = urlsplit(self.path)
        self.url_path, self.query = unquote(url.path), parse_qs(url.query)
        self.fault = self.hub.fault(f"{self.command} {self.url_path}")
        try:
            try:
                reply = self.reply()
            except HubError as error:
                reply = error.status, error.content, error.headers
            self.send(*reply)
        except (Dropped, ConnectionError):
            self.close_connection = True

    def reply(self) -> Reply:
        """Finds who asks for what, and what to answer."""
        self.hub.receive(0)
        self.body = self.read_body()
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise HubError(401, message="Invalid credentials in Authorization header")
        self.user = TOKENS.get(token)
        for methods, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, self.url_path)
            if match and self.command in methods:
                with self.hub.lock:
                    return answer(self, *match.groups())
        raise HubError(404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def read_body(self) -> bytes:
        """The body of the request; what goes wrong, goes wrong in the middle of it."""
        blocks, left = [], int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            return self.read_chunks()
        allowed = self.fault.after if self.fault and self.command == "PUT" else left
        while left and allowed > 0:
            block = self.rfile.read(min(left, allowed, BLOCK))
            if not block:
                raise Dropped
            blocks.append(block)
            left, allowed = left - len(block), allowed - len(block)
            if self.command == "PUT":
                self.hub.receive(len(block))
        if self.fault and not (self.command == "GET" and self.fault.after):
            if not self.fault.status:
                raise Dropped
            self.close_connection = left > 0
            error = HubError(self.fault.status, message="told to fail")
            error.headers |= dict(self.fault.headers)
            if self.fault.content is not None:
                error.content = self.fault.content
            raise error
        return b"".join(blocks)

    def read_chunks(self) -> bytes:
        """A body that came in chunks."""
        blocks = []
        while size := int(self.rfile.readline(), 16):
            blocks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(blocks)

    def send(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Sends an answer."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.after and not self.fault.status:
            self.wfile.write(content[: self.fault.after])
            raise Dropped
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""

    def repository(self, kind: str | None, name: str, write: bool = False) -> Repository:
        """The repository a request is about."""
        single = "dataset" if (kind or "").startswith("dataset") else "model"
        found = self.hub.find(single, name, self.user)
        if write and self.user is None:
            raise HubError(401, message="Invalid username or password.")
        if write and name.partition("/")[0] != self.user:
            raise HubError(403, message=f"You don't have the rights to write to {name}")
        return found


Reply = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]
ROUTES: list[tuple[str, str, Callable[..., Reply]]] = []


def route(methods: str, pattern: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Registers what answers requests of a pattern."""

    def register(answer: Callable[..., Reply]) -> Callable[..., Reply]:
        ROUTES.append((methods, pattern, answer))
        return answer

    return register


def answered(content: Any) -> Reply:
    """JSON as an answer."""
    return 200, json.dumps(content).encode(), {"Content-Type": "application/json"}


@route("GET", "/api/whoami-v2")
def whoami(request: Handler) -> Reply:
    if request.user is None:
        raise HubError(401, message="Invalid username or password.")
    return answered({"type": "user", "name": request.user, "orgs": [], "auth": {}})


@route("POST", "/api/validate-yaml")
def validate_yaml(request: Handler) -> Reply:
    return answered({"errors": [], "warnings": []})


@route("POST", "/api/repos/create")
def create(request: Handler) -> Reply:
    wanted = json.loads(request.body)
    owner = wanted.get("organization") or request.user
    kind, name = wanted.get("type") or "model", f"{owner}/{wanted['name']}"
    if request.user is None:
        raise HubError(401, message="Invalid username or password.")
    if owner != request.user:
        raise HubError(
            403, message=f'You don\'t have the rights to create a {kind} under "{owner}"'
        )
    request.hub.create(kind, name, wanted.get("visibility") == "private")
    return answered({"url": address(request, kind, name), "name": name, "id": "0"})


@route("GET", REPO + "(?:/revision/(.+))?")
def info(request: Handler, kind: str, name: str, revision: str | None) -> Reply:
    found = request.repository(kind, name)
    siblings = [{"rfilename": path} for path in found.files(revision or "main")]
    sha = found.commit_of(revision or "main")
    told = {"id": name, "sha": sha, "private": found.private, "siblings": siblings}
    return answered(told | {"tags": [], "downloads": 0, "likes": 0, "gated": False})


@route("GET", REPO + "/tree/([^/]+(?:/pr/[0-9]+)?)(?:/(.*))?")
def tree(request: Handler, kind: str, name: str, revision: str, below: str | None) -> Reply:
    files = request.repository(kind, name).files(revision)
    start = f"{below}/" if below else ""
    inside = {path: entry for path, entry in files.items() if path.startswith(start)}
    if below and not inside:
        raise HubError(404, "EntryNotFound", f"{below} does not exist")
    told = [entry.described(path) for path, entry in sorted(inside.items())]
    if request.query.get("recursive") != ["true"]:
        told = [one for one in told if "/" not in one["path"][len(start) :]]
    deep = request.query.get("recursive") == ["true"]
    return answered([*folders(inside, start, deep), *told])


def folders(paths: Any, start: str, deep: bool) -> list[dict[str, Any]]:
    """The folders that files are in, below `start`."""
    found = set()
    for path in paths:
        parts = path[len(start) :].split("/")[:-1]
        for depth in range(1, (len(parts) if deep else min(len(parts), 1)) + 1):
            found.add(start + "/".join(parts[:depth]))
    return [{"type": "directory", "path": one, "size": 0, "oid": "0" * 40} for one in sorted(found)]


@route("POST", REPO + "/paths-info/(.+)")
def paths_info(request: Handler, kind: str, name: str, revision: str) -> Reply:
    files = request.repository(kind, name).files(revision)
    form = parse_qs(request.body.decode())
    paths = form.get("paths") or json.loads(request.body)["paths"]
    parents = {one["path"]: one for one in folders(files, "", True)}
    told = [files[path].described(path) for path in paths if path in files]
    return answered(told + [parents[path] for path in paths if path in parents])


@route("POST", REPO + "/preupload/(.+)")
def preupload(request: Handler, kind: str, name: str, revision: str) -> Reply:
    write = "create_pr" not in request.query
    files = request.repository(kind, name, write=write).files(revision)
    told = []
    for file in json.loads(request.body)["files"]:
        mode = "lfs" if file["path"].endswith(LARGE) else "regular"
        known = files.get(file["path"])
        oid = None if known is None else known.sha256 or known.oid
        told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return answered({"files": told})


@route("POST", REPO + "/commit/(.+)")
def commit(request: Handler, kind: str, name: str, revision: str) -> Reply:
    pull = "create_pr" in request.query
    found = request.repository(kind, name, write=not pull)
    if pull:
        revision = open_pull_request(found)
    elsewhere = request.hub.xet_token is not None
    oid = request.hub.commit(found, revision, request.body.splitlines(), elsewhere)
    home = address(request, found.kind, name)
    told = {"commitUrl": f"{home}/commit/{oid}", "commitOid": oid}
    number = revision.rpartition("/")[2]
    return answered(told | {"pullRequestUrl": f"{home}/discussions/{number}"} if pull else told)


def open_pull_request(found: Repository) -> str:
    """The ref of a new pull request."""
    revision = f"refs/pr/{1 + sum(ref.startswith('refs/pr/') for ref in found.refs)}"
    found.refs[revision] = found.refs["main"]
    return revision


@route("POST", REPO + "/branch/(.+)")
def branch(request: Handler, kind: str, name: str, revision: str) -> Reply:
    found = request.repository(kind, name, write=True)
    found.refs.setdefault(revision, found.refs["main"])
    return answered({})


@route("POST", FILES + r"\.git/info/lfs/objects/batch")
def batch(request: Handler, kind: str | None, name: str) -> Reply:
    request.repository(kind, name)
    objects = []
    for wanted in json.loads(request.body)["objects"]:
        upload = {"href": f"{request.hub.url}/lfs/{wanted['oid']}"}
        there = wanted["oid"] in request.hub.large
        objects.append(wanted if there else wanted | {"actions": {"upload": upload}})
    return answered({"transfer": "basic", "objects": objects})


@route("GET", REPO + "/xet-write-token/(.+)")
def xet_token(request: Handler, kind: str, name: str, revision: str) -> Reply:
    request.repository(kind, name, write=True)
    if request.hub.xet_token is None:
        raise HubError(404)
    return answered(request.hub.xet_token)


@route("PUT", "/lfs/(.+)")
def put(request: Handler, oid: str) -> Reply:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise HubError(400, message="the content does not match its checksum")
    request.hub.large[oid] = request.body
    return 200, b""


@route("GET HEAD", FILES + "/resolve/([^/]+(?:/pr/[0-9]+)?)/(.+)")
def resolve(request: Handler, kind: str | None, name: str, revision: str, path: str) -> Reply:
    found = request.repository(kind, name)
    entry = found.files(revision).get(path)
    if entry is None:
        raise HubError(404, "EntryNotFound", f"{path} does not exist")
    headers = {
        "ETag": f'"{entry.sha256 or entry.oid}"',
        "X-Repo-Commit": found.commit_of(revision),
        "Accept-Ranges": "bytes",
    }
    content = request.hub.content(entry)
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
    if wanted is None:
        return 200, content, headers
    first, last = int(wanted[1]), min(int(wanted[2] or entry.size), entry.size - 1)
    if first > last:
        raise HubError(416)
    headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
    return 206, content[first : last + 1], headers


def address(request: Handler, kind: str, name: str) -> str:
    """Where a repository is looked at."""
    return f"{request.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
