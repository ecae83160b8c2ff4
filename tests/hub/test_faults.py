import threading
import time

import pytest
from huggingface_hub import HfApi

from ftp_hf.hub import HubError, history, push_run, rollback
from tests.support.hub.faults import answer, break_upload, delay, drop, first, lose_answer
from tests.support.hub.runs import PUSHED, TOKENS, hashes, pushed, titles

CREATE = ("POST", "/api/repos/create")
PREUPLOAD = ("POST", "/preupload/")
BATCH = ("POST", "/lfs/objects/batch")
UPLOAD = ("PUT", "/lfs/upload/")
VERIFY = ("POST", "/lfs/verify")
COMMIT = ("POST", "/commit/")
INFO = ("GET", "/revision/main")
REFS = ("GET", "/refs")
TAG = ("POST", "/tag/")
ALWAYS = 1000


def check_unharmed(hub, run, before):
    """After a push that failed: the run is as it was, nobody sees a part of it, and a second push completes it."""
    assert hashes(run) == before
    if "me/model" in hub.store.ids():
        assert pushed(hub).keys() in (set(), PUSHED), "all or nothing"
        assert len(titles(hub)) <= 1
    hub.faults.clear()
    assert push_run(run, "me/model").tag == "v1"
    assert pushed(hub) == {name: before[name] for name in PUSHED}
    assert len(titles(hub)) == 1
    assert hashes(run) == before


@pytest.mark.parametrize(
    ("request_", "action", "said"),
    [
        (CREATE, answer(401), "creating the repository failed: the Hub answers 401.*Log in with.*HF_TOKEN"),
        (
            CREATE,
            answer(403),
            "creating the repository failed: the Hub answers 403.*may not write there.*another token",
        ),
        (UPLOAD, answer(403), "uploading failed: the Hub answers 403"),
        (COMMIT, answer(401), "committing failed: the Hub answers 401"),
        (COMMIT, answer(403), "committing failed: the Hub answers 403"),
        (COMMIT, answer(404), "committing failed: the Hub answers 404.*deleted meanwhile"),
        (COMMIT, answer(409), "committing failed: the Hub answers 409.*Someone else.*try again"),
        (COMMIT, answer(412), "committing failed: the Hub answers 412.*Someone else.*try again"),
        (COMMIT, answer(413, "Payload Too Large"), "413, 'Payload Too Large'. Nothing was committed"),
        (TAG, answer(403), "tagging failed: the Hub answers 403"),
        (TAG, answer(409), "tagging failed: the Hub answers 409"),
        (CREATE, answer(429, Retry_After="7"), "answers 429.*try again in 7 s"),
        (BATCH, answer(429, Retry_After="7"), "uploading failed: the Hub answers 429.*try again in 7 s"),
        (COMMIT, answer(429, Retry_After="7"), "answers 429.*try again in 7 s"),
        (CREATE, answer(500), "creating the repository failed: the Hub answers 500.*Try again later"),
        (UPLOAD, break_upload(500), "uploading failed: .*Try again later: files that have arrived are not sent twice"),
        (UPLOAD, break_upload(), "uploading failed: the connection broke"),
        (UPLOAD, drop, "uploading failed: the connection broke"),
        (COMMIT, answer(503), "committing failed: the Hub answers 503"),
        (COMMIT, break_upload(), "committing failed: the connection broke"),
        (COMMIT, drop, "committing failed: the connection broke"),
        (REFS, drop, "tagging failed: the connection broke"),
    ],
)
@pytest.mark.usefixtures("waits")
def test_lasting_fault(hub, run, request_, action, said):
    before = hashes(run)
    hub.faults.add(*request_, action, times=ALWAYS)
    with pytest.raises(HubError, match=f"^me/model: .*{said}") as raised:
        push_run(run, "me/model")
    assert "\n" not in str(raised.value)
    assert TOKENS["writer"] not in str(raised.value)
    check_unharmed(hub, run, before)


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        (CREATE, answer(500)),
        (CREATE, lose_answer),
        (PREUPLOAD, answer(500)),
        (BATCH, drop),
        (UPLOAD, break_upload(500)),
        (UPLOAD, break_upload()),
        (UPLOAD, lose_answer),
        (VERIFY, answer(503)),
        (INFO, drop),
        (COMMIT, answer(409)),
        (COMMIT, answer(500)),
        (COMMIT, break_upload()),
        (COMMIT, lose_answer),
        (REFS, answer(502)),
        (TAG, answer(409)),
        (TAG, drop),
        (TAG, lose_answer),
    ],
)
@pytest.mark.usefixtures("waits")
def test_passing_fault(hub, run, request_, action):
    before = hashes(run)
    hub.faults.add(*request_, action)
    assert push_run(run, "me/model").tag == "v1"
    assert pushed(hub) == {name: before[name] for name in PUSHED}
    assert len(titles(hub)) == 1, "also if the client could not know that it had committed"
    assert hub.store.get("me/model").refs("tags").keys() == {"v1"}


