"""Runs as versions of a repository on the Hub: push one, list them, go back to an earlier one."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    GitCommitInfo,
    HfApi,
    get_session,
    get_token,
)
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.hf_api import ModelInfo

from ftp_hf.common.folder import RESULTS, TRAINER_STATE
from ftp_hf.common.privacy import secrets_of_environment
from ftp_hf.common.replaced import replaced
from ftp_hf.runs.figures import Figures, figures_of
from ftp_hf.runs.rules import Rule, check_summary, describe, parse_rules
from ftp_hf.runs.summary import RunSummary

from .errors import HubError, calling_hub
from .files import check_files, is_run_file, list_run_files

__all__ = ["Version", "history", "push_run", "rollback"]

Result = TypeVar("Result")

_MAIN = "main"
_VERSION = re.compile(r"v(\d+)")
_ROLLBACK = "Roll back to "
_TIMEOUT = 100.0


@dataclass(frozen=True)
class Version:
    """
    One pushed run.

    Args:
        tag (`str`): `v1`, `v2`, …
        repo_id (`str`): the repository.
        commit (`str`): the commit's id.
        title (`str`): the commit's first line, with the run's figures.
        date (`datetime`, *optional*): when it was committed. Only [`history`] asks for it.
        figures ([`Figures`], *optional*): of the model, from its `results.json`, if it has one. Likewise.
    """

    tag: str
    repo_id: str
    commit: str
    title: str
    date: datetime | None = None
    figures: Figures | None = None


def push_run(
    run_dir: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    rules: Sequence[str | Rule] | None = None,
    token: str | None = None,
    timeout: float = _TIMEOUT,
) -> Version:
    """
    Push a finished run: its model (of sentence-transformers with all of its modules), tokenizer or processor, card with
    pictures and `results.json`, in one commit whose title names the figures, and tag it as the next version. Checkpoints, optimizer states, logs and `training_args.bin`
    stay. Nothing of the run is changed; files of an earlier model that this one has no more are deleted from the
    repository, all others stay. Pushing the same run again, also after a failure, adds only what is missing.

    Args:
        run_dir (`str` or `Path`): the run's `output_dir`.
        repo_id (`str`): `"user/name"`; it is created if it does not exist.
        private (`bool`, *optional*): whether a new repository is private. Defaults to what the namespace says.
        revision (`str`, *optional*, defaults to `"main"`): the branch; it is created if it does not exist.
        rules (sequence of `str` or [`Rule`], *optional*): what the run's `results.json` has to meet, as
            [`~ftp_hf.runs.rules.parse_rules`] reads them; otherwise nothing is sent.
        token (`str`, *optional*): defaults to that of `HF_TOKEN`, or of `hf auth login`.
        timeout (`float`, *optional*, defaults to 100): seconds without a word from the server that break an attempt.

    Returns:
        `Version`

    Raises:
        ValueError: the folder holds no whole model, or a file with a secret or a path of this machine; or a rule is broken.
        FileNotFoundError: there are rules, but no `results.json`.
        HubError: the Hub refused, or could not be reached.
    """
    run = Path(run_dir)
    names = list_run_files(run)
    if rules is not None:
        _check_rules(run, parse_rules(rules))
    token = token or get_token()
    check_files(run, names, secrets_of_environment() | ({"the Hub token": token} if token else {}))
    title = _describe(run)
    with _Remote.connect(repo_id, revision, token, timeout) as remote:
        remote.create(private)
        commit = remote.commit_run(run, names, title)
        return Version(remote.tag(commit), remote.repo_id, commit, title)


def rollback(
    repo_id: str, to: str, *, revision: str | None = None, token: str | None = None, timeout: float = _TIMEOUT
) -> Version:
    """
    Restore the files of an earlier version in a new commit, and tag it as the next version. Nothing of the history is
    lost, so a rollback can be rolled back.

    Args:
        repo_id (`str`): `"user/name"`.
        to (`str`): a version (`"v1"`), or any other tag, branch or commit.
        revision (`str`, *optional*, defaults to `"main"`): the branch to restore the files in.
        token (`str`, *optional*): as for [`push_run`].
        timeout (`float`, *optional*, defaults to 100): as for [`push_run`].

    Returns:
        `Version`

    Raises:
        HubError: there is no such version, the Hub refused, or could not be reached.
    """
    with _Remote.connect(repo_id, revision, token or get_token(), timeout) as remote:
        versions = remote.versions()
        if _VERSION.fullmatch(to) and to not in versions:
            raise HubError(f"{repo_id} has no version {to}: its versions are {', '.join(versions) or 'none'}")
        restored = remote.commits(to)[0]
        title = f"{_ROLLBACK}{to}: {_without_rollback(restored.title)}"
        commit = remote.commit_earlier(restored.commit_id, title)
        return Version(remote.tag(commit), repo_id, commit, title)


def history(repo_id: str, *, token: str | None = None, timeout: float = _TIMEOUT) -> list[Version]:
    """
    The versions of a repository, the oldest first, with their figures.

    Args:
        repo_id (`str`): `"user/name"`.
        token (`str`, *optional*): as for [`push_run`].
        timeout (`float`, *optional*, defaults to 100): as for [`push_run`].

    Returns:
        `list[Version]`

    Raises:
        HubError: the Hub refused, or could not be reached.
    """
    with _Remote.connect(repo_id, None, token or get_token(), timeout) as remote:
        versions = remote.versions()
        commits = {commit.commit_id: commit for commit in remote.commits(_MAIN)} if versions else {}
        listed = []
        for tag, commit_id in versions.items():
            # A version of another branch is not among the commits of main.
            commit = commits.get(commit_id) or remote.commits(tag)[0]
            figures = remote.figures(commit.commit_id)
            listed.append(Version(tag, repo_id, commit.commit_id, commit.title, commit.created_at, figures))
        return listed


class _Remote:
    """A repository on the Hub. Each method can be called again after it failed, however far it had come."""

    def __init__(self, api: HfApi, repo_id: str, branch: str, timeout: float) -> None:
        self.api = api
        self.repo_id = repo_id
        self.branch = branch
        self.timeout = timeout

    @classmethod
    @contextmanager
    def connect(cls, repo_id: str, revision: str | None, token: str | None, timeout: float) -> Iterator["_Remote"]:
        with _waiting_at_most(timeout):
            yield cls(HfApi(token=token, library_name="ftp_hf"), repo_id, revision or _MAIN, timeout)

    def create(self, private: bool | None) -> None:
        url = self._call(
            "creating the repository", lambda: self.api.create_repo(self.repo_id, private=private, exist_ok=True)
        )
        self.repo_id = url.repo_id
        if private and not self._call("looking at it", lambda: self._info(_MAIN)).private:
            raise HubError(
                f"{self.repo_id} exists and is public: nothing was pushed. Make it private in its settings, or push to "
                "another name"
            )
        if self.branch != _MAIN:
            self._call(
                f"creating the branch {self.branch}",
                lambda: self.api.create_branch(self.repo_id, branch=self.branch, exist_ok=True),
            )

    def commit_run(self, run: Path, names: list[str], title: str) -> str:
        def commit() -> str:
            head = self._info(self.branch)
            additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(run / name)) for name in names]
            # huggingface_hub itself repeats what fails here.
            upload = partial(self.api.preupload_lfs_files, self.repo_id, additions, revision=self.branch)
            self._call("uploading", upload, retries=0)
            gone = [path for path in _files(head) if is_run_file(path) and path not in names]
            return self._commit([*additions, *map(CommitOperationDelete, gone)], title, head)

        return self._call("committing", commit)

    def commit_earlier(self, commit_id: str, title: str) -> str:
        def commit() -> str:
            head, earlier = self._info(self.branch), self._info(commit_id)
            copies = [CommitOperationCopy(path, path, src_revision=commit_id) for path in _files(earlier)]
            gone = [path for path in _files(head) if path not in _files(earlier)]
            return self._commit([*copies, *map(CommitOperationDelete, gone)], title, head)

        return self._call("rolling back", commit)

    def tag(self, commit: str) -> str:
        """The version that is this commit: a new one, unless it has one."""

        def tag() -> str:
            versions = self._list_versions()
            for name, target in reversed(versions.items()):
                if target == commit:
                    return name
            name = f"v{max(map(_number, versions), default=0) + 1}"
            self.api.create_tag(self.repo_id, tag=name, revision=commit)
            return name

        return self._call("tagging", tag)

    def versions(self) -> dict[str, str]:
        """The commits of the versions, by tag, in the order of their numbers."""
        return self._call("listing the versions", self._list_versions)

    def commits(self, revision: str) -> list[GitCommitInfo]:
        return self._call(
            f"listing the commits of {revision}",
            lambda: self.api.list_repo_commits(self.repo_id, revision=revision),
        )

    def figures(self, commit_id: str) -> Figures | None:
        """What the `results.json` of a commit says, if it is a summary of this version."""
        file = self._call("reading the figures", lambda: self._download(RESULTS, commit_id))
        try:
            summary = RunSummary.load(file) if file else None
        except ValueError:
            return None
        return figures_of(summary.results, str(summary.seed)) if summary else None

    def _download(self, name: str, commit_id: str) -> str | None:
        try:
            return self.api.hf_hub_download(self.repo_id, name, revision=commit_id)
        except RemoteEntryNotFoundError:
            return None

    def _call(self, doing: str, function: Callable[[], Result], **options: int) -> Result:
        return calling_hub(self.repo_id, doing, function, **options)

    def _info(self, revision: str) -> ModelInfo:
        return self.api.model_info(self.repo_id, revision=revision, timeout=self.timeout)

    def _commit(
        self,
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete],
        title: str,
        head: ModelInfo,
    ) -> str:
        # If somebody else committed since `head` was looked at, this is refused instead of mixing the two.
        committed = self.api.create_commit(
            self.repo_id, operations, commit_message=title, revision=self.branch, parent_commit=head.sha
        )
        return committed.oid

    def _list_versions(self) -> dict[str, str]:
        tags = self.api.list_repo_refs(self.repo_id).tags
        versions = [tag for tag in tags if _VERSION.fullmatch(tag.name)]
        return {tag.name: tag.target_commit for tag in sorted(versions, key=lambda tag: _number(tag.name))}


def _waiting_at_most(seconds: float) -> AbstractContextManager[None]:
    """
    huggingface_hub waits for an answer for ever, and most of its calls take no timeout: they go by that of the one session
    that the whole process shares (1.31 to 2.4). It has its own back afterwards; until then other threads are held to ours.
    """
    return replaced(get_session(), timeout=seconds)


def _files(info: ModelInfo) -> list[str]:
    return [sibling.rfilename for sibling in info.siblings or ()]


def _number(tag: str) -> int:
    return int(tag.removeprefix("v"))


def _without_rollback(title: str) -> str:
    return re.sub(rf"^{_ROLLBACK}[^:]*: ", "", title)


def _check_rules(run: Path, rules: Sequence[Rule]) -> None:
    broken = [describe(result) for result in check_summary(rules, RunSummary.load(run)) if not result.passed]
    if broken:
        raise ValueError(f"{run} breaks {'; '.join(broken)}: nothing was pushed")


def _describe(run: Path) -> str:
    """The run's figures, in a line."""
    try:
        figures = RunSummary.load(run).headline()
    except (FileNotFoundError, ValueError):
        figures = ""  # none was written, or by something else
    if figures:
        return " ".join(figures.split())
    state = run / TRAINER_STATE
    steps = json.loads(state.read_text())["global_step"] if state.is_file() else None
    return "Fine-tuned" if steps is None else f"Fine-tuned for {steps} steps"
