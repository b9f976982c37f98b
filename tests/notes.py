"""What a run says, kept for tests."""

from __future__ import annotations

from hepml.training.progress import Progress


class Notes(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)

    def found(self, word: str) -> list[str]:
        return [line for line in self.lines if word in line]
