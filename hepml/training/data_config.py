"""Where a run's jets come from: the `data` block of its config."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from hepml import paths
from hepml.config import Schema
from hepml.training.report_config import Positive, Share

Source = str | list[str]
Count = Annotated[int, Field(ge=1)]


class DataConfig(Schema):
    """Where jets come from.

    Args:
        train: a path, a glob, a folder, or a list of those; ROOT (`file.root:tree`) or npz.
        val: the same, or the share of the training jets to hold out; without it 10 % are held out.
        test: the same, or a share, or a mapping from names to sources; the first is `test` in the summary.
        further_tests: more test sets by name, such as jets that not everyone has; one whose files are absent
            is left out, and said so.
        layout: name of a layout or an inline mapping; recognised from the branches where left out.
        jets: the jet collection of event files (`FatJet`); the widest with constituents where left out.
        samples: training files by sample, with class and cross-section, in place of `train`
            (docs/data-layouts.md).
        reweight: jet columns with edges, and what their spectra are made (`flat`, or a class) in the training
            jets.
        class_weights: `equal` gives every class the same sum of weights in the loss, {class: share} any
            other; as the jets come where left out.
        classes: label names in the order of the model's outputs; all that the layout has where left out.
        target: a jet column to regress instead of classifying.
        weights: column of event weights, `true` for the layout's own, `false` for none; the layout's own
            where left out.
        selection: an expression on jet columns that a jet must fulfil.
        max_jets: use only so many jets of each source.
        train_share: train on this share of the training jets only; validation and test jets stay whole
            (sample efficiency).
        folds: cut the training jets into so many parts of the same size (jets of one event stay together);
            `fold` is then not trained on and is a test set of its own, called `fold`.
        fold: which part that is, from 0 (`hepml benchmark --folds` takes each in turn).
        cache: folder for packed, memory-mapped copies of the jets; in memory where left out.
        stream: leave the jets in their files and read them again each epoch, in bounded memory.
        workers: processes that read ahead of the training with `stream`; one where a core is free.
        missing_columns: what to do with a column that some files of a list lack: `refuse`, `fill` or `drop`;
            what is needed is refused where left out.
        standardise: `auto` gives input columns without a published standardisation one of the training jets
            (median, 16 to 84 % range, clipped), `none` takes them as they stand; auto where left out and the
            layout does not say otherwise.
        split_seed: seed of the split where `val` or `test` are shares, of `train_share` and of `folds`.
        obtain: {`train`, `val` or the name of a test set: how to get its jets}, said where they are absent.
    """

    train: Source = Field(default_factory=list)
    val: Source | Share | None = None
    test: Source | Share | dict[str, Source | Share] | None = None
    further_tests: dict[str, Source] = Field(default_factory=dict)
    layout: str | dict[str, Any] | None = None
    jets: str | None = None
    samples: dict[str, Any] | None = None
    reweight: dict[str, Any] | None = None
    classes: list[str] | dict[str, str | list[str]] | None = None
    class_weights: Literal["equal"] | dict[str, Positive] | None = None
    target: str | None = None
    weights: bool | str | None = None
    selection: str | None = None
    max_jets: Count | None = None
    train_share: Share | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0
    cache: str | None = None
    stream: bool = False
    workers: Annotated[int, Field(ge=0)] | None = None
    missing_columns: Literal["refuse", "fill", "drop"] | None = None
    standardise: Literal["auto", "none"] | bool | None = None
    split_seed: int = 0
    obtain: dict[str, str] = Field(default_factory=dict)

    def tests(self) -> dict[str, Source | float]:
        """Test sources by name, with those further ones whose files are here; a single one is called
        `test`."""
        named = (
            dict(self.test)
            if isinstance(self.test, dict)
            else {}
            if self.test is None
            else {"test": self.test}
        )
        return {
            **named,
            **{name: source for name, source in self.further_tests.items() if paths.is_there(source)},
        }

    def without_test_files(self) -> Self:
        """The same without test jets in files of their own: what a training depends on. Shares of the
        training files stay held out."""
        shares = {name: share for name, share in self.tests().items() if isinstance(share, float)}
        return self.model_copy(update={"test": shares or None, "further_tests": {}})

    def absent(self) -> dict[str, Source]:
        """Further test sets of which no file is here."""
        return {name: source for name, source in self.further_tests.items() if not paths.is_there(source)}
