"""Checkpoints that are known by name: where they are published, and getting them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from appliance.convert.environments import cache_folder, locked
from appliance.download import Progress, Wanted, download, sha256_of
from appliance.errors import ConvertError, DownloadError

MANIFEST: Final = Path(__file__).resolve().parents[2] / "models" / "manifest.yaml"


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that `models/manifest.yaml` lists."""

    name: str
    file: str
    """What the checkpoint is called."""
    wanted: Wanted


def published(name: str, manifest: Path = MANIFEST) -> Published:
    """Look a checkpoint up. Raises `ConvertError` for unknown names, and for a manifest that is no use."""
    try:
        models = yaml.safe_load(manifest.read_text(encoding="utf-8"))["models"]
        known = {key: model for key, model in models.items() if "checkpoint_url" in model}
        if name in known:
            model = known[name]
            wanted = Wanted(str(model["checkpoint_url"]), model.get("size"), model.get("sha256"))
            return Published(name, str(model["checkpoint"]), wanted)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConvertError(f"fetch: {manifest} cannot be used: {error}") from error
    near = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}."
    raise ConvertError(f"fetch: there is no network {name!r}; {meant} Any other: --checkpoint FILE.pt")


def fetch(name: str, progress: Progress, manifest: Path = MANIFEST) -> Path:
    """The checkpoint's file, downloaded into the cache if it is not there yet.

    Where the manifest knows no checksum, that of the first download is kept beside the file, and a file that
    differs from it later is an error. Raises `ConvertError`.
    """
    entry = published(name, manifest)
    path = cache_folder() / "checkpoints" / entry.file
    recorded = path.with_name(f"{path.name}.sha256")
    with locked(path):
        try:
            if path.exists():
                known = entry.wanted.sha256 or (recorded.read_text().strip() if recorded.exists() else None)
                if (found := sha256_of(path)) == known:
                    return path
                if entry.wanted.sha256 is None and known is not None:
                    raise ConvertError(
                        f"fetch: {path} has changed since it was downloaded (SHA-256 {found}, was {known}); "
                        "delete it to download it again"
                    )
            found = download(entry.wanted, path, progress)
            recorded.write_text(f"{found}\n")
        except DownloadError as error:
            raise ConvertError(f"fetch: {error}; or: --checkpoint FILE.pt") from error
        except OSError as error:
            raise ConvertError(f"fetch: {path} cannot be used: {error.strerror}") from error
    return path
