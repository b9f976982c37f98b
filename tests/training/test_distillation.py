"""Distillation: a student follows its teacher rather than its labels, and scores are computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot
from event_files import nano_events, write_tree
from filelock import FileLock
from notes import Notes
from toys import write_toy_jets

from hepml import objectives
from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError, FileError
from hepml.inference.exporting import export
from hepml.inference.prediction import predict
from hepml.training import distillation
from hepml.training.checkpoints import load_model
from hepml.training.distillation import Targets
from hepml.training.jet_weights import mean_weight
from hepml.training.progress import Progress
from hepml.training.recipe_config import Teacher
from hepml.training.run import train
from hepml.training.run_config import RunConfig
from hepml.training.teacher_cache import FORMAT, Cache
from hepml.training.teachers import Tutor, match_classes, open_teacher

Tiny = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory, toy_files: dict[str, Path]) -> Path:
    """The training jets with labels that say nothing."""
    path = tmp_path_factory.mktemp("liar") / "train.root"
    with uproot.open(toy_files["train"]) as file:
        tree = next(file[name] for name in file.keys(cycle=False) if "TTree" in file[name].classname)
        arrays, name = tree.arrays(), tree.name
    columns = {field: arrays[field] for field in arrays.fields}
    top = np.random.default_rng(3).random(len(arrays)) < 0.5
    columns["label_QCD"], columns["label_Tbqq"] = (~top).astype(np.float32), top.astype(np.float32)
    with uproot.recreate(path) as file:
        file[name] = {field: column for field, column in columns.items() if not field.startswith("n")}
    return path


@pytest.fixture(scope="module")
def teacher(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teachers") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hepml.training.reporting.draw_figures", lambda *anything: None)
        train(tiny("training.epochs=8"), path)
    return path


def test_a_student_learns_from_its_teacher_what_its_labels_do_not_say(
    tiny: Tiny, teacher: Path, liar: Path, tmp_path: Path
) -> None:
    labelled = tiny("training.epochs=8", f"data.train={liar}")
    assert train(labelled, tmp_path / "labels")["test"]["auc"] < 0.8
    words = ("training.epochs=8", f"data.train={liar}", f"distill.teacher.run={teacher}")
    notes = Notes()
    first = train(tiny(*words, f"distill.cache={tmp_path}/cache"), tmp_path / "student", progress=notes)
    assert first["test"]["auc"] > 0.95
    assert notes.found("400 jets scored")
    again = Notes()
    second = train(tiny(*words, f"distill.cache={tmp_path}/cache"), tmp_path / "again", progress=again)
    assert again.found("400 scores from")
    assert not again.found("jets scored")
    assert second["test"]["auc"] == first["test"]["auc"]


def test_unlabelled_jets_join_the_labelled_ones(tiny: Tiny, teacher: Path, tmp_path: Path) -> None:
    further = write_toy_jets(tmp_path / "further.root", 90, seed=9)
    config = tiny(
        f"distill.teacher.run={teacher}",
        f"distill.unlabelled={further}",
        f"distill.cache={tmp_path}/cache",
        "distill.hard_labels=0.5",
    )
    summary = train(config, tmp_path / "student")
    assert summary["jets"]["train"] == 490
    assert summary["test"]["auc"] > 0.9


def test_unlabelled_jets_are_of_the_collection_that_the_training_jets_are_of(
    tiny: Tiny, tmp_path: Path
) -> None:
    """The first file has no `FatJet`, which would be the collection of the second by itself."""
    ak4 = {n: b for n, b in nano_events(160).items() if "FatJet" not in n}
    write_tree(tmp_path / "ak4.root", "Events", ak4)
    both = nano_events(50, seed=3)
    write_tree(tmp_path / "both.root", "Events", both)
    words = (
        f"data.train={tmp_path}/ak4.root",
        "data.val=0.2",
        "data.test=0.2",
        "data.classes=[light,b]",
        "training.epochs=1",
    )
    train(tiny(*words), tmp_path / "teacher")
    further = (f"distill.teacher.run={tmp_path}/teacher", f"distill.unlabelled={tmp_path}/both.root")
    notes = Notes()
    config = tiny(*words, *further, f"distill.cache={tmp_path}/cache")
    train(config, tmp_path / "student", progress=notes)
    assert notes.found("whole events, split_seed")
    (line,) = notes.found("unlabelled: ")
    assert f"{int(both['nJet'].sum())} of {int(both['nJet'].sum())} jets" in line


def test_a_part_of_the_jets_has_the_scores_of_its_jets(
    tiny: Tiny, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Targets, JetBatch]] = []

    def watched(self: Targets, objective: object, parameters: torch.Tensor, batch: JetBatch) -> torch.Tensor:
        seen.append((self, batch))
        return parameters.square().sum(1)

    monkeypatch.setattr(Targets, "loss", watched)
    config = tiny(
        "training.epochs=1",
        "data.train_share=0.2",
        "data.val=0.25",
        f"distill.teacher.run={teacher}",
        f"distill.cache={tmp_path}/cache",
    )
    train(config, tmp_path / "student")
    model = load_model(teacher)
    for targets, batch in seen:
        assert batch.index is not None
        given = targets.log_probabilities[batch.index].exp().numpy()
        np.testing.assert_allclose(given, predict(model, batch), atol=1e-5)
    assert sum(len(batch) for _, batch in seen) == 60


def test_a_student_of_fewer_constituents_has_a_teacher_that_reads_all(
    tiny: Tiny, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest: list[int] = []
    scored = Tutor.log_probabilities

    def watched(self: Tutor, batch: JetBatch, batch_size: int) -> np.ndarray:
        longest.append(batch.max_count)
        return scored(self, batch, batch_size)

    monkeypatch.setattr(Tutor, "log_probabilities", watched)
    config = tiny(
        "model={name: topodnn, constituents: 5, hidden: [8]}",
        "training.epochs=1",
        f"distill.teacher.run={teacher}",
        f"distill.cache={tmp_path}/cache",
    )
    train(config, tmp_path / "student")
    assert max(longest) > 5


def test_the_average_of_two_teachers_weighs_their_log_probabilities(tiny: Tiny, tmp_path: Path) -> None:
    for seed in (1, 2):
        train(tiny("training.epochs=1", f"training.seed={seed}"), tmp_path / str(seed))
    config = tiny(
        f"distill.teacher=[{{run: {tmp_path}/1, weight: 3}}, {{run: {tmp_path}/2}}]",
        f"distill.cache={tmp_path}/cache",
    )
    from hepml.data.inputs import Inputs
    from hepml.training.jets import open_jets

    jets = open_jets(config.data, Inputs())
    taught = distillation.prepare(config, jets, Inputs(), objectives.objective("categorical"), Progress())
    assert taught is not None
    batch = jets.train.batch(np.arange(20))
    one, two = (np.log(predict(load_model(tmp_path / name), batch)) for name in ("1", "2"))
    np.testing.assert_allclose(taught.log_probabilities[:20], 0.75 * one + 0.25 * two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["categorical", "bernoulli"])
def test_the_loss_is_least_where_the_student_agrees_with_the_teacher(name: str) -> None:
    torch.manual_seed(0)
    teacher = torch.log_softmax(torch.randn(6, 2, dtype=torch.float64) * 3, dim=-1)
    offsets = torch.zeros(7, dtype=torch.int64)
    batch = JetBatch.from_arrays(torch.zeros((0, 4), dtype=torch.float64), offsets, index=torch.arange(6))
    head = objectives.objective(name)
    logits = teacher if name == "categorical" else teacher[:, 1:] - teacher[:, :1]
    logits = logits.clone().requires_grad_()
    for temperature in (1.0, 3.0):
        loss = Targets(teacher, temperature, 0.0).loss(head, logits, batch)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert float(gradient.abs().max()) < 1e-6
        away = Targets(teacher, temperature, 0.0).loss(head, logits.detach() + torch.randn(6, 1), batch)
        assert (away >= loss - 1e-9).all()


def test_labels_alone_are_left_where_they_have_the_whole_share_and_unlabelled_jets_keep_the_teacher() -> None:
    teacher = torch.log_softmax(torch.tensor([[0.3, 1.0], [2.0, 0.0]]), dim=-1)
    logits = torch.tensor([[0.1, 0.4], [0.2, -0.3]])
    labels = torch.tensor([1, -1])
    batch = JetBatch.from_arrays(
        torch.zeros((0, 4)), torch.zeros(3, dtype=torch.int64), labels=labels, index=torch.arange(2)
    )
    head = objectives.objective("categorical")
    mixed = Targets(teacher, 2.0, 1.0).loss(head, logits, batch)
    assert mixed[0] == head.negative_log_likelihood(logits[:1], labels[:1])[0]
    assert mixed[1] == Targets(teacher, 2.0, 0.0).loss(head, logits, batch)[1]


def test_a_teacher_of_other_classes_or_none_is_refused_in_one_line(
    tiny: Tiny, teacher: Path, tmp_path: Path
) -> None:
    for words, kind, message in (
        ([f"distill.teacher.run={tmp_path}/nowhere"], FileError, "no such run"),
        (["distill.teacher.pretrained=nobody"], FileError, "no weights 'nobody'.*HEPML_DATA"),
        (["distill.teacher={weight: 2}"], ConfigError, "exactly one of"),
        (
            [f"distill.teacher.run={teacher}", "data.target=jet_sdmass", "objective=gaussian"],
            ConfigError,
            "classification",
        ),
    ):
        with pytest.raises(kind, match=message):
            train(tiny(*words), tmp_path / "student")


def test_published_weights_are_found_by_a_bare_name_on_the_data_path(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep" / "weights").mkdir(parents=True)
    (tmp_path / "deep" / "weights" / "some_tagger.pt").touch()
    monkeypatch.setenv("HEPML_DATA", str(tmp_path))
    config = tiny("distill.teacher.pretrained=some_tagger")
    assert config.distill is not None
    assert config.distill.teachers[0].source == str(tmp_path / "deep" / "weights" / "some_tagger.pt")


def test_a_teacher_keeps_its_scores_for_runs_with_another_order_of_classes(
    tiny: Tiny, teacher: Path, toy_files: dict[str, Path], tmp_path: Path
) -> None:
    for classes in ("[QCD, Tbqq]", "[Tbqq, QCD]"):
        config = tiny(
            f"data.classes={classes}",
            f"distill.teacher.run={teacher}",
            f"distill.cache={tmp_path}/cache",
            "training.epochs=5",
        )
        assert train(config, tmp_path / classes)["test"]["auc"] > 0.9, classes


def test_classes_of_a_teacher_are_matched_by_name_or_refused() -> None:
    def match(named: str, ours: str) -> tuple[int, ...]:
        return match_classes(named.split(), ours.split(), Path("teacher"))

    assert match("QCD Tbqq", "Tbqq QCD") == (1, 0)
    assert match("QCD top", "Tbqq QCD") == (1, 0), "what is left over is the same class under two names"
    assert match("", "Tbqq QCD") == match("a b", "Tbqq QCD") == (0, 1)
    with pytest.raises(ConfigError, match="a, b, QCD, this run's QCD, c, d"):
        match("a b QCD", "QCD c d")


def test_an_order_of_classes_that_was_guessed_may_not_contradict_the_labels(
    tiny: Tiny, teacher: Path, tmp_path: Path
) -> None:
    words = (f"distill.teacher.run={teacher}", f"distill.cache={tmp_path}/cache", "training.epochs=1")
    notes = Notes()
    train(
        tiny(*words, "data.classes={background: label_QCD, signal: label_Tbqq}"),
        tmp_path / "right",
        progress=notes,
    )
    assert notes.found("background is its QCD, signal is its Tbqq")
    assert notes.found("of 400 jets with a label")
    with pytest.raises(ConfigError, match=r"right for \d+\.\d% of the jets.*its order, background, signal"):
        train(tiny(*words, "data.classes={signal: label_Tbqq, background: label_QCD}"), tmp_path / "reversed")
    assert not (tmp_path / "reversed").exists()


def test_an_order_of_three_classes_is_named_as_the_teacher_has_it() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 300)
    logits = rng.normal(size=(300, 3))
    logits[np.arange(300), np.array([2, 0, 1])[labels]] += 3.0  # the teacher has class 0 third
    rows = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    guessed = Tutor("t", "0", Inputs(), torch.nn.Identity(), (0, 1, 2), guessed=True)
    with pytest.raises(ConfigError, match="its order, b, c, a"):
        distillation.check_against_labels(guessed, rows, labels, ("a", "b", "c"), Notes())
    notes = Notes()
    named, unlabelled = replace(guessed, guessed=False), np.full(300, -1)
    distillation.check_against_labels(named, rows, labels, ("a", "b", "c"), notes)
    distillation.check_against_labels(guessed, rows, unlabelled, ("a", "b", "c"), notes)
    assert len(notes.lines) == 1


def test_scores_that_the_teacher_does_not_give_any_more_are_computed_again(
    tiny: Tiny, teacher: Path, tmp_path: Path
) -> None:
    config = tiny("training.epochs=1", f"distill.teacher.run={teacher}", f"distill.cache={tmp_path}/cache")
    first = train(config, tmp_path / "first")
    (path,) = (tmp_path / "cache").glob("*.npz")
    with np.load(path) as found:
        keys, rows = found["keys"], found["rows"]
    path.unlink()
    Cache(f"{tmp_path}/cache", path.name.removesuffix(f"-v{FORMAT}.npz")).add(keys, rows[:, ::-1])
    notes = Notes()
    again = train(config, tmp_path / "again", progress=notes)
    assert notes.found("not what it gives now")
    assert notes.found("400 jets scored")
    assert again["test"]["auc"] == first["test"]["auc"]
    with np.load(path) as found:
        np.testing.assert_allclose(found["rows"], rows, atol=1e-4)


def test_a_run_that_waits_for_anothers_scores_says_so(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), "teacher")
    said: list[str] = []

    def waiting() -> None:
        said.append("waiting")
        other.release()

    other = FileLock(cache.lock, is_singleton=False)
    other.acquire()
    with cache.locked(waiting):
        assert said == ["waiting"]
    with cache.locked(waiting):
        assert said == ["waiting"]


def test_a_killed_run_leaves_the_scores_that_it_had(
    tiny: Tiny, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "CHUNK", 100)
    monkeypatch.setattr(distillation, "KEPT_EVERY", 0.0)
    config = tiny("training.epochs=1", f"distill.teacher.run={teacher}", f"distill.cache={tmp_path}/cache")

    class Dies(Notes):
        def scoring(self, name: str, done: int, jets: int) -> None:
            if name.startswith("teacher") and done == 300:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "first", progress=Dies())
    notes = Notes()
    train(config, tmp_path / "again", progress=notes)
    assert notes.found("200 scores from")
    assert notes.found("200 jets scored")


def test_a_score_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), "teacher")
    keys = np.array([[0, 1], [0, 2]], dtype=np.uint64)
    cache.add(keys, np.array([[0.0, -1.0], [np.nan, -1.0]], dtype=np.float32))
    assert cache.find(keys)[0].tolist() == [True, False]


def test_a_teacher_scores_the_jets_of_samples(
    tiny: Tiny, teacher: Path, toy_files: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny(
        "data.train=[]",
        f"data.samples={{{toy_files['train']}: {{}}}}",
        "model={name: topodnn, constituents: 5, hidden: [8]}",  # the teacher reads all constituents
        f"distill.teacher.run={teacher}",
        f"distill.cache={tmp_path}/cache",
        "training.epochs=1",
    )
    assert train(config, tmp_path / "student")["jets"]["train"] == 400


def test_jets_without_a_label_have_the_weight_they_bring(toy_files: dict[str, Path]) -> None:
    jets = JetDataset.open(toy_files["test"])
    labels = jets.labels
    assert labels is not None
    scale = torch.tensor([1.0, 9.0])
    some = replace(jets, labels=torch.cat((labels[:200], torch.full((40,), -1))))
    expected = float(torch.cat((scale[labels[:200]], torch.ones(40))).mean())
    assert mean_weight(some, scale) == pytest.approx(expected)


def test_a_broken_cache_is_filled_again(tiny: Tiny, teacher: Path, tmp_path: Path) -> None:
    config = tiny("training.epochs=1", f"distill.teacher.run={teacher}", f"distill.cache={tmp_path}/cache")
    train(config, tmp_path / "first")
    (path,) = (tmp_path / "cache").glob("*.npz")
    whole = path.read_bytes()
    with np.load(path) as found:
        keys, rows = found["keys"], found["rows"]
    np.savez(tmp_path / "short.npz", keys=keys, rows=rows[:10])
    for broken in (b"", whole[:-200], bytes(len(whole)), (tmp_path / "short.npz").read_bytes()):
        path.write_bytes(broken)
        cache = Cache(f"{tmp_path}/cache", path.name.removesuffix(f"-v{FORMAT}.npz"))
        assert not cache.find(keys)[0].any()
        assert cache.add(keys, rows)
        assert cache.find(keys)[0].all()


def test_an_exported_teacher_gives_the_scores_of_its_run(
    teacher: Path, toy_files: dict[str, Path], tmp_path: Path
) -> None:
    jets = JetDataset.open(toy_files["test"]).batch(np.arange(30))
    classes = ("label_QCD", "label_Tbqq")
    export(load_model(teacher), tmp_path / "given.onnx", jet_axis="given")  # that of the file's jets
    expected = open_teacher(Teacher(run=str(teacher)), classes).log_probabilities(jets, 16)
    scores = open_teacher(Teacher(onnx=str(tmp_path / "given.onnx")), classes).log_probabilities(jets, 16)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
