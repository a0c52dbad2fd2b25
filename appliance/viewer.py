"""The main thread: shows what comes, and does what the user asks for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from appliance.data import Frame, Layer, Selection
from appliance.display import Click, Command, Display, Hud, SwitchOff, UserInput, View
from appliance.machine import temperature_c
from appliance.metrics import Metrics, statistics_line
from appliance.notices import Notices
from appliance.pipeline import Closed, Slot, Stopped
from appliance.prompts import pick
from appliance.readout import About, readout
from appliance.saver import Saver
from appliance.stages import LooksBoard
from appliance.systemd import Service

_log = logging.getLogger(__name__)

_POLL_S = 0.01
"""How long a click or a key may wait to be seen."""
_IDLE_S = 0.1
_READOUT_S = 0.5
_STATISTICS_S = 10.0
_TOAST_S = 2.5


class Viewer:
    """Shows pictures with their masks on a display until it is told to end or nothing more comes."""

    def __init__(
        self,
        display: Display,
        pictures: Slot[Frame] | None,
        layers: Slot[Layer],
        wake: threading.Event,
        board: LooksBoard,
        check: Callable[[], None],
        metrics: Metrics,
        notices: Notices,
        about: About,
        saver: Saver,
        service: Service,
    ) -> None:
        """Made in the main thread, before the stages start.

        `pictures` is None in paired mode: a picture is then shown when its masks come, and with them. `wake`
        is set by the slots when something is put. `check` raises `Stopped` when it is time to end.
        """
        self._display = display
        self._pictures = pictures
        self._layers = layers
        self._wake = wake
        self._board = board
        self._check = check
        self._metrics = metrics
        self._notices = notices
        self._about = about
        self._saver = saver
        self._service = service

        self.switch_off = False
        """Whether it ended because its user wants the machine switched off."""
        self._picture: Frame | None = None
        self._layer: Layer | None = None
        self._layer_wh: tuple[int, int] | None = None
        self._hud = Hud()
        self._changed = False
        """Something other than `_hud` changed, so that the view has to be shown again."""
        self._presents = False
        """A picture or a notice is to be seen."""
        self._readout: tuple[str, ...] = ()
        self._readout_due_s = 0.0
        self._toast = ""
        self._toast_until_s = 0.0
        self._help = False

    def run(self) -> None:
        """The loop. Leaves with `Stopped`, or with `Closed` once everything that came has been shown."""
        try:
            self._display.open()
            try:
                self._loop()
            except Closed:
                while self._display.busy():  # nobody is in a hurry: it is all to be written
                    self._check()
                    self._service.presenting()
                    time.sleep(_POLL_S)
                raise
        finally:
            self._service.stopping()
            self._saver.close()
            for words in self._saver.news():
                _log.info("%s", words)
            self._display.close()

    def _loop(self) -> None:
        statistics_due_s = time.monotonic() + _STATISTICS_S
        while True:
            self._check()
            self._wake.wait(_POLL_S if self._display.interactive else _IDLE_S)
            self._wake.clear()
            for user_input in self._display.poll():
                self._act(user_input)
            self._show()
            if self._presents:
                self._service.presenting()
            if time.monotonic() >= statistics_due_s:
                statistics_due_s += _STATISTICS_S
                figures = statistics_line(self._metrics.snapshot())
                _log.info("%s", figures)
                self._service.status("; ".join((*self._notices.current(), figures)))

    def _show(self) -> None:
        layer = self._layers.poll()
        if self._pictures is not None:
            picture = self._pictures.poll()
        else:
            picture = layer.segmentation.frame if layer is not None else None
        frozen = self._board.looks.frozen
        if frozen is not None:
            if picture is not None:
                self._metrics.picture_passed(picture.index)
            picture = None
            if layer is not None and layer.segmentation is not frozen:
                layer = None  # it was on its way when the picture was frozen
        new_masks = layer is not None and (
            self._layer is None or layer.segmentation is not self._layer.segmentation
        )
        self._picture = picture or self._picture
        self._layer = layer or self._layer
        self._redraw_if_resized()
        hud = self._current_hud()
        if picture is None and layer is None and hud == self._hud and not self._changed:
            return
        self._hud, self._changed = hud, False
        view = View(self._picture, self._layer, hud)
        self._display.show(view)
        self._presents = view.frame is not None or bool(hud.notices)
        if picture is not None:
            self._metrics.picture_shown(picture.index)
        if new_masks and layer is not None:
            live = self._pictures is not None
            self._metrics.masks_shown(layer.segmentation.frame.captured_ns if live else None)
        if picture is not None or layer is not None:
            self._saver.record(view)

    def _redraw_if_resized(self) -> None:
        """A picture that is held gets no new masks; its layer must follow the window all the same."""
        if self._layer is not None:
            wanted_wh = self._display.layer_wh(self._layer.segmentation.frame.size_wh)
            if self._display.interactive and wanted_wh != self._layer_wh:
                self._board.set(self._board.looks)
            self._layer_wh = wanted_wh

    def _current_hud(self) -> Hud:
        now_s = time.monotonic()
        looks = self._board.looks
        if now_s >= self._readout_due_s:
            self._readout_due_s = now_s + _READOUT_S
            self._readout = readout(
                self._about, self._metrics.snapshot(), self._layer, looks.selection, temperature_c()
            )
        for words in self._saver.news():
            self._say(words)
        if now_s >= self._toast_until_s:
            self._toast = ""
        switched_on = {
            Command.FREEZE: looks.frozen is not None,
            Command.MASKS: looks.only_selection,
            Command.HELP: self._help,
            Command.RECORD: self._saver.recording,
        }
        return Hud(
            readout=self._readout,
            badge=self._about.badge,
            notices=self._notices.current(),
            toast=self._toast,
            help=self._help,
            active=frozenset(command for command, on in switched_on.items() if on),
        )

    def _say(self, words: str) -> None:
        _log.info("%s", words)
        self._toast, self._toast_until_s = words, time.monotonic() + _TOAST_S

    def _act(self, user_input: UserInput) -> None:
        match user_input:
            case Click() if self._help:
                self._help = False  # the page covers what lies under the pointer
            case Click(xy):
                self._select(xy)
            case Command.QUIT:
                raise Stopped
            case SwitchOff():
                self.switch_off = True
                raise Stopped
            case Command.FREEZE:
                self._freeze()
            case Command.FULLSCREEN:
                self._say("full screen" if self._display.toggle_fullscreen() else "in a window")
            case Command.HELP:
                self._help = not self._help
            case Command.SNAPSHOT:
                self._save_snapshot()
            case Command.RECORD:
                self._toggle_recording()
            case Command.MASKS:
                looks = self._board.looks
                self._board.set(replace(looks, only_selection=not looks.only_selection))
                nothing = "" if looks.selection is not None else ", and nothing is picked out"
                self._say("all masks" if looks.only_selection else f"only the selection{nothing}")
            case Command.CLEAR:
                self._board.set(replace(self._board.looks, selection=None))
                self._say("nothing picked out")

    def _select(self, xy: tuple[float, float]) -> None:
        """Pick out what was clicked, by the masks that the user saw when clicking."""
        index = pick(self._layer.segmentation, xy) if self._layer is not None else None
        if index is None or self._layer is None:
            self._say("no object there")
            return
        selection = Selection(int(self._layer.segmentation.ids[index]), xy)
        self._board.set(replace(self._board.looks, selection=selection))
        self._say(f"picked out, score {self._layer.segmentation.scores[index]:.2f}")

    def _freeze(self) -> None:
        """Hold the picture that the shown masks belong to, or go on."""
        looks = self._board.looks
        if looks.frozen is not None:
            self._board.set(replace(looks, frozen=None))
            self._say("live again")
        elif self._layer is None:
            self._say("nothing to freeze yet")
        else:
            self._picture, self._changed = self._layer.segmentation.frame, True
            self._board.set(replace(looks, frozen=self._layer.segmentation))
            self._say("frozen")

    def _save_snapshot(self) -> None:
        if self._layer is None:
            self._say("nothing to save yet")
        else:
            looks = self._board.looks
            self._saver.snapshot(self._layer.segmentation, looks.selection, looks.only_selection)

    def _toggle_recording(self) -> None:
        if self._saver.recording:
            self._saver.stop_recording()
        elif self._picture is None:
            self._say("nothing to record yet")
        else:
            self._saver.start_recording(self._picture.size_wh)
            # What is shown already: when frozen, or at the end of a source, nothing else comes.
            self._saver.record(View(self._picture, self._layer, self._hud))