@pytest.mark.parametrize("request_", [CREATE, PREUPLOAD, UPLOAD, COMMIT, TAG])
def test_too_many_requests_wait_as_the_server_says(hub, run, waits, request_):
    hub.faults.add(*request_, answer(429, Retry_After="7"))
    assert push_run(run, "me/model").tag == "v1"
    assert len(waits) == 1
    assert waits[0] in (7, 8), "huggingface_hub waits a second more"


def test_too_many_requests_for_hours(hub, run, waits):
    hub.faults.add(*COMMIT, answer(429, Retry_After="7200"))
    with pytest.raises(HubError, match=r"429.*try again in 7200 s"):
        push_run(run, "me/model")
    assert not waits


@pytest.mark.usefixtures("waits")
def test_repository_deleted_between_save_and_push(hub, run):
    before = hashes(run)
    push_run(run, "me/model")
    hub.faults.add(*COMMIT, first(lambda: HfApi().delete_repo("me/model")))
    (run / "config.json").write_text("{}")
    after = hashes(run)
    with pytest.raises(HubError, match=r"me/model.*404.*deleted meanwhile"):
        push_run(run, "me/model")
    (run / "config.json").write_text('{"seed": 0}')
    assert hashes(run) == before != after
    check_unharmed(hub, run, before)


def test_slow_server(hub, run):
    hub.faults.add("POST", "/", delay(0.05), times=4)
    hub.faults.add(*UPLOAD, delay(0.1))
    assert push_run(run, "me/model", timeout=5).tag == "v1"


@pytest.mark.parametrize("request_", [CREATE, INFO, UPLOAD, COMMIT])
@pytest.mark.usefixtures("waits")
@pytest.mark.slow
def test_server_that_does_not_answer(hub, run, request_):
    before = hashes(run)
    silence = threading.Event()
    hub.faults.add(*request_, first(lambda: silence.wait(30)), times=ALWAYS)
    start = time.monotonic()
    with pytest.raises(HubError, match=r"me/model: .*no answer in time.*Try again later"):
        push_run(run, "me/model", timeout=0.3)
    assert time.monotonic() - start < 15
    silence.set()
    check_unharmed(hub, run, before)


@pytest.mark.usefixtures("waits")
def test_no_server(hub, run):
    before = hashes(run)
    hub.server_close()
    with pytest.raises(HubError, match="me/model: creating the repository failed: the connection broke"):
        push_run(run, "me/model")
    assert hashes(run) == before


@pytest.mark.usefixtures("hub")
def test_offline(run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set. Unset it"):
        push_run(run, "me/model")


@pytest.mark.parametrize(
    ("token", "repo", "said"),
    [
        ("unknown", "me/model", "401.*Invalid credentials.*HF_TOKEN"),
        ("reader", "me/model", "403.*rights to write.*may not write there"),
        ("writer", "you/model", "403.*namespace you"),
        (None, "me/model", "401.*missing"),
    ],
)
def test_tokens(hub, run, monkeypatch, token, repo, said):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=f"{repo}: creating the repository failed: .*{said}"):
        push_run(run, repo, token=TOKENS.get(token))
    assert not hub.store.ids()


@pytest.mark.usefixtures("hub")
def test_name_that_cannot_be(run):
    with pytest.raises(HubError, match="a//b: creating the repository failed: "):
        push_run(run, "a//b")


@pytest.mark.usefixtures("hub")
def test_metadata_that_the_hub_refuses(run):
    (run / "README.md").write_text("---\nlicense: mit\n")
    with pytest.raises(HubError, match=r"committing failed: Invalid metadata in README.md. - the metadata has no end"):
        push_run(run, "me/model")


@pytest.mark.usefixtures("waits")
def test_two_pushes_at_once_are_not_mixed(hub, run):
    hub.faults.add(
        *COMMIT, first(lambda: HfApi().upload_file(repo_id="me/model", path_in_repo="x", path_or_fileobj=b"x"))
    )
    push_run(run, "me/model")
    assert titles(hub) == ["Upload x with huggingface_hub", "Fine-tuned for 20 steps"]
    assert pushed(hub).keys() == PUSHED | {"x"}


@pytest.mark.usefixtures("waits")
def test_rollback_through_faults(hub, run):
    before = hashes(run)
    push_run(run, "me/model")
    (run / "config.json").write_text('{"seed": 7}')
    (run / "vocab.txt").write_text("new")
    push_run(run, "me/model")
    hub.faults.add(*COMMIT, drop, times=ALWAYS)
    with pytest.raises(HubError, match="rolling back failed: the connection broke"):
        rollback("me/model", "v1")
    assert "vocab.txt" in pushed(hub)
    hub.faults.clear()
    for request_ in (COMMIT, TAG, ("POST", "/paths-info/"), ("GET", "/resolve/")):
        hub.faults.add(*request_, lose_answer)
    assert rollback("me/model", "v1").tag == "v3"
    assert pushed(hub) == {name: before[name] for name in PUSHED}
    assert len(titles(hub)) == 3
    hub.faults.add("GET", "/commits/", drop)
    assert [version.tag for version in history("me/model")] == ["v1", "v2", "v3"]
