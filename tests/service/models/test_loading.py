"""A version that arrives beside others and is stuck, loops, or wants too much: it is named, and nobody else waits."""

import asyncio
import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from bundle.folder import registry
from service.front.app import Application
from service.models import loading, models_folder, quarantine
from service.models.address_space import ADDRESS_SPACE, out_of_memory
from service.models.quarantine import Quarantine
from service.models.refusal import LONGEST_PAUSE_SECONDS, PAUSE_SECONDS, Refusal
from service.models.registry import Models
from service.settings import Settings
from tests.conftest import NAME, in_process, running, until
from tests.service.models import hostile_bundles

BODY = {"records": [{"amount": 3.0}]}


@pytest.fixture
def root(models: Path, tmp_path: Path) -> Path:
    """A models folder of its own, with two models of one good version."""
    shutil.copytree(models, tmp_path / "models")
    shutil.copytree(models / NAME, tmp_path / "models" / "other")
    return tmp_path / "models"


def arrive(root: Path, version: int, change: Callable[[Path], None] | None = None, name: str = NAME) -> None:
    """Let a version appear whole, as a rename does."""
    beside = shutil.copytree(root / NAME / "1", root / f".{name}-{version}")
    if change is not None:
        change(beside)
    beside.rename(root / name / str(version))


def endless(folder: Path) -> None:
    hostile_bundles.with_graph(folder, hostile_bundles.loops)


def endless_explainer(folder: Path) -> None:
    hostile_bundles.with_graph(folder, hostile_bundles.loops, "explainer.onnx")


def good(folder: Path) -> None:
    """Another bundle than the one that was loaded before, with nothing wrong."""
    hostile_bundles.with_graph(folder, partial(hostile_bundles.loops, trips=1))


def large(folder: Path) -> None:
    hostile_bundles.with_graph(folder, hostile_bundles.allocates)


def on_one_record(folder: Path) -> None:
    hostile_bundles.with_graph(folder, hostile_bundles.loops_on_one_record)


def children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


async def eventually(models: Models, condition: Callable[[], bool]) -> None:
    """Follow the folder until something holds; nothing depends on when."""
    async with asyncio.timeout(60):
        while not condition():
            await models.follow()
            await asyncio.sleep(0.05)


def versions(models: Models) -> dict[str, int]:
    return {model.name: model.version for model in models.served}


async def test_while_a_version_is_stuck_others_are_loaded_and_its_end_is_theirs_to_decide(root: Path) -> None:
    before = children()
    async with in_process(Settings(models=root, load_seconds=300, default_model=NAME)) as (client, app):
        arrive(root, 2, endless)
        await app.models.follow()
        arrive(root, 2, good, name="other")
        await eventually(app.models, lambda: versions(app.models)["other"] == 2)
        assert versions(app.models)[NAME] == 1
        assert (await client.post("/score", json=BODY)).status_code == 200
        # A later version of its own takes over, though the one before it is still being tried.
        arrive(root, 3)
        await eventually(app.models, lambda: versions(app.models)[NAME] == 3)
        assert app.models.refused == {}
        # And what is taken out of service is not waited for.
        arrive(root, 4, endless)
        await app.models.follow()
        assert (await client.post(f"/v2/repository/models/{NAME}/unload")).status_code == 200
        assert versions(app.models) == {"other": 2}
    assert children() == before


STUCK: list[tuple[str, Callable[[Path], None], str]] = [
    ("a graph that loops", endless, "took longer than 8 s to load"),
    ("an explainer that loops", endless_explainer, "took longer than 8 s to load"),
    ("a pipe", hostile_bundles.with_pipe, ""),
    ("a graph that takes 2 GB", large, "MiB to load"),
]


