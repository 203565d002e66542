"""A headless Chromium, by its debugging pipe: no driver is needed.

See https://chromedevtools.github.io/devtools-protocol.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking "
    "--disable-sync --no-first-run --hide-scrollbars"
)

# returns the texts whose contrast with what is behind them is below 4.5, as WCAG 2 defines it
FAINT = """(() => {
  const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    brush.clearRect(0, 0, 1, 1); brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const c = rgba(getComputedStyle(node).backgroundColor);
      if (c[3] === 255) return c;
    }
    return rgba(getComputedStyle(document.documentElement).getPropertyValue("--page")); };
  const faint = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node), ink = node.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(rgba(ink)), light(behind(node))].sort((x, y) => y - x);
    seen += 1;
    if ((a + .05) / (b + .05) < 4.5) faint.push([texts.currentNode.data.trim(), ink, (a + .05) / (b + .05)]);
  }
  return {seen, faint};
})()"""


class Tab:
    """A page in a browser.

    `complaints` are its errors and warnings, `requests` what it asked for, `received` what came whole.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._read, self._count, self._session = (
            commands,
            answers,
            b"",
            0,
            None,
        )
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.received: list[str] = []
        self._urls_by_request: dict[str, str] = {}
        self.loaded = False
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Returns the answer to a command; takes note of what happens until it comes."""
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": params} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(
        self,
        page: Path | str,
        width: int = 1280,
        height: int = 900,
        media: str = "screen",
        scheme: str = "light",
    ) -> "Tab":
        """Opens a file or an address, in a window so large, on such a medium; waits until it is loaded."""
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.do(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.complaints, self.requests, self.received, self.loaded = [], [], [], False
        self.do("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while not self.loaded:
            self._next()
        return self

    def ask(self, expression: str) -> Any:
        """Returns the value of an expression in the page, once it is there if it is a promise."""
        result = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Presses and releases a key, such as "a", "Enter" or "ArrowLeft"."""
        named = {"Enter": 13, "Escape": 27, "Backspace": 8, "ArrowLeft": 37, "ArrowRight": 39}
        code = named.get(key) or ord(key.upper())
        name = key if key in named else f"Digit{key}" if key.isdigit() else f"Key{key.upper()}"
        text = {"text": "\r"} if key == "Enter" else {} if key in named else {"text": key}
        self.do(
            "Input.dispatchKeyEvent", type="keyDown", key=key, code=name, windowsVirtualKeyCode=code, **text
        )
        self.do("Input.dispatchKeyEvent", type="keyUp", key=key, code=name, windowsVirtualKeyCode=code)

    def picture(self, path: Path, height: int | None = None) -> None:
        """Saves what the page looks like."""
        clip = (
            {
                "clip": {"x": 0, "y": 0, "width": self.ask("innerWidth"), "height": height, "scale": 1},
                "captureBeyondViewport": True,
            }
            if height
            else {}
        )
        path.write_bytes(base64.b64decode(self.do("Page.captureScreenshot", **clip)["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            more = os.read(self._answers, 1 << 16)
            assert more, "the browser is gone"
            self._read += more
        line, _, self._read = self._read.partition(b"\0")
        message = json.loads(line)
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(str(params["entry"]))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
                self._urls_by_request[params["requestId"]] = params["request"]["url"]
            case "Network.loadingFinished":
                self.received.append(self._urls_by_request[params["requestId"]])
        return message


@contextmanager
def chromium() -> Iterator[Tab]:
    """Gives a tab of a fresh browser."""
    (to_read, commands), (answers, to_write) = os.pipe(), os.pipe()
    # the browser reads from 3 and writes to 4: these two must be neither while the shell moves them
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write)]
    os.close(to_read)
    os.close(to_write)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [BROWSER, *FLAGS.split(), "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "bash", *command],
            pass_fds=ends,
            stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)
        try:
            yield Tab(commands, answers)
        finally:
            process.terminate()
            process.wait()
            os.close(commands)
            os.close(answers)
