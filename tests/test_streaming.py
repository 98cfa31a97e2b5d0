"""Images arrive in order, as `Model.prepare` gives them, whoever decodes them; broken ones are told or left out."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchcam_suite import Model, load, streaming
from torchcam_suite.errors import ImageError
from torchcam_suite.images import Preprocessing
from torchcam_suite.streaming import Batch, Unreadable, stream

SIZE = 12
WAYS = [0, 2]  # workers


@pytest.fixture
def model() -> Model:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(200, 2))
    return load(net, input_size=SIZE, preprocessing="torch", device="cpu")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Eleven noise pictures of different sizes."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(11)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (9 + i, 20 - i, 3), np.uint8)).save(path)
    return paths


def joined(batches: Iterator[Batch] | list[Batch]) -> torch.Tensor:
    return torch.cat([batch.images for batch in batches])


def break_files(files: list[Path], *positions: int) -> None:
    for position in positions:
        files[position].write_bytes(files[position].read_bytes()[:60])


# ---------------------------------------------------------------- the values


@pytest.mark.parametrize("workers", WAYS)
def test_batches_are_those_of_prepare_in_order(model: Model, files: list[Path], workers: int) -> None:
    found = list(stream(model, files, batch_size=4, workers=workers))
    assert [batch.positions for batch in found] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10)]
    assert torch.equal(joined(found), model.prepare(files))


@pytest.mark.parametrize("workers", WAYS)
@pytest.mark.parametrize(
    ("mode", "value"),
    [("I;16", 40_000), ("CMYK", (10, 200, 30, 40)), ("LA", (90, 128)), ("1", 1), ("RGBA", (200, 10, 10, 51))],
)
def test_pictures_of_any_mode_are_those_of_prepare(
    model: Model, tmp_path: Path, mode: str, value: Any, workers: int
) -> None:
    path = tmp_path / f"picture.{'tif' if mode in ('I;16', 'CMYK') else 'png'}"
    Image.new(mode, (7, 9), value).save(path)
    (batch,) = stream(model, [path], workers=workers)
    assert torch.equal(batch.images, model.prepare(path))


@pytest.mark.parametrize("workers", WAYS)
def test_a_mixed_list_may_hold_anything_that_prepare_takes(model: Model, files: list[Path], workers: int) -> None:
    with Image.open(files[3]) as opened:
        opened.load()
    images = [files[0], str(files[1]), np.asarray(Image.open(files[2]).convert("RGB")), opened]
    assert torch.equal(joined(stream(model, images, batch_size=3, workers=workers)), model.prepare(files[:4]))


def test_a_generator_of_paths_is_taken(model: Model, files: list[Path]) -> None:
    assert torch.equal(joined(stream(model, (path for path in files))), model.prepare(files))


def test_a_single_path_is_one_image(model: Model, files: list[Path]) -> None:
    (batch,) = stream(model, files[2])
    assert batch.positions == (0,)
    assert torch.equal(batch.images, model.prepare(files[2]))


def test_a_tensor_is_taken_as_ready(model: Model) -> None:
    images = torch.rand(5, 3, SIZE, SIZE)
    found = list(stream(model, images, batch_size=2))
    assert [batch.positions for batch in found] == [(0, 1), (2, 3), (4,)]
    assert torch.equal(joined(found), images)
    (single,) = stream(model, images[3])
    assert torch.equal(single.images, images[3:4])


@pytest.mark.parametrize("workers", WAYS)
def test_images_have_the_dtype_of_the_model(model: Model, files: list[Path], workers: int) -> None:
    model.module.double()
    assert {batch.images.dtype for batch in stream(model, files, workers=workers)} == {torch.float64}


# ---------------------------------------------------------------- broken images


@pytest.mark.parametrize("workers", WAYS)
def test_what_cannot_be_read_is_left_out_and_listed(model: Model, files: list[Path], workers: int) -> None:
    break_files(files, 0, 4, 5, 6, 7)
    missing = files[2].with_name("missing.png")
    given = [*files[:2], missing, *files[3:]]
    unreadable: list[Unreadable] = []
    found = list(stream(model, given, batch_size=4, workers=workers, on_error="skip", unreadable=unreadable))
    # the second batch has no readable image
    assert [batch.positions for batch in found] == [(1, 3), (8, 9, 10)]
    assert torch.equal(joined(found), model.prepare([files[i] for i in (1, 3, 8, 9, 10)]))
    assert [one.path for one in unreadable] == [str(path) for path in (files[0], missing, *files[4:8])]
    assert unreadable[1].reason == f"no such image file: {missing}"


@pytest.mark.parametrize("workers", WAYS)
def test_the_list_never_runs_ahead_of_the_batches(model: Model, files: list[Path], workers: int) -> None:
    break_files(files, 1, 5, 9)
    unreadable: list[Unreadable] = []
    counts = [
        (batch.positions[-1], len(unreadable))
        for batch in stream(model, files, batch_size=4, workers=workers, on_error="skip", unreadable=unreadable)
    ]
    assert counts == [(3, 1), (7, 2), (10, 3)]


@pytest.mark.parametrize("workers", WAYS)
def test_a_broken_image_ends_it_after_the_batches_before(model: Model, files: list[Path], workers: int) -> None:
    break_files(files, 6)
    batches = stream(model, files, batch_size=3, workers=workers)
    assert [next(batches).positions[0] for _ in range(2)] == [0, 3]
    with pytest.raises(ImageError, match=r"6\.png is damaged"):
        next(batches)


def test_any_error_of_a_decoder_is_a_damaged_file(
    model: Model, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OverflowError("too much")

    monkeypatch.setattr(streaming.pictures, "open_picture", fail)
    unreadable: list[Unreadable] = []
    assert not list(stream(model, files[:1], on_error="skip", unreadable=unreadable))
    assert unreadable == [Unreadable(str(files[0]), f"{files[0]} is damaged (OverflowError: too much)")]


def test_an_image_in_memory_is_named_by_its_position(model: Model, files: list[Path]) -> None:
    unreadable: list[Unreadable] = []
    bad = np.zeros((4, 4, 7), np.uint8)
    list(stream(model, [files[0], files[1], bad], on_error="skip", unreadable=unreadable))
    assert [one.path for one in unreadable] == ["image 2"]


def test_a_worker_that_is_killed_is_told(model: Model, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming.pictures, "open_picture", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ImageError, match=r"a process that decodes pictures ended .*find the picture with workers=0"):
        list(stream(model, files, batch_size=2, workers=1))


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size=0; expected at least 1"),
        ({"workers": -1}, ValueError, "workers=-1; expected 0, which decodes in this process, or more"),
        ({"on_error": "ignore"}, ValueError, "on_error='ignore' does not exist; expected 'raise' or 'skip'"),
        ({"images": []}, ImageError, "no images were given"),
        ({"images": 3}, ImageError, "expected pictures"),
    ],
)
def test_wrong_options_are_told_at_once(
    model: Model, files: list[Path], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        stream(model, **{"images": files, **options})


def test_pictures_that_cannot_fit_the_model_are_told_before_any_is_opened(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(5, 2, 3), nn.Flatten(), nn.Linear(200, 2))
    model = load(net, input_size=(5, SIZE, SIZE), preprocessing="raw", device="cpu")
    with pytest.raises(ImageError, match="the model takes 5 channels"):
        stream(model, [tmp_path / "missing.png"], on_error="skip")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 3, SIZE, SIZE), "no images were given"),
        (torch.zeros(2, SIZE, SIZE, 3), "channels last"),
        (torch.full((1, 3, SIZE, SIZE), torch.nan), "NaN or infinity in image 0"),
    ],
)
def test_a_tensor_that_does_not_fit_is_an_error(model: Model, images: torch.Tensor, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        list(stream(model, images, on_error="skip"))


# ---------------------------------------------------------------- processes


@pytest.mark.parametrize("workers", WAYS)
def test_the_random_numbers_of_the_caller_go_on_as_before(model: Model, files: list[Path], workers: int) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    list(stream(model, files, workers=workers))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("workers", WAYS)
def test_the_default_device_of_the_caller_does_not_matter(model: Model, files: list[Path], workers: int) -> None:
    expected = [batch.images for batch in stream(model, files, workers=workers)]
    with torch.device("meta"):  # whose tensors have no values
        found = [batch.images for batch in stream(model, files, workers=workers)]
    assert len(found) == len(expected) > 0
    assert all(map(torch.equal, found, expected))


def test_no_process_and_no_thread_is_left_where_the_caller_stops_early(model: Model, files: list[Path]) -> None:
    before = set(threading.enumerate())
    batches = stream(model, files, batch_size=1, workers=2)
    next(batches)
    assert len(children()) == 2
    batches.close()  # type: ignore[attr-defined]
    assert not children()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)  # those of the closed queues end a moment later
    assert set(threading.enumerate()) == before


def children() -> list[str]:
    return [text for one in Path("/proc/self/task").iterdir() for text in (one / "children").read_text().split()]


def test_files_are_opened_as_they_are_due(model: Model, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    plain = streaming.pictures.open_picture
    monkeypatch.setattr(streaming.pictures, "open_picture", lambda path: (opened.append(path), plain(path))[1])
    batches = stream(model, files, batch_size=2, workers=0)
    assert opened == []
    next(batches)
    assert opened == files[:2]


SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
import torch
from torch import nn
from torchcam_suite import load
from torchcam_suite.streaming import stream
model = load(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(200, 2)), input_size=12, device="cpu")
model(torch.rand(64, 3, 12, 12))  # the threads of torch run before the processes begin
for _ in range(3):
    for batch in stream(model, sys.argv[1:] * 10, batch_size=8, workers=2):
        model(batch.images)
print(len(sys.argv))
"""


