"""The settings are a value with defaults that make sense together."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from riverlog.storage.local.settings import LocalSettings


def test_defaults() -> None:
    settings = LocalSettings()
    assert settings.page_cache_unsynced_bytes_max < settings.unsynced_bytes_max
    assert settings.sync_threads >= 1
    assert settings.read_threads >= 1
    with pytest.raises(FrozenInstanceError):
        settings.sync_threads = 2  # type: ignore[misc]  # that is what is tested
