"""What the server of a review gives to whom."""

import http.client
import json
import stat

import pytest

from dillema.errors import UserError
from dillema.review.answers import AnswerStore
from dillema.review.items import Review
from dillema.review.server import serve
from tests.review.raters import get, port_of, served

ANSWER = {
    "rater": "anna",
    "item": 3,
    "real": 4,
    "label": "yes",
    "edit": "cannot tell",
    "seconds": 1,
    "given": 5,
}


@pytest.fixture(scope="module")
def review(finished_run):
    return Review.open(finished_run, 20, 0.2, 0)


@pytest.fixture(scope="module")
def address(review):
    with served(review.folder.path, 20) as address:
        yield address


def send(address, content, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return get(address + "answer", body=body, **headers)


def test_only_the_right_token_and_host_open_the_page(address):
    root = address.rsplit("/", 2)[0]
    assert get(address)[0] == 200 and get(address.replace("127.0.0.1", "localhost"))[0] == 200
    for wrong in ("/", "/x/", "/x/state?rater=anna", "//state", f"/{'x' * 32}/", "/%00/"):
        assert get(root + wrong)[0] == 404, wrong
    assert get(address, Host="evil.example")[0] == 400  # a name that somebody points to this machine
    assert get(address, Host=f"evil.example:{port_of(address)}")[0] == 400


def test_images_are_given_by_number_alone(address, review):
    status, headers, content = get(address + "image/0/shown")
    assert status == 200 and content == review.shown_file(0).read_bytes()
    assert (
        headers["Content-Type"] == "image/png"
        and headers["Last-Modified"] is None
        and headers["ETag"] is None
    )
    assert get(address + "image/0/original")[2] == review.original_file(0).read_bytes()
    connection = http.client.HTTPConnection("127.0.0.1", port_of(address))
    token = address.split("/")[3]
    for path in (
        "image/20/shown",
        "image/-1/shown",
        "image/0/../../results.json",
        "image/%2e%2e/results.json",
        "image/0/..%2f..%2fresults.json",
        "image/0/mask",
        "results.json",
        "../results.json",
        "label/99",
    ):
        connection.request("GET", f"/{token}/{path}")  # as it is: urllib would tidy it up
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 404, path


def test_replies_tell_no_other_page_and_no_cache(address):
    headers = get(address)[1]
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "Access-Control-Allow-Origin" not in headers
    policy = get(address)[2].decode().split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert "unsafe" not in policy and "default-src &#39;none&#39;" in policy


def test_a_wrong_answer_is_refused_in_words_and_stored_nowhere(address, review):
    for change, message in (
        ({"item": 20}, "there is no item 20"),
        ({"item": -1}, "there is no item -1"),
        ({"item": None}, "cannot be read"),
        ({"real": 6}, "from 1 to 5"),
        ({"label": "maybe"}, "one of: yes, no, cannot tell"),
        ({"rater": "=cmd()"}, "name of a rater"),
        ({"rater": "a" * 41}, "name of a rater"),
        ({"rater": "a\nb"}, "name of a rater"),
        ({"seconds": "inf", "given": 1e400}, "cannot be read"),
    ):
        status, _, text = send(address, ANSWER | {"rater": "bob"} | change)
        assert status == 400 and message in text.decode(), (change, text)
    for content in (b"", b"[]", b"{}", b"\xff", b"x" * 100_000, b'{"rater": "bob"}'):
        assert send(address, content)[0] == 400
    assert AnswerStore.of(review).all("bob") == []
    assert get(address + "answer")[0] == 405


def test_a_saved_answer_is_on_the_disk_and_the_newest_counts(address, review):
    assert send(address, ANSWER)[0] == 200
    assert send(address, ANSWER | {"real": 1, "given": 7})[0] == 200
    assert send(address, ANSWER | {"real": 5, "given": 6})[0] == 200  # an older one that comes late
    (stored,) = AnswerStore.of(review).all("anna")
    assert (stored.item, stored.real, stored.edit, stored.given) == (3, 1, "cannot tell", 7)
    assert [row["real"] for row in json.loads(get(address + "state?rater=anna")[2])] == [1]
    assert json.loads(get(address + "state?rater=ann")[2]) == json.loads(get(address + "state")[2]) == []


def test_the_token_is_for_this_user_and_a_taken_port_is_named(address, review):
    token = review.path / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and token.read_text() in address
    with pytest.raises(UserError, match=f"port {port_of(address)} cannot be used .*job.port="):
        serve(review, port_of(address), lambda address: None)
