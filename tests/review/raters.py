"""A server of a review as a process, and raters at the keyboard of a browser."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

PROGRAM = """
import sys
from dillema.review.items import Review
from dillema.review.server import serve
from dillema.run_folder import RunFolder
folder, count, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
review = Review.open(RunFolder.open(folder), count, 0.2, 0)
serve(review, port, lambda address: print(address, flush=True))
"""
LABEL_KEYS = {"yes": "d", "no": "f", "cannot tell": "g"}
EDIT_KEYS = {"yes": "j", "no": "k", "cannot tell": "l"}
ANSWERS = ("yes", "no", "cannot tell")


def start(folder, count, port=0):
    """Starts a server; returns its process and the address."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(count), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:"), address
    return process, address


@contextmanager
def served(folder, count):
    process, address = start(folder, count)
    try:
        yield address
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def port_of(address):
    return int(address.split(":")[2].split("/")[0])


def answer_of(rater, item):
    """Returns the answer that a rater of the tests gives: it differs from item to item."""
    shift = len(rater)
    return 1 + (item + shift) % 5, ANSWERS[(item // 5 + shift) % 3], ANSWERS[(item + shift) % 3]


def begin(tab, address, rater):
    """Opens the page and starts as a rater, with the keyboard."""
    tab.open(address)
    wait_for(tab, "document.hasFocus() && document.activeElement.id === 'rater'")
    for letter in rater:
        tab.press(letter)
    assert tab.ask("document.activeElement.value") == rater
    tab.press("Enter")


def wait_for(tab, expression, seconds=30):
    end = time.monotonic() + seconds
    while not (value := tab.ask(expression)):
        assert time.monotonic() < end, f"{expression}: {tab.ask('document.body.innerText')[:600]}"
        time.sleep(0.005)
    return value


def wait_for_images(tab, address, items, seconds=30):
    """Waits until the page has both images of each item, and can show them without a server."""
    wanted = {f"{address}image/{item}/{side}" for item in items for side in ("original", "shown")}
    end = time.monotonic() + seconds
    while missing := wanted.difference(tab.received):
        assert time.monotonic() < end, f"not loaded: {missing}"
        tab.ask("0")
        time.sleep(0.005)


def judge(tab, rater, item):
    """Judges an item with three keys, once it is shown."""
    wait_for(tab, f"document.body.dataset.item === '{item}'")
    real, label, edit = answer_of(rater, item)
    for key in (str(real), LABEL_KEYS[label], EDIT_KEYS[edit]):
        tab.press(key)


def get(address, **headers):
    """Returns status, headers and content of a reply; sends a body if there is one in `headers`."""
    body = headers.pop("body", None)
    request = urllib.request.Request(address, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