def test_a_plain_script_needs_no_guard(files: list[Path], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(len(files) + 1), "")


BUSY = """
import sys, threading
import numpy as np
import torch
from torch import nn
from torchcam_suite import load
from torchcam_suite.streaming import stream

def draw(numbers):
    while not done:
        numbers()

done = False
model = load(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(200, 2)), input_size=12, device="cpu")
# each holds the lock of its generator nearly all the time
for numbers in (lambda: torch.rand(10**6), lambda: np.random.rand(10**6)):
    threading.Thread(target=draw, args=(numbers,)).start()
try:
    for _ in range(5):
        print(sum(len(batch.images) for batch in stream(model, sys.argv[1:], batch_size=2, workers=2)))
finally:
    done = True
"""


def test_threads_that_draw_random_numbers_do_not_stop_the_workers(files: list[Path]) -> None:
    command = [sys.executable, "-c", BUSY, *map(str, files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            printed, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert printed.split() == [str(len(files))] * 5


@pytest.mark.parametrize(
    ("count", "cores", "free", "expected"),
    [(63, 16, 2**40, 0), (64, 16, 2**40, 8), (64, 3, 2**40, 3), (64, 16, 6 * 4 * 32 * 3 * SIZE**2, 2), (64, 16, 99, 0)],
    ids=["few files", "at most eight", "three cores", "room for two", "no room"],
)
def test_the_number_of_workers_suits_files_cores_and_shared_memory(
    model: Model, monkeypatch: pytest.MonkeyPatch, count: int, cores: int, free: int, expected: int
) -> None:
    monkeypatch.setattr(streaming.os, "sched_getaffinity", lambda _: range(cores))
    usage = streaming.shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(streaming.shutil, "disk_usage", lambda _: usage)
    sources = [f"{i}.png" for i in range(count)]
    batches = streaming._Batches(sources, 32, model.input, model.preprocessing)
    assert streaming._choose_workers(sources, batches, torch.device("cuda")) == expected
    assert streaming._choose_workers(sources, batches, torch.device("cpu")) == 0


def test_images_in_memory_and_daemons_take_no_workers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = [Image.new("L", (3, 3))] * 100
    batches = streaming._Batches(grey, 32, model.input, Preprocessing("raw"))
    assert streaming._choose_workers(grey, batches, torch.device("cuda")) == 0
    files = ["a.png"] * 100
    assert streaming._choose_workers(files, batches, torch.device("cuda")) > 0
    monkeypatch.setattr(streaming.multiprocessing.current_process(), "_config", {"daemon": True})
    assert streaming._choose_workers(files, batches, torch.device("cuda")) == 0
