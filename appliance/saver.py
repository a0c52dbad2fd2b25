"""Snapshots and recordings that the user asked for, made away from the main thread."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from appliance import snapshot
from appliance.data import Segmentation, Selection
from appliance.display import View
from appliance.display.recorder import Recorder
from appliance.durable import free_stem
from appliance.errors import ApplianceError


class Saver:
    """Used by the main thread; `news` tells it what came of what it asked for."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._model = model
        self._thread = ThreadPoolExecutor(1, "save")
        self._snapshot: Future[list[Path]] | None = None
        self._recorder: Recorder | None = None
        self._words: list[str] = []

    @property
    def recording(self) -> bool:
        """Whether a recording is being made."""
        return self._recorder is not None

    def snapshot(self, segmentation: Segmentation, selection: Selection | None, only_selection: bool) -> None:
        """Save the picture of the masks, with and without them drawn, and its instances; one at a time."""
        if self._snapshot is not None:
            self._words.append("still saving the last snapshot")
            return
        self._snapshot = self._thread.submit(
            snapshot.save, self._folder, segmentation, self._model, selection, only_selection, datetime.now()
        )
        self._words.append("saving a snapshot")

    def start_recording(self, size_wh: tuple[int, int]) -> None:
        """Begin a recording of what is shown from now on."""
        path = self._folder / f"{free_stem(self._folder, 'recording', datetime.now())}.mkv"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._recorder = Recorder(path, size_wh)
        except (OSError, ApplianceError) as error:
            self._words.append(f"cannot record: {error}")
            return
        self._words.append("recording")

    def record(self, view: View) -> None:
        """Add what is shown to the recording, if there is one; never waits."""
        if self._recorder is not None:
            self._recorder.put(view)

    def stop_recording(self) -> None:
        """End the recording; what was recorded is complete."""
        if self._recorder is None:
            return
        self._recorder.close()
        problem = self._recorder.problem
        self._words.append(problem or f"saved {self._recorder.path}")
        self._recorder = None

    def news(self) -> list[str]:
        """What has happened since the last call, for the user to read."""
        if self._snapshot is not None and self._snapshot.done():
            try:
                self._words.append(f"saved {self._snapshot.result()[0]}")
            except (OSError, ApplianceError) as error:
                self._words.append(f"no snapshot: {error}")
            self._snapshot = None
        if self._recorder is not None and self._recorder.problem:
            self.stop_recording()
        words, self._words = self._words, []
        return words

    def close(self) -> None:
        """Finish what is being saved."""
        self.stop_recording()
        self._thread.shutdown()
