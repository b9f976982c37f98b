"""Secrets are taken out where a config is read, and only whoever opens a store or a file gets them back."""

from __future__ import annotations

import pytest

from hepml import config as configs
from hepml.errors import FileError
from hepml.redaction import hide, lacks_secret, redact, redacted, reveal

SECRET = "s3cr3t-Pa55"
SHOWN = {
    f"https://ann:{SECRET}@mlflow.cern.ch/": "https://***@mlflow.cern.ch/",
    f"https://{SECRET}@host": "https://***@host",
    f"postgresql+psycopg2://ann:{SECRET}@db:5432/x?sslmode=require": "postgresql+psycopg2://***@db:5432/x?sslmode=require",
    f"https://ann:p@{SECRET}@host/x": "https://***@host/x",
    f"https://host/x?token={SECRET}&y=1": "https://host/x?token=***&y=1",
    f"https://host/x?y=1&api_key={SECRET}#z": "https://host/x?y=1&api_key=***#z",
    f"https://host/x?key={SECRET}": "https://host/x?key=***",
    f"root://host//f.root?xrd.wantprot=ztn&authz=Bearer%20x&access_token={SECRET}":
        "root://host//f.root?xrd.wantprot=ztn&authz=Bearer%20x&access_token=***",
    f"password={SECRET}": "password=***",
    f"MLFLOW_TRACKING_TOKEN={SECRET} x": "MLFLOW_TRACKING_TOKEN=*** x",
    f"pip --index-url https://ann:{SECRET}@pypi.x/simple": "pip --index-url https://***@pypi.x/simple",
    f"Authorization: Bearer {SECRET}": "Authorization: Bearer ***",
    f"git@host and https://x:{SECRET}@github.com/a/b.git": "git@host and https://***@github.com/a/b.git",
}  # fmt: skip
PLAIN = [
    "https://mlflow.cern.ch/a@b", "sqlite:////data/ann@x/mlflow.db", "runs/key=3", "key.sub=value",
    "use_token=true",
    "model.tokens=5", "sorted(x, key=lambda y: y)", "jets/**/*.root", "a@b.c", "file:///x?y=1", "",
]  # fmt: skip


@pytest.mark.parametrize("text", SHOWN)
def test_a_text_with_a_secret_is_shown_without(text: str) -> None:
    assert redact(text) == SHOWN[text]
    assert redact(redact(text)) == SHOWN[text]
    assert reveal(hide(text)) == text
    assert SECRET not in str(FileError(text, where=text, mend=text))


@pytest.mark.parametrize("text", PLAIN)
def test_a_text_without_a_secret_stays(text: str) -> None:
    assert redact(text) == text
    assert not lacks_secret(text)


def test_values_named_like_secrets_are_hidden_wherever_they_stand() -> None:
    given = {"a": [{"password": SECRET, "db_token": SECRET, "tokens": "x", "key": "y"}], "n": (1, None, True)}
    assert redacted(given) == {
        "a": [{"password": "***", "db_token": "***", "tokens": "x", "key": "y"}],
        "n": (1, None, True),
    }


def test_a_config_holds_no_secret_and_a_store_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from hepml.errors import TrackingError
    from hepml.tracking.store import authenticated, public_uri, tracking_uri

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    real = f"https://ann:{SECRET}@mlflow.cern.ch/secrets-of-a-config"
    config = configs.from_mapping({}, [f"tracking.uri={real}"])
    saved = config.values["tracking"]["uri"]
    assert SECRET not in str(config)
    assert tracking_uri(saved) == real
    assert authenticated(tracking_uri(saved)) == real
    assert public_uri(real) == "https://mlflow.cern.ch/secrets-of-a-config"

    other = saved.replace("secrets-of", "another-process")  # as in the run folder of an earlier process
    with pytest.raises(TrackingError, match="kept in no file"):
        authenticated(tracking_uri(other))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    assert authenticated(tracking_uri(other)) == "https://mlflow.cern.ch/another-process-a-config"
