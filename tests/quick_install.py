"""`install.sh` without its slow steps, the packages of apt and of Python: all else is done for real.

    done = machine.run(*quick_install("--libedgetpu", "/here/some.deb", before="interrupt look_over HUP"))

The program that it installs is a script: it tells systemd that it is ready, and waits.
"""

from __future__ import annotations

_PROGRAM = r"""#!/bin/sh
case $1 in
    run) systemd-notify --ready; exec sleep infinity ;;
    models) echo "added" ;;
    doctor) echo "the doctor finds the service $(systemctl is-active appliance 2>/dev/null)" ;;
    --version) readlink /opt/appliance ;;
esac
"""
# Functions for `before`. A wrapped function is done, and then something more.
_QUICK = r"""
. "$SOURCE_OF_IT/install.sh"
check_network() { :; }
install_packages() { prepare_apt; }
fetch_libedgetpu() { return 1; }
make_environment() {
  mkdir -p "$release/.venv/bin"
  printf %s "$PROGRAM_TEXT" >"$release/.venv/bin/appliance"
  printf '#!/bin/sh\nexec "$@"\n' >"$release/systemd/kiosk"
  chmod 755 "$release/.venv/bin/appliance" "$release/systemd/kiosk"
}
try_release() { :; }
wrap() { # FUNCTION SCRIPT
  eval "real_$(declare -f "$1")"
  eval "$1() { real_$1 \"\$@\"; $2; }"
}
interrupt() { # FUNCTION SIGNAL: and another one amid the undoing
  wrap "$1" "undo+=('kill -TERM \$\$'); kill -$2 \$\$"
}
wait_after() { wrap "$1" "echo NOW; for i in {1..6}; do sleep 0.1; done"; } # FUNCTION
date() { command date +%Y%m%d-%H%M%S.%N; }
"""
_ON_TERMINAL = r"""
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[4], sys.argv[4:])
seen = b""
with open(sys.argv[1], "wb", buffering=0) as log:
    while sys.argv[2].encode() not in seen:
        new = os.read(terminal, 4096)
        log.write(new)
        seen += new
    if sys.argv[3] == "ctrl-c":
        os.write(terminal, b"\x03")
        try:
            while new := os.read(terminal, 4096):
                log.write(new)
        except OSError:  # all have gone
            pass
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def quick_install(*options: str, before: str = "", project: str = "/project") -> tuple[str, ...]:
    """The command. `before`: a bash script that may change functions of `install.sh`."""
    environment = (f"SOURCE_OF_IT={project}", f"PROGRAM_TEXT={_PROGRAM}")
    script = f'{_QUICK}\n{before}\nmain "$@"'
    return ("env", *environment, "bash", "-c", script, "install.sh", *options)


def on_terminal(*command: str, log: str, until: str, then: str = "hang up") -> tuple[str, ...]:
    """The command on a terminal of its own, that hangs up once it has shown `until`. Ends with its exit code.

    `log`: a file that gets what was seen. `then`: "ctrl-c" for that key instead.
    """
    return ("python3", "-c", _ON_TERMINAL, log, until, then, *command)
