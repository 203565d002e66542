"""execution=ray on real clusters: worker processes and nodes of this machine."""

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from dillema.errors import ItemError, UserError
from dillema.execution.ray import Pool, Ray
from dillema.fields import Transient
from tests.backends import Backend, Captioner, Generator, Model, Noise, run_pipeline
from tests.test_pipeline import left_behind

POOLS = {
    "source": Pool(cpus=0.5),
    "caption": Pool(cpus=0.5),
    "keywords": Pool(cpus=0.5),
    "control": Pool(cpus=0.5),
    "generate": Pool(workers=3, cpus=1),
    "gate": Pool(cpus=0.5),
    "predict": Pool(cpus=0.5),
}


@pytest.fixture(scope="module", autouse=True)
def usual_priority():
    """Lets Ray's workers start in time on a busy machine; by default they run at a low priority."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture
def cluster():
    """Starts a cluster of three nodes; two of them have room for a generator only."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@dataclass
class Noted(Generator):
    """Writes a line with its process, its node and the text of each item, and takes some time for it.

    Once there are some lines, it waits until the file `go` exists.
    """

    go: Transient[str] = ""

    def generate(self, samples, counterfactuals, controls, seeds):
        for counterfactual in counterfactuals if self.diary else ():
            with Path(self.diary).open("a") as file:
                file.write(f"{os.getpid()} {ray.get_runtime_context().get_node_id()} {counterfactual.text}\n")
            while len(read_diary(Path(self.diary))) >= 8 and not Path(self.go).exists():
                time.sleep(0.1)
            time.sleep(self.pause)
        return [self._paint(*item) for item in zip(samples, counterfactuals, controls, seeds, strict=True)]


def read_diary(path):
    return [line.split(" ", 2) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_processes(path, count):
    """Returns the lines of the diary once they are of this many processes."""
    start = time.monotonic()
    while len({line[0] for line in read_diary(path)}) < count:
        assert time.monotonic() - start < 600
        time.sleep(0.1)
    return read_diary(path)


def run_on(executor, folder, **parts):
    parts = {
        "dataset": Noise(count=13, damaged=4),
        "placebos": 1,
        "captioner": Captioner(fails="scene-7"),
    } | parts
    return run_pipeline(folder / "run", folder / "store", executor=executor, **parts)[0]


@pytest.mark.slow
def test_three_nodes_make_the_run_of_one_process_and_replace_lost_workers_and_nodes(
    tmp_path, cluster, monkeypatch
):
    # without the lost node the cluster is too small: the gate starts when a generator has ended for it
    monkeypatch.setattr("dillema.execution.ray.SECONDS_BETWEEN_REMINDERS", 20)
    local = run_on(None, tmp_path / "local", generator=Noted())
    diary = tmp_path / "diary"
    go = tmp_path / "go"
    generator = Noted(diary=str(diary), pause=0.3, batch_size=2, go=str(go))
    executor = Ray(POOLS, address=cluster.address, blocks=3, block_size=3)
    result = {}
    thread = threading.Thread(
        target=lambda: result.update(folder=run_on(executor, tmp_path / "ray", generator=generator))
    )
    thread.start()
    os.kill(int(wait_for_processes(diary, 3)[0][0]), signal.SIGKILL)
    lines = wait_for_processes(diary, 4)  # another worker has taken the place of the lost one
    node = next(node for node in cluster.worker_nodes if node.node_id in {line[1] for line in lines})
    cluster.remove_node(node, allow_graceful=False)
    go.touch()
    thread.join(600)
    (files, results), (expected_files, expected_results) = left_behind(result["folder"]), left_behind(local)
    assert results == expected_results and files == expected_files
    lines = read_diary(diary)
    repeated = sum(count - 1 for count in Counter(line[2] for line in lines).values())
    # of each worker that was lost or made room, at most the two batches that it had
    assert repeated <= 3 * 2 * generator.batch_size


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    yield Ray(POOLS, blocks=2, block_size=2)
    ray.shutdown()


@pytest.mark.slow
def test_models_under_test_give_the_predictions_of_one_process(tmp_path, here):
    local, remote = (
        run_on(executor, tmp_path / name, models=[Model()]) for name, executor in (("a", None), ("b", here))
    )
    assert left_behind(remote) == left_behind(local)


@dataclass
class Doubler(Backend):
    def load(self):
        if self.fails == "load":
            raise UserError("no weights")


@dataclass
class Doubling:
    """A step, as far as an executor knows it."""

    backend: Doubler
    name: str = "generate"

    def work(self, backend, batch):
        if 13 in batch:
            raise ItemError("13 is refused", raw="13!")
        if 14 in batch:
            raise Stubborn("a", "b")
        if 15 in batch:
            os._exit(1)
        return [2 * number for number in batch]


class Stubborn(Exception):
    """Cannot be unpickled, as some libraries' exceptions."""

    def __init__(self, first, second):
        super().__init__("cannot")


@pytest.mark.slow
def test_bad_items_cost_no_others_and_what_is_nobodys_item_is_raised(here):
    first, second = here.map(Doubling(Doubler()), [[1, 13, 3], [14]])
    assert first[0] == 2 and first[2] == 6 and isinstance(first[1], ItemError) and first[1].raw == "13!"
    assert str(second[0]) == "Stubborn: cannot"
    with pytest.raises(UserError, match=r"^no weights$"):
        list(here.map(Doubling(Doubler(fails="load")), [[1]]))


@pytest.mark.slow
def test_a_batch_that_ends_every_worker_ends_the_run_with_its_size(here):
    with pytest.raises(UserError, match="4 workers were lost over the same batch of 2 items"):
        list(here.map(Doubling(Doubler()), [[15, 16]]))