@pytest.mark.parametrize(("change", "reason"), [case[1:] for case in STUCK], ids=[case[0] for case in STUCK])
async def test_what_never_ends_or_takes_too_much_is_refused_by_name_and_not_tried_again(
    root: Path, change: Callable[[Path], None], reason: str
) -> None:
    async with in_process(Settings(models=root, load_seconds=8)) as (_, app):
        arrive(root, 2, change)
        await app.models.refresh()
        assert reason in app.models.refused[NAME]
        assert versions(app.models) == {NAME: 1, "other": 1}
        assert app.metrics.total("surprisal_model_refused", model=NAME) == 1
        await app.models.refresh()
        assert app.metrics.total("surprisal_reloads_total", model=NAME, result="refused") == 1
        arrive(root, 3)
        await app.models.refresh()
        assert versions(app.models)[NAME] == 3


async def test_a_version_that_is_wanted_only_for_moments_is_tried_to_the_end_once(root: Path) -> None:
    registry.promote(root, NAME, 1)
    arrive(root, 2, good)
    async with in_process(Settings(models=root, default_model=NAME)) as (_, app):
        registry.promote(root, NAME, 2)
        await app.models.follow()
        registry.promote(root, NAME, 1)
        await app.models.refresh()
        assert versions(app.models)[NAME] == 1
        assert app.metrics.total("surprisal_model_info", model=NAME, version="2") == 0
        assert len(app.models._loader._proved) == 2
        registry.promote(root, NAME, 2)
        await app.models.refresh()
        assert versions(app.models)[NAME] == 2


async def test_a_version_that_is_deleted_while_it_is_tried_is_given_up(root: Path) -> None:
    before = children()
    async with in_process(Settings(models=root, load_seconds=300, default_model=NAME)) as (_, app):
        arrive(root, 2, endless)
        await app.models.follow()
        shutil.rmtree(root / NAME / "2")
        await app.models.refresh()
        assert versions(app.models)[NAME] == 1
        assert app.models.refused == {}
        await eventually(app.models, lambda: children() == before)


