"""A Hub on loopback: the part of its HTTP protocol that `huggingface_hub` speaks to push and to load models."""

import base64
import json
import re
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub.faults import Faults
from tests.support.hub.store import ConflictError, NoSuchFileError, NoSuchRepositoryError, NoSuchRevisionError, Store

# The Hub stores these, and large files, with LFS.
LFS_SUFFIXES = {".bin", ".model", ".png", ".pt", ".safetensors"}
LFS_SIZE = 10_000_000

REPOSITORY = r"(?P<repo>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
PAGE = 100


class RefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, status, message, code=None):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}


class Hub(ThreadingHTTPServer):
    """
    A running Hub. `users` maps a token to the name of its user and whether it may write: `{"hf_x": ("me", True)}`.
    """

    daemon_threads = True

    def __init__(self, root, users):
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = Store(root)
        self.users = users
        self.faults = Faults()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage_url(self):
        """Where large files are: another host, which gets no token."""
        return f"http://localhost:{self.server_port}"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer takes 40 ms
    server: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_request("GET")

    def do_HEAD(self):
        self.handle_request("HEAD")

    def do_POST(self):
        self.handle_request("POST")

    def do_PUT(self):
        self.handle_request("PUT")

    def do_DELETE(self):
        self.handle_request("DELETE")

    def handle_request(self, method):
        self.loses_answer = False
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        action = self.server.faults.next(method, url.path)
        if action is not None and action(self):
            return
        self.body = self.read_body()
        try:
            self.route(method, url.path)
        except RefusedError as refused:
            self.send_error_json(refused.status, str(refused), refused.headers)
        except NoSuchRepositoryError:
            # As the Hub does, so that nobody learns which private repositories exist.
            status = 404 if self.user() else 401
            self.send_error_json(status, "Repository not found", {"X-Error-Code": "RepoNotFound"})
        except NoSuchRevisionError as error:
            self.send_error_json(404, f"Invalid rev id: {error}", {"X-Error-Code": "RevisionNotFound"})
        except NoSuchFileError as error:
            self.send_error_json(404, str(error), {"X-Error-Code": "EntryNotFound"})

    def route(self, method, path):
        for methods, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in methods:
                answer(self, **{name: unquote(value) for name, value in match.groupdict().items()})
                return
        raise RefusedError(404, f"no such route: {method} {path}")

    # The two ends of the connection.

    def read_body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, status, body=b"", headers=None):
        if self.loses_answer:
            self.hang_up()
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value, status=200, headers=None):
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send_error_json(self, status, message, headers=None):
        self.send_json({"error": message}, status, {"X-Error-Message": message, **(headers or {})})

    def hang_up(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)

    # Who asks, and what they may do.

    def user(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.users:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return self.server.users.get(token)

    def readable(self, repo):
        user = self.user()
        repository = self.server.store.get(repo)
        if repository.private and (user is None or user[0] != repo.split("/")[0]):
            raise NoSuchRepositoryError(repo)
        return repository

    def check_writer(self, namespace):
        user = self.user()
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        if user[0] != namespace or not user[1]:
            raise RefusedError(403, f"You don't have the rights to write in the namespace {namespace}")

    def writable(self, repo):
        repository = self.readable(repo)
        self.check_writer(repo.split("/")[0])
        return repository

    # Accounts and repositories.

    def whoami(self):
        user = self.user()
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        self.send_json({"type": "user", "name": user[0], "orgs": [], "auth": {"type": "access_token"}})

    def create_repository(self):
        asked = json.loads(self.body)
        user = self.user()
        namespace = asked.get("organization") or (user and user[0])
        self.check_writer(namespace)
        repo = f"{namespace}/{asked['name']}"
        url = {"url": f"{self.server.url}/{repo}", "name": repo}
        try:
            self.server.store.create(repo, asked.get("visibility") == "private" or asked.get("private") is True)
        except ConflictError:
            self.send_json({"error": "You already created this model repo", **url}, 409)
        else:
            self.send_json(url)

    def delete_repository(self):
        asked = json.loads(self.body)
        repo = f"{asked['organization']}/{asked['name']}"
        self.writable(repo)
        self.server.store.delete(repo)
        self.send_json({})

    def validate_card(self):
        content = json.loads(self.body)["content"]
        if not content.startswith("---\n"):
            self.send_json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        elif "\n---" not in content[4:]:
            error = "the metadata has no end"
            self.send_json({"error": error, "errors": [{"message": error}], "warnings": []}, 400)
        else:
            self.send_json({"errors": [], "warnings": []})

    # What a repository holds.

    def model_info(self, repo, revision="main"):
        repository = self.readable(repo)
        commit = repository.resolve(revision)
        info = {
            "id": repo,
            "sha": commit.id,
            "private": repository.private,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }
        if "README.md" in commit.files:
            card = self.server.store.objects.path(commit.files["README.md"].key).read_text()
            if match := re.search(r"^pipeline_tag: *(.+)$", card, re.MULTILINE):
                info["pipeline_tag"] = match[1]
        self.send_json(info)

    def refs(self, repo):
        repository = self.readable(repo)
        branches, tags = (
            [{"name": name, "ref": f"refs/{ref}/{name}", "targetCommit": commit} for name, commit in refs.items()]
            for ref, refs in (("heads", repository.refs("branches")), ("tags", repository.refs("tags")))
        )
        self.send_json({"branches": branches, "tags": tags, "converts": []})

    def commits(self, repo, revision):
        listed = [
            {"id": commit.id, "title": commit.title, "message": commit.message, "date": commit.date, "authors": []}
            for commit in self.readable(repo).history(revision)
        ]
        page = int(self.query.get("p", 0))
        more = len(listed) > (page + 1) * PAGE
        link = f'<{self.server.url}{urlsplit(self.path).path}?p={page + 1}>; rel="next"'
        self.send_json(listed[page * PAGE : (page + 1) * PAGE], headers={"Link": link} if more else None)

    def tree(self, repo, revision, path=""):
        files = self.readable(repo).resolve(revision).files
        prefix = f"{path}/" if path else ""
        inside = {name: file for name, file in files.items() if name.startswith(prefix)}
        if path and not inside:
            raise NoSuchFileError(path)
        recursive = self.query.get("recursive", "").lower() == "true"
        depth = len(PurePosixPath(prefix).parts) + 1
        folders = {"/".join(PurePosixPath(name).parts[:depth]) for name in inside} - inside.keys()
        entries = [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]
        entries += [_entry(name, file) for name, file in inside.items() if recursive or name.count("/") < depth]
        self.send_json(entries)

    def paths_info(self, repo, revision):
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        files = self.readable(repo).resolve(revision).files
        self.send_json([_entry(path, files[path]) for path in paths if path in files])

    # Pushing: how each file is to come, the large ones, then the commit.

    def preupload(self, repo, revision):
        files = self.writable(repo).resolve(revision).files
        answers = []
        for asked in json.loads(self.body)["files"]:
            path = asked["path"]
            lfs = PurePosixPath(path).suffix in LFS_SUFFIXES or asked["size"] >= LFS_SIZE
            there = files[path].key if path in files else None
            answers.append(
                {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": there}
            )
        self.send_json({"files": answers})

    def lfs_batch(self, repo):
        self.writable(repo)
        asked = json.loads(self.body)
        objects = []
        for item in asked["objects"]:
            found = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.server.store.objects:
                found["actions"] = {
                    "upload": {"href": f"{self.server.url}/lfs/upload/{item['oid']}"},
                    "verify": {"href": f"{self.server.url}/lfs/verify"},
                }
            objects.append(found)
        self.send_json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid):
        # Signed addresses, which carry no token, in the real Hub.
        file = self.server.store.add(self.body, lfs=True)
        if file.sha256 != oid:
            raise RefusedError(400, f"the content has the hash {file.sha256} instead of {oid}")
        self.send(200)

    def lfs_verify(self):
        asked = json.loads(self.body)
        if self.server.store.lfs(asked["oid"]).size != asked["size"]:
            raise RefusedError(400, "the size differs")
        self.send_json({})

    def commit(self, repo, revision):
        repository = self.writable(repo)
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        changes = [self._change(line["key"], line["value"]) for line in lines if line["key"] != "header"]
        message = header.get("description", "")
        try:
            commit = repository.commit(revision, header["summary"], message, changes, header.get("parentCommit"))
        except ConflictError as conflict:
            raise RefusedError(412, f"A commit has happened since. Please refresh and try again: {conflict}") from None
        self.send_json({"commitUrl": f"{self.server.url}/{repo}/commit/{commit.id}", "commitOid": commit.id})

    def _change(self, kind, value):
        path = value["path"]
        if kind == "file":
            return path, self.server.store.add(base64.b64decode(value["content"]), lfs=False)
        if kind == "lfsFile":
            return path, self.server.store.lfs(value["oid"])
        return path.rstrip("/") + ("/" if kind == "deletedFolder" else ""), None

    def add_branch(self, repo, name):
        self._add_ref(repo, "branches", name, json.loads(self.body or b"{}").get("startingPoint", "main"))

    def add_tag(self, repo, revision):
        self._add_ref(repo, "tags", json.loads(self.body)["tag"], revision)

    def _add_ref(self, repo, kind, name, revision):
        try:
            self.writable(repo).add_ref(kind, name, revision)
        except ConflictError as conflict:
            raise RefusedError(409, str(conflict)) from None
        self.send_json({})

    def delete_branch(self, repo, name):
        self.writable(repo).delete_ref("branches", name)
        self.send_json({})

    def delete_tag(self, repo, name):
        self.writable(repo).delete_ref("tags", name)
        self.send_json({})

    # Loading.

    def resolve(self, repo, revision, path):
        commit = self.readable(repo).resolve(revision)
        headers = {"X-Repo-Commit": commit.id}
        if path not in commit.files:
            self.send_error_json(404, "Entry not found", {"X-Error-Code": "EntryNotFound", **headers})
            return
        file = commit.files[path]
        if file.sha256 is None:
            self._send_content(file.key, {"ETag": f'"{file.oid}"', **headers})
        else:
            linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            location = f"{self.server.storage_url}/lfs/content/{file.sha256}"
            self.send(302, headers={"Location": location, **linked, **headers})

    def lfs_content(self, oid):
        if "Authorization" in self.headers:
            raise RefusedError(400, "the token was sent to another host than the Hub")
        self._send_content(oid, {"ETag": f'"{oid}"'})

    def _send_content(self, key, headers):
        content = self.server.store.objects.path(key).read_bytes()
        headers = {"Accept-Ranges": "bytes", **headers}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self.send(200, content, headers)
            return
        start, end = int(match[1]), min(int(match[2] or len(content) - 1), len(content) - 1)
        if start > end:
            self.send(416, headers={"Content-Range": f"bytes */{len(content)}", **headers})
            return
        self.send(206, content[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(content)}", **headers})


def _entry(path, file):
    entry = {"type": "file", "path": path, "oid": file.oid, "size": file.size}
    if file.sha256 is not None:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry


API = f"/api/models/{REPOSITORY}"
ROUTES = [
    ({"GET"}, "/api/whoami-v2", Handler.whoami),
    ({"POST"}, "/api/repos/create", Handler.create_repository),
    ({"DELETE"}, "/api/repos/delete", Handler.delete_repository),
    ({"POST"}, "/api/validate-yaml", Handler.validate_card),
    ({"GET"}, API, Handler.model_info),
    ({"GET"}, f"{API}/revision/{REVISION}", Handler.model_info),
    ({"GET"}, f"{API}/refs", Handler.refs),
    ({"GET"}, f"{API}/commits/{REVISION}", Handler.commits),
    ({"GET"}, f"{API}/tree/{REVISION}", Handler.tree),
    ({"GET"}, f"{API}/tree/{REVISION}/(?P<path>.+)", Handler.tree),
    ({"POST"}, f"{API}/paths-info/{REVISION}", Handler.paths_info),
    ({"POST"}, f"{API}/preupload/{REVISION}", Handler.preupload),
    ({"POST"}, f"/{REPOSITORY}\\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ({"PUT"}, "/lfs/upload/(?P<oid>[0-9a-f]{64})", Handler.lfs_upload),
    ({"POST"}, "/lfs/verify", Handler.lfs_verify),
    ({"POST"}, f"{API}/commit/{REVISION}", Handler.commit),
    ({"POST"}, f"{API}/branch/(?P<name>[^/]+)", Handler.add_branch),
    ({"DELETE"}, f"{API}/branch/(?P<name>[^/]+)", Handler.delete_branch),
    ({"POST"}, f"{API}/tag/{REVISION}", Handler.add_tag),
    ({"DELETE"}, f"{API}/tag/(?P<name>[^/]+)", Handler.delete_tag),
    ({"GET", "HEAD"}, f"/{REPOSITORY}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
    ({"GET", "HEAD"}, "/lfs/content/(?P<oid>[0-9a-f]{64})", Handler.lfs_content),
]
