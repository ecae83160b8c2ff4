"""What a Hub keeps: repositories, their commits, refs and files, on disk. Nothing here knows of HTTP."""

import hashlib
import json
import re
import shutil
import threading
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone

COMMIT_ID = re.compile(r"[0-9a-f]{40}")


class NoSuchRepositoryError(LookupError):
    """No repository has this name."""


class NoSuchRevisionError(LookupError):
    """No branch, tag or commit of the repository has this name."""


class NoSuchFileError(LookupError):
    """The commit holds no such file, or the content was never uploaded."""


class ConflictError(ValueError):
    """Something of that name exists, or the branch has moved on."""


@dataclass(frozen=True)
class File:
    """`oid` names the content as git does; `sha256` is set for the files that git only points to (LFS)."""

    size: int
    oid: str
    sha256: str | None = None

    @property
    def key(self):
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    title: str
    message: str
    date: str
    files: dict = field(default_factory=dict)


class Objects:
    """Contents by their hash: each is there as a whole or not at all."""

    def __init__(self, root):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key):
        return self.path(key).is_file()

    def path(self, key):
        return self.root / key

    def add(self, key, content):
        part = self.root / f"{uuid.uuid4().hex}.part"
        part.write_bytes(content)
        part.replace(self.path(key))


class Repository:
    """Branches and tags are files that hold a commit's id; a commit shows once its branch is replaced."""

    def __init__(self, folder, objects):
        self.folder = folder
        self.objects = objects
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder, objects, private):
        for name in ("commits", "branches", "tags"):
            (folder / name).mkdir(parents=True)
        (folder / "repository.json").write_text(json.dumps({"private": private}))
        repository = cls(folder, objects)
        attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
        file = File(len(attributes), git_oid(attributes))
        objects.add(file.key, attributes)
        first = repository._write_commit(None, "initial commit", "", {".gitattributes": file})
        (folder / "branches" / "main").write_text(first.id)
        return repository

    @property
    def private(self):
        return json.loads((self.folder / "repository.json").read_text())["private"]

    def refs(self, kind):
        """The `branches` or `tags`: names and commits."""
        return {path.name.replace("%2F", "/"): path.read_text() for path in sorted((self.folder / kind).iterdir())}

    def add_ref(self, kind, name, revision):
        path = self._ref(kind, name)
        if path.exists():
            raise ConflictError(f"{name} already exists")
        path.write_text(self.resolve(revision).id)

    def delete_ref(self, kind, name):
        if not self._ref(kind, name).exists():
            raise NoSuchRevisionError(name)
        self._ref(kind, name).unlink()

    def resolve(self, revision):
        """The commit of a branch, a tag or a commit's id."""
        for kind in ("branches", "tags"):
            if self._ref(kind, revision).is_file():
                return self._read_commit(self._ref(kind, revision).read_text())
        if COMMIT_ID.fullmatch(revision) and (self.folder / "commits" / revision).is_file():
            return self._read_commit(revision)
        raise NoSuchRevisionError(revision)

    def history(self, revision):
        """The commits up to a revision, the newest first."""
        commit = self.resolve(revision)
        while True:
            yield commit
            if commit.parent is None:
                return
            commit = self._read_commit(commit.parent)

    def file(self, revision, path):
        files = self.resolve(revision).files
        if path not in files:
            raise NoSuchFileError(path)
        return files[path]

    def commit(self, branch, title, message, changes, parent=None):
        """
        Apply `changes` to a branch, all or none: each is a path with its new `File`, or with `None` to delete it (a
        folder if the path ends with a slash).
        """
        with self._lock:
            if branch not in self.refs("branches"):
                raise NoSuchRevisionError(branch)
            head = self.resolve(branch)
            if parent is not None and parent != head.id:
                raise ConflictError(f"{branch} is at {head.id}, not at {parent}")
            files = dict(head.files)
            for path, file in changes:
                if file is not None:
                    if file.key not in self.objects:
                        raise NoSuchFileError(f"{path}: its content was not uploaded")
                    files[path] = file
                    continue
                gone = [name for name in files if name == path or (path.endswith("/") and name.startswith(path))]
                if not gone:
                    raise NoSuchFileError(f"A file with this name doesn't exist: {path}")
                for name in gone:
                    del files[name]
            commit = self._write_commit(head.id, title, message, files)
            part = self.folder / "branch.part"
            part.write_text(commit.id)
            part.replace(self._ref("branches", branch))
            return commit

    def _ref(self, kind, name):
        return self.folder / kind / name.replace("/", "%2F")

    def _write_commit(self, parent, title, message, files):
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        commit = Commit(uuid.uuid4().hex + "00000000", parent, title, message, date, files)
        (self.folder / "commits" / commit.id).write_text(json.dumps(asdict(commit)))
        return commit

    def _read_commit(self, commit_id):
        fields = json.loads((self.folder / "commits" / commit_id).read_text())
        files = {path: File(**file) for path, file in fields.pop("files").items()}
        return Commit(**fields, files=files)


class Store:
    """All repositories of a Hub, each in a namespace."""

    def __init__(self, root):
        self.root = root
        self.objects = Objects(root / "objects")
        self._open = {}

    def create(self, repo_id, private):
        folder = self.root / "repositories" / repo_id
        if folder.exists():
            raise ConflictError(f"{repo_id} already exists")
        self._open[repo_id] = Repository.create(folder, self.objects, private)

    def delete(self, repo_id):
        shutil.rmtree(self.get(repo_id).folder)
        del self._open[repo_id]

    def ids(self):
        return set(self._open)

    def get(self, repo_id):
        if repo_id not in self._open:
            raise NoSuchRepositoryError(repo_id)
        return self._open[repo_id]

    def add(self, content, *, lfs):
        """Keep a content; the `File` that stands for it."""
        sha256 = hashlib.sha256(content).hexdigest()
        file = lfs_file(sha256, len(content)) if lfs else File(len(content), git_oid(content))
        self.objects.add(file.key, content)
        return file

    def lfs(self, sha256):
        """The `File` of a content that was uploaded before."""
        if sha256 not in self.objects:
            raise NoSuchFileError(sha256)
        return lfs_file(sha256, self.objects.path(sha256).stat().st_size)


def lfs_file(sha256, size):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return File(size, git_oid(pointer.encode()), sha256)


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
