import gc
import weakref
from dataclasses import dataclass
from typing import ClassVar

import pytest

from dillema.errors import ItemError, UserError
from dillema.execution.local import Local


@dataclass
class Doubler:
    factor: int = 2
    weights: ClassVar[tuple[str, ...]] = ()

    def load(self):
        self.ready = True

    def double(self, numbers):
        assert self.ready
        if 13 in numbers:
            raise ItemError("13 is refused")
        return [self.factor * n for n in numbers]


def work(backend, batch):
    return backend.double(batch)


def test_one_bad_item_costs_no_other():
    first, second = Local().map(work, Doubler(), [[1, 13, 3], [4]])
    assert first[0] == 2 and first[2] == 6 and isinstance(first[1], ItemError)
    assert second == [8]


@pytest.mark.parametrize("error", [UserError("no weights"), MemoryError()])
def test_what_is_nobodys_item_is_raised(error):
    def raising(backend, batch):
        raise error

    with pytest.raises(type(error)):
        list(Local().map(raising, Doubler(), [[1, 2]]))


def test_stages_in_a_row_share_a_loaded_model_and_the_next_one_frees_it():
    execution, backend = Local(), Doubler()
    used = []

    def remember(loaded, batch):
        used.append(weakref.ref(loaded))
        return batch

    list(execution.map(remember, backend, [[1]]))
    list(execution.map(remember, backend, [[1]]))
    assert used[0]() is used[1]() is not None
    list(execution.map(work, Doubler(3), [[1]]))
    gc.collect()
    assert used[0]() is None


def test_a_model_that_could_not_be_loaded_is_not_taken_for_loaded():
    @dataclass
    class Missing(Doubler):
        def load(self):
            raise UserError("no weights")

    execution, backend = Local(), Missing()
    for _ in range(2):
        with pytest.raises(UserError):
            list(execution.map(work, backend, [[1]]))
