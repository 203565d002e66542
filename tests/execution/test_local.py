import gc
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx2
import pytest
import torch

from dillema.errors import ItemError, UserError
from dillema.execution.local import Local


@dataclass
class Doubler:
    factor: int = 2
    version: ClassVar[int] = 1

    def load(self):
        self.ready = True

    def double(self, numbers):
        assert self.ready
        if 13 in numbers:
            raise ItemError("13 is refused")
        return [self.factor * n for n in numbers]


@dataclass
class Doubling:
    """A step, as far as an executor knows it."""

    backend: Any
    name: str = "double"

    def work(self, backend, batch):
        return backend.double(batch)


def test_one_bad_item_costs_no_other():
    first, second = Local().map(Doubling(Doubler()), [[1, 13, 3], [4]])
    assert first[0] == 2 and first[2] == 6 and isinstance(first[1], ItemError)
    assert second == [8]


def test_what_is_nobodys_item_is_raised():
    class Raising(Doubling):
        def work(self, backend, batch):
            raise UserError("no weights")

    with pytest.raises(UserError, match="no weights"):
        list(Local().map(Raising(Doubler()), [[1, 2]]))


def test_a_full_disk_is_nobodys_item():
    class Raising(Doubling):
        def work(self, backend, batch):
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="make room"):
        list(Local().map(Raising(Doubler()), [[1, 2]]))


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), httpx2.ConnectError("refused")])
def test_a_lost_connection_is_nobodys_item(error):
    class Raising(Doubling):
        def work(self, backend, batch):
            raise error

    with pytest.raises(UserError, match=f"a connection is lost: {type(error).__name__}: {error}"):
        list(Local().map(Raising(Doubler()), [[1, 2]]))


def test_a_batch_that_does_not_fit_the_memory_is_halved_without_the_failed_one_alive(caplog):
    class Large:
        pass

    alive: list[weakref.ref] = []
    sizes = []

    class Limited(Doubling):
        def work(self, backend, batch):
            sizes.append(len(batch))
            assert not any(reference() for reference in alive)
            tensor = Large()
            alive.append(weakref.ref(tensor))
            if len(batch) > 2:
                raise MemoryError
            return super().work(backend, batch)

    assert list(Local().map(Limited(Doubler()), [[1, 2, 3, 4, 5]])) == [[2, 4, 6, 8, 10]]
    assert sizes == [5, 2, 3, 1, 2] and "trying 2" in caplog.text


def test_one_item_that_does_not_fit_the_memory_ends_the_run_with_what_helps():
    class Limited(Doubling):
        def work(self, backend, batch):
            raise MemoryError

    with pytest.raises(UserError, match=r"generator\.offload"):
        list(Local().map(Limited(Doubler()), [[1, 2]]))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: out of memory"), MemoryError()],
    ids=repr,
)
def test_a_model_that_does_not_fit_the_memory_ends_the_run_with_what_helps(error):
    @dataclass
    class Large(Doubler):
        def load(self):
            raise error

    with pytest.raises(UserError, match=r"memory does not suffice to load Large.*dtype"):
        list(Local().map(Doubling(Large()), [[1]]))


@pytest.mark.parametrize("message", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"])
def test_a_gpu_without_room_is_nobodys_item(message):
    class Limited(Doubling):
        def work(self, backend, batch):
            raise RuntimeError(message)

    with pytest.raises(UserError, match="single item"):
        list(Local().map(Limited(Doubler()), [[1, 2]]))


def test_steps_in_a_row_share_a_loaded_model_and_the_next_one_frees_it():
    executor, backend = Local(), Doubler()
    used = []

    class Remembering(Doubling):
        def work(self, loaded, batch):
            used.append(weakref.ref(loaded))
            return batch

    for _ in range(2):
        list(executor.map(Remembering(backend), [[1]]))
    assert used[0]() is used[1]() is not None
    list(executor.map(Doubling(Doubler(3)), [[1]]))
    gc.collect()
    assert used[0]() is None


def test_a_model_that_could_not_be_loaded_is_not_taken_for_loaded():
    @dataclass
    class Missing(Doubler):
        def load(self):
            raise UserError("no weights")

    executor, backend = Local(), Missing()
    for _ in range(2):
        with pytest.raises(UserError):
            list(executor.map(Doubling(backend), [[1]]))
