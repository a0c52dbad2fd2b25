"""What a conversion keeps, and the processes that it starts."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from converting import wait_for_the_end, wait_until

from appliance.convert.journal import Facts, Journal, News, Tick, digest_of_files
from appliance.convert.processes import run_logged
from appliance.errors import ConvertError


class TestJournal:
    @pytest.fixture
    def seen(self) -> list[News]:
        return []

    @pytest.fixture
    def journal(self, tmp_path: Path, seen: list[News]) -> Journal:
        return Journal(tmp_path, seen.append)

    @staticmethod
    def step(journal: Journal, content: str = "made", **made_of: object) -> Facts:
        """One that writes a file; its facts say what it wrote."""
        path = journal.folder / "file"

        def do(tick: Tick) -> Facts:
            path.write_text(content)
            tick(0.5)
            return {"wrote": content}

        return journal.step("a step", "does", made_of, (path,), do)

    def test_is_done_once(self, journal: Journal, seen: list[News]) -> None:
        assert self.step(journal, "first", size=(1, 2)) == {"wrote": "first"}
        assert self.step(journal, "second", size=(1, 2)) == {"wrote": "first"}
        assert [(news.part, news.ended, news.kept) for news in seen] == [
            (None, False, False),
            (0.5, False, False),
            (1.0, True, False),
            (None, True, True),
        ]

    def test_is_done_again_if_it_is_made_of_something_else(self, journal: Journal) -> None:
        self.step(journal, "first", size=(1, 2))
        assert self.step(journal, "second", size=(2, 2)) == {"wrote": "second"}
        assert self.step(journal, "third", size=(1, 2)) == {"wrote": "third"}

    @pytest.mark.parametrize("harm", ["changed", "gone"])
    def test_is_done_again_if_its_file_is_not_what_it_was(self, journal: Journal, harm: str) -> None:
        self.step(journal, "first")
        file = journal.folder / "file"
        if harm == "gone":
            file.unlink()
        else:
            file.write_text("changed")
        assert self.step(journal, "second") == {"wrote": "second"}

    @pytest.mark.parametrize("record", ["", "[1]", '{"version": 1}', "{" * 5000])
    def test_record_that_cannot_be_read_counts_as_none(self, journal: Journal, record: str) -> None:
        self.step(journal, "first")
        (journal.folder / "a-step.record.json").write_text(record)
        assert self.step(journal, "second") == {"wrote": "second"}

    def test_one_that_was_interrupted_is_done_again(self, journal: Journal) -> None:
        self.step(journal, "first", size=1)

        def interrupted(tick: Tick) -> Facts:
            (journal.folder / "file").write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            journal.step("a step", "does", {"size": 2}, (journal.folder / "file",), interrupted)
        assert self.step(journal, "third", size=1) == {"wrote": "third"}

    def test_folder_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "absent", lambda news: None)
        with pytest.raises(ConvertError, match=r"^a step: .*a-step\.record\.json cannot be written"):
            journal.step("a step", "does", {}, (), lambda tick: {})

    def test_a_full_disk_is_a_line_that_names_the_step_and_the_folder(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        journal = Journal(small_disk("100k"), lambda news: None)

        def fill(tick: Tick) -> Facts:
            np.save(journal.folder / "pictures.npy", np.zeros(1_000_000))
            return {}

        with pytest.raises(ConvertError, match=rf"^a step: in {journal.folder}: ") as caught:
            journal.step("a step", "does", {}, (), fill)
        assert len(str(caught.value).splitlines()) == 1

    def test_output_that_nobody_reads_is_no_fault_of_the_step(self, tmp_path: Path) -> None:
        def show(news: News) -> None:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            self.step(Journal(tmp_path, show))

    def test_files_are_told_by_content_and_order(self, tmp_path: Path) -> None:
        a, b, c = (tmp_path / name for name in "abc")
        for path, text in ((a, "1"), (b, "2"), (c, "1")):
            path.write_text(text)
        assert digest_of_files([a, b]) == digest_of_files([c, b]) != digest_of_files([b, a])


class TestProcesses:
    @staticmethod
    def run(tmp_path: Path, code: str, timeout_s: float = 30, tick: object = None) -> None:
        ticks = {} if tick is None else {"tick": tick}
        run_logged("a step", [sys.executable, "-c", code], tmp_path / "log", tmp_path, timeout_s, **ticks)  # type: ignore[arg-type]

    def test_says_how_far_it_is(self, tmp_path: Path) -> None:
        told: list[float | None] = []
        code = (
            "import time\nfor part in ('0.25', '1'): print('x\\nprogress', part, flush=True); time.sleep(0.8)"
        )
        self.run(tmp_path, code, tick=told.append)
        assert [part for part in dict.fromkeys(told) if part is not None] == [0.25, 1.0]

    def test_failure_says_the_last_line_and_the_log(self, tmp_path: Path) -> None:
        with pytest.raises(ConvertError, match=r"^a step: it is broken \(exit code 1; its log is .*log\)$"):
            self.run(tmp_path, "raise SystemExit('what\\n\\nit is broken\\n\\n')")

    def test_one_that_is_killed_is_a_failure(self, tmp_path: Path) -> None:
        with pytest.raises(ConvertError, match=r"killed, as happens when memory runs out \(exit code -9"):
            self.run(tmp_path, "import os; print('so far', flush=True); os.kill(os.getpid(), 9)")

    def test_how_far_it_was_is_no_reason(self, tmp_path: Path) -> None:
        with pytest.raises(ConvertError, match=r"^a step: it is broken \(exit code 3"):
            self.run(tmp_path, "print('it is broken\\nprogress 0.5'); raise SystemExit(3)")

    def test_one_that_hangs_is_ended(self, tmp_path: Path) -> None:
        command = ["sh", "-c", "echo $$ >pid; exec sleep 60"]
        with pytest.raises(ConvertError, match=r"^a step: not done after 1 s; its log is "):
            run_logged("a step", command, tmp_path / "log", tmp_path, timeout_s=1)
        assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()

    @pytest.mark.parametrize(
        ("how", "code"),
        [
            (signal.SIGINT, -signal.SIGINT),
            (signal.SIGTERM, 128 + signal.SIGTERM),
            (signal.SIGHUP, 128 + signal.SIGHUP),
            (signal.SIGQUIT, 128 + signal.SIGQUIT),
        ],
    )
    def test_a_signal_ends_it_and_its_child_too(self, tmp_path: Path, how: signal.Signals, code: int) -> None:
        """As Ctrl-C does that reaches this process only, or a service manager."""
        program = (
            "import signal, sys; from pathlib import Path\n"
            "how = signal.Signals(int(sys.argv[2]))\n"
            # under nohup it would begin with this ignored
            "signal.signal(how, signal.default_int_handler if how == signal.SIGINT else signal.SIG_DFL)\n"
            "from appliance.convert.processes import run_logged\n"
            "folder = Path(sys.argv[1])\n"
            "script = 'sleep 60 & echo $$ $! >new; mv new pids; wait'\n"
            "try: run_logged('a step', ['sh', '-c', script], folder / 'log', folder, 60)\n"
            "finally: (folder / 'tidy').touch()\n"
        )
        pids = tmp_path / "pids"
        command = [sys.executable, "-c", program, tmp_path, str(int(how))]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(pids.exists)
                process.send_signal(how)
                assert process.wait(20) == code
            finally:
                process.kill()  # the end of the block waits for it
        assert (tmp_path / "tidy").exists()
        wait_for_the_end(*map(int, pids.read_text().split()))

    def test_a_signal_that_comes_as_it_ends_is_not_lost(self, tmp_path: Path) -> None:
        code = "import os, signal; os.kill(os.getppid(), signal.SIGTERM)"
        noted: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, stack: noted.append(number))
        try:
            with pytest.raises(SystemExit) as caught:
                self.run(tmp_path, code)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert caught.value.code == 128 + signal.SIGTERM
        assert noted == [signal.SIGTERM]

    def test_nothing_that_it_started_runs_on(self, tmp_path: Path) -> None:
        run_logged("a step", ["sh", "-c", "sleep 60 & echo $! >pid"], tmp_path / "log", tmp_path, 20)
        wait_for_the_end(int((tmp_path / "pid").read_text()))

    def test_program_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConvertError, match=r"^a step: /absent cannot be run: No such file"):
            run_logged("a step", ["/absent"], tmp_path / "log", tmp_path, 5)