async def test_at_the_start_a_model_that_loops_keeps_no_other_from_being_served(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.models.registry.START_SECONDS", 0.5)
    endless(root / NAME / "1")
    async with in_process(Settings(models=root, load_seconds=8)) as (client, app):
        assert versions(app.models) == {"other": 1}
        assert (await client.get("/readyz")).status_code == 200
        await app.models.refresh()
        assert "took longer" in app.models.refused[NAME]


async def test_a_graph_that_loops_on_one_record_is_stopped_and_the_second_time_held_in_every_worker(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "LEAST_RUN_SECONDS", 0.5)
    monkeypatch.setattr(loading, "INLINE_RUN_SECONDS", 0.5)
    on_one_record(root / NAME / "1")
    shared = Quarantine(quarantine.new_file())
    settings = Settings(models=root, deadline_ms=500, default_model=NAME)
    fields = 11
    usual = {"records": [[0.0] + [None] * (fields - 1)]}
    trigger = {"records": [[hostile_bundles.TRIGGER] + [None] * (fields - 1)]}
    deadline = {"X-Deadline-Ms": "500"}
    async with in_process(settings) as (client, app), in_process(settings) as (other_client, other):
        for each in (app, other):
            monkeypatch.setattr(each.models._loader, "_quarantine", shared)
        digest = app.models.get(NAME).manifest.digest
        assert (await client.post("/score", json=usual)).status_code == 200
        for strikes in (1, 2):
            assert (await client.post("/score", json=trigger, headers=deadline)).status_code in {500, 504}
            await until_strikes(shared, digest, strikes)
        for each in (app, other):
            await each.models.follow()
            assert versions(each.models) == {"other": 1}
            assert "had to be stopped 2 times" in each.models.refused[NAME]
            assert each.metrics.total("surprisal_model_refused", model=NAME) == 1
            await each.models.refresh()
            assert versions(each.models) == {"other": 1}
        assert (await client.post("/score", json=usual)).status_code == 404
        assert (await client.post("/models/other/score", json=usual)).status_code == 200
        assert (await other_client.post("/models/other/score", json=usual)).status_code == 200
        arrive(root, 2)
        # The copy of a held version is held, too; another is not.
        await app.models.refresh()
        assert "had to be stopped 2 times" in app.models.refused[NAME]
        shutil.copytree(root / "other" / "1", root / NAME / "3")
        await app.models.refresh()
        assert versions(app.models) == {NAME: 3, "other": 1}


async def until_strikes(held: Quarantine, digest: str, count: int) -> None:
    async with asyncio.timeout(60):
        while held.strikes(digest) < count:
            await asyncio.sleep(0.02)


async def test_a_held_shadow_is_tried_out_no_more(root: Path) -> None:
    arrive(root, 2, on_one_record)
    registry.promote(root, NAME, 1)
    registry.shadow(root, NAME, 2)
    held = Quarantine(quarantine.new_file())
    app = Application(Settings(models=root), quarantine=held)
    await app.models.start()
    shadow = app.models.get(NAME).shadow
    assert shadow is not None
    for _ in range(quarantine.MOST_STRIKES):
        held.strike(shadow.model.manifest.digest)
    await app.models.refresh()
    assert app.models.get(NAME).shadow is None
    assert app.metrics.total("surprisal_reloads_total", model=NAME, result="shadow refused") == 1
    await app.models.aclose()


async def test_a_folder_that_does_not_answer_is_named_and_the_others_are_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    look = models_folder._look

    def blocked(folder: Path, name: str) -> models_folder.Look | None:
        if name == NAME:
            answers.wait(60)
        return look(folder, name)

    async with in_process(Settings(models=root)) as (_, app):
        monkeypatch.setattr(models_folder, "LOOK_SECONDS", 0.2)
        monkeypatch.setattr(models_folder, "_look", blocked)
        arrive(root, 2, name="other")
        await eventually(app.models, lambda: versions(app.models)["other"] == 2)
        assert "does not answer" in app.models.refused[NAME]
        assert versions(app.models)[NAME] == 1
        answers.set()
        await eventually(app.models, lambda: NAME not in app.models.refused)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("change", [endless, hostile_bundles.with_pipe], ids=["loops", "pipe"])
def test_sigterm_ends_a_service_that_is_loading_what_never_ends(
    root: Path, workers: int, change: Callable[[Path], None]
) -> None:
    settings = {"SURPRISAL_LOAD_SECONDS": "300", "SURPRISAL_DEFAULT_MODEL": NAME, "SURPRISAL_DRAIN_SECONDS": "0"}
    with running(root, workers, environment=settings) as (process, url):
        arrive(root, 2, change)
        arrive(root, 2, name="other")

        def loaded() -> bool:
            return httpx.get(f"{url}/models/other").json()["version"] == "2"

        # By then the other is being loaded as well.
        until(loaded)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_a_refusal_for_time_or_memory_holds_longer_each_time_and_not_for_ever() -> None:
    first = Refusal("seen", "took longer").after(None, 0.0)
    assert first.holds("seen", PAUSE_SECONDS - 1)
    assert not first.holds("seen", PAUSE_SECONDS + 1)
    assert not first.holds("changed", 1.0)
    second = Refusal("seen", "took longer").after(first, 0.0)
    assert second.pause == 2 * PAUSE_SECONDS
    assert Refusal("changed", "took longer").after(second, 0.0).pause == PAUSE_SECONDS
    for _ in range(10):
        second = Refusal("seen", "took longer").after(second, 0.0)
    assert second.pause == LONGEST_PAUSE_SECONDS
    assert Refusal("seen", "damaged").holds("seen", 1e9)
    assert not Refusal(None, "no such disk").holds(None, 0.0)


def test_the_limit_of_memory_refuses_and_is_gone_afterwards() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.ExitStack() as loads:
        loads.enter_context(ADDRESS_SPACE.limited(2**28))
        loads.enter_context(ADDRESS_SPACE.limited(2**28))
        bytearray(2**28)
        with pytest.raises(MemoryError):
            bytearray(2**31)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    bytearray(2**31)


def test_memory_asked_for_in_vain_is_known_by_what_caused_an_error() -> None:
    outer = RuntimeError("cannot be read")
    outer.__cause__ = RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc")
    assert out_of_memory(outer)
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("no graph"))
