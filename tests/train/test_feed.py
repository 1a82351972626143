"""A data set that the device has no room for: brought part by part, to the same bits."""

import sys
import types

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.ranks.threads import run
from tests.train import tiny
from tinydiff.backends import upload
from tinydiff.data.dataset import Dataset
from tinydiff.ranks import alone
from tinydiff.train import Trainer


def trainer(name="numpy", parts=1, ranks=alone(), data=None):
    config = tiny.trainer(parts=parts, batch=8, label_dropout=0.3).config
    return Trainer(config, data or tiny.dataset(13), backend_or_skip(name), ranks=ranks)


def take(trainer, steps=9):
    return [trainer.train_step() for _ in range(steps)], tiny.state(trainer)


@pytest.fixture
def no_room(monkeypatch):
    for name in ("numpy", "cpu"):
        monkeypatch.setattr(type(backend_or_skip(name)), "has_room_for", lambda self, nbytes: False)


@pytest.mark.parametrize("name", ["numpy", "cpu"])
@pytest.mark.parametrize("parts", [1, 4])
def test_the_bits_are_those_of_a_data_set_that_fits(request, name, parts):
    expected = take(trainer(name, parts))
    request.getfixturevalue("no_room")
    fed = trainer(name, parts)
    assert fed.images.shape == (8 // parts, 8, 8, 1)
    assert take(fed) == expected


def test_each_rank_brings_its_own(request):
    expected = take(trainer(parts=4))
    request.getfixturevalue("no_room")
    assert run(2, lambda ranks: take(trainer(parts=4, ranks=ranks))) == [expected] * 2


def test_it_resumes_where_it_was(no_room):
    straight, first, second = trainer(), trainer(), trainer()
    expected, before = take(straight), [first.train_step() for _ in range(4)]
    second.train_step()  # has begun with what it will not be asked for
    second.restore(first.checkpoint())
    assert (before + [second.train_step() for _ in range(5)], tiny.state(second)) == expected


def test_an_error_of_the_thread_is_raised_by_the_step(no_room, tmp_path):
    data = tiny.dataset(13)

    class Unreadable(np.ndarray):
        def take(self, *_, **__):
            raise OSError("the disk is gone")

    fed = trainer(data=Dataset(data.name, data.images.view(Unreadable), data.labels, 2))
    with pytest.raises(OSError, match="the disk is gone"):
        fed.train_step()


class FakeDevice:
    """Streams that do their work only when someone waits for them, and note what waited for what."""

    def __init__(self):
        self.log, self.current = [], FakeStream(self, "compute")
        device = self

        class Device:
            __enter__ = __exit__ = lambda self, *_: None

        self.cuda = types.SimpleNamespace(
            Device=Device,
            Stream=lambda non_blocking: FakeStream(device, "upload"),
            get_current_stream=lambda: device.current,
        )

    def empty(self, shape, dtype):
        return FakeArray(np.full(shape, 0, dtype), self)


class FakeStream:
    def __init__(self, device, name):
        self.device, self.name, self.works = device, name, []

    def record(self):
        return FakeEvent(self, len(self.works))

    def wait_event(self, event):
        self.works.append(event.synchronize)

    def run(self, count):
        for i, work in enumerate(self.works[:count]):
            if work:
                self.works[i] = None
                work()


class FakeEvent:
    def __init__(self, stream, count):
        self.stream, self.count = stream, count

    def synchronize(self):
        self.stream.run(self.count)


class FakeArray:
    def __init__(self, data, device):
        self.data, self.device = data, device

    def set(self, values, stream):
        stream.works.append(lambda: self.data.__setitem__(..., values))  # as they are when it is done

    def __setitem__(self, at, other):
        self.device.current.works.append(lambda: self.data.__setitem__(at, other.data))


def test_nothing_is_overwritten_before_it_is_read(monkeypatch):
    """Streams that lag as far behind as events let them."""
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=np.empty))
    device = FakeDevice()
    uploads, into = upload.Uploads(device, (3,), np.uint8), device.empty((3,), np.uint8)
    seen, sent = [], uploads.send(lambda array: array.fill(0))
    for step in range(1, 8):
        uploads.put(sent, into)
        device.current.works.append(lambda: seen.append(int(into.data[0])))  # the step reads
        sent = uploads.send(lambda array: array.fill(step))
    device.current.run(None)
    assert seen == list(range(7))
