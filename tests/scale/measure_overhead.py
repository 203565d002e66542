"""Measures a run of small back-ends, whose work costs nearly nothing, so that what is left is our own code.

`python -m tests.scale.measure_overhead --sources 100 10000` runs each number of sources in its own process,
each source with one counterfactual, and prints JSON: the milliseconds a source, those of them that make the
images of the data set (CPU time: they may be made in threads), and the peak memory in MB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from tests import backends
from tests.backends import Gate, Model, Noise, run_pipeline


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sources", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--here", action="store_true", help="in this process, for a profiler")
    arguments = parser.parse_args()
    for count in arguments.sources:
        if arguments.here:
            print(json.dumps(measure(count)), flush=True)
            continue
        command = [sys.executable, "-m", "tests.scale.measure_overhead", "--here", "--sources", str(count)]
        subprocess.run(command, check=True)


def measure(count: int) -> dict[str, float]:
    """Returns the figures of a run of `count` sources."""
    made: list[float] = []
    make_image = backends.noise_image

    def timed(seed: int, classes: int = 256) -> bytes:
        start = time.thread_time()
        image = make_image(seed, classes)
        made.append(time.thread_time() - start)
        return image

    with mock.patch.object(backends, "noise_image", timed), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_pipeline(
            Path(folder) / "run",
            Path(folder) / "store",
            dataset=Noise(count),
            models=[Model(batch_size=8)],  # as the options of small models have
            gates=[Gate()],
            counterfactuals=1,
        )
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "sources": count,
        "seconds": round(seconds, 1),
        "milliseconds a source": round(1000 * seconds / count, 2),
        "of them for the images of the data set": round(1000 * sum(made) / count, 2),
        "peak memory, MB": round(peak),
    }


if __name__ == "__main__":
    main()
