"""Data sets and back-ends of a user's that break their contract are refused in words."""

from dataclasses import replace

import pytest

from dillema.errors import UserError
from dillema.steps.generate import GenerateStep
from dillema.steps.source import read_samples

from .backends import Generator, Noise


class Broken(Noise):
    """Returns the samples that `change` makes of those of `Noise`."""

    change = staticmethod(list)

    def samples(self):
        return type(self).change(super().samples())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda samples: None, "must return a list of samples, not None"),
        (iter, "must return a list of samples, not <list_iterator"),
        (lambda samples: [], "returned no sample"),
        (lambda samples: [*samples, 7], r"must return samples \(dillema.types.Sample\), not 7"),
        (lambda samples: [replace(s, id=i) for i, s in enumerate(samples)], "must be texts.*id=0"),
        (lambda samples: [replace(s, group=None) for s in samples], "must be texts.*group=None"),
        (lambda samples: [replace(s, attributes=None) for s in samples], "a mapping.*attributes=None"),
    ],
)
def test_samples_that_are_none_are_refused(monkeypatch, change, message):
    monkeypatch.setattr(Broken, "change", staticmethod(change))
    with pytest.raises(UserError, match=rf"tests.test_samples.Broken.samples\(\).*{message}"):
        read_samples(Broken())


@pytest.mark.parametrize("size", [None, 0, "8"])
def test_a_back_end_without_a_batch_size_is_refused(size):
    generator = Generator()
    generator.batch_size = size
    with pytest.raises(UserError, match=r"tests.backends.Generator needs a field `batch_size"):
        assert GenerateStep(generator).batch_size
