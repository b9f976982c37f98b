"""Links of the pages to files outside docs/ (configs, data, tests) become links into the repository, where
mkdocs.yml names one in `repo_url`, and plain words otherwise."""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """MkDocs' event: a page's text before it is rendered."""
    outside = re.escape("../" * (page.file.src_uri.count("/") + 1))
    repository = (config.get("repo_url") or "").rstrip("/")
    link = rf"[\1]({repository}/blob/main/\2)" if repository else r"\1"
    return re.sub(rf"(?<!!)\[([^\]]*)\]\({outside}(?!\.\.)([^)\s]+)\)", link, markdown)
