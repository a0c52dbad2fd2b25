#!/usr/bin/env bash
# install.sh [OPTION...]   make a Raspberry Pi the appliance, or bring it up to date. Asks nothing; says first what it will do.
#
#   --dry-run           only look at the machine, and say what would be done
#   --model FILE|URL    also install this model (a bundle that `appliance convert` made) and use it
#   --libedgetpu FILE   use this package of the Edge TPU's library instead of fetching one
#   --max               the Edge TPU at its highest clock: faster, and hot. You accept its licence thereby
#   --std               the Edge TPU at its ordinary clock. With neither of the two it stays as it is
#   --offline FOLDER    take everything from a folder that scripts/bundle made
#   --uninstall         remove what this script put here; keep configuration, models and recordings
#   --purge             remove these too
#
# May be run again at any time: an upgrade keeps configuration, models and recordings. If anything fails before the
# program is put in place, or the connection breaks, what was there before is there still. Exit code: 0, 1 if it failed,
# 2 if an option is wrong, 129 or more if a signal ended it.
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@" # `sh install.sh`
set -euo pipefail
umask 022
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PYTHONNOUSERSITE=1

SOURCE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
PROGRAM=/opt/appliance              # a link to the release that is in use
RELEASES=/opt/appliance-releases    # each with its own environment, so that the old one works until the new one does
CONFIG=/etc/appliance/config.yaml
DATA=/var/lib/appliance
COMMAND=/usr/local/bin/appliance
GROUPS_OF_USER=(video render input plugdev)
readonly SOURCE PROGRAM RELEASES CONFIG DATA COMMAND GROUPS_OF_USER

# shellcheck source=scripts/install-checks
. "$SOURCE/scripts/install-checks"
# shellcheck source=scripts/install-packages
. "$SOURCE/scripts/install-packages"
# shellcheck source=scripts/install-files
. "$SOURCE/scripts/install-files"
# shellcheck source=scripts/install-service
. "$SOURCE/scripts/install-service"

action=install dry_run='' model='' libedgetpu='' flavour='' offline=''
doing='nothing yet' placed='' failed='' interrupted='' previous='' owner='' release='' work=''
notes=()
undo=()

step() {
  doing=$1
  echo "== $1" || true # where nobody listens any more
}
say() { echo "   $*" || true; }
warn() {
  notes+=("$*")
  echo "   warning: $*" >&2 || true
}
die() {
  echo "install.sh: $*" >&2
  exit 1
}
wrong_usage() {
  echo "install.sh: $*; see install.sh --help" >&2
  exit 2
}

read_options() {
  local option
  while [ $# -gt 0 ]; do
    option=$1
    shift
    case $option in
      --model | --libedgetpu | --offline)
        [ -n "${1-}" ] || wrong_usage "$option needs a value"
        printf -v "${option#--}" %s "$1"
        shift
        ;;
      --dry-run) dry_run=yes ;;
      --max | --std) flavour=${option#--} ;;
      --uninstall) action=uninstall ;;
      --purge) action=purge ;;
      -h | --help)
        sed -n '2,/^set /{/^#/!d;s/^# \{0,1\}//;p}' "$SOURCE/install.sh"
        exit
        ;;
      *) wrong_usage "unknown option: $option" ;;
    esac
  done
  if [ -n "$offline" ]; then
    [ -f "$offline/bundle" ] || wrong_usage "$offline is no folder that scripts/bundle made"
    offline=$(readlink -f "$offline")
    [ -n "$libedgetpu" ] || libedgetpu=$(one_file "$offline"/libedgetpu/*.deb)
    [ -n "$model" ] || model=$(one_file "$offline"/model/*)
  fi
  [ -z "$libedgetpu" ] || [ -f "$libedgetpu" ] || wrong_usage "$libedgetpu: there is no such file"
  [ -z "$libedgetpu" ] || libedgetpu=$(readlink -f "$libedgetpu")
  case $model in
    "" | *://*) ;;
    *) [ -f "$model" ] || wrong_usage "$model: there is no such file" ;;
  esac
}

# The last of the files that are there; nothing if a pattern found none.
one_file() { if [ -e "${!#}" ]; then echo "${!#}"; fi; }

# A signal ends it once, however many come.
end_by_signal() {
  trap '' HUP INT PIPE TERM
  interrupted=yes
  exit "$1"
}

# What has been done is undone, newest first, unless all went well.
at_the_end() {
  local code=$? i
  trap '' HUP INT PIPE TERM
  trap - EXIT
  set +e # to the end, even if nobody listens
  if [ -n "$interrupted" ]; then
    echo "install.sh: interrupted while it did this: $doing" >&2
  elif [ "$code" != 0 ]; then
    code=1 # whatever program it was that failed
    [ -n "$failed" ] || echo "install.sh: failed while it did this: $doing" >&2
  fi
  for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
    eval "${undo[i]}" || echo "install.sh: this could not be undone: ${undo[i]}" >&2
  done
  if [ "$code" != 0 ] && [ "$action" = install ]; then
    if [ -n "$placed" ]; then
      echo "install.sh: the program was installed, but not all of the rest was done; run it again for that." >&2
    elif [ -n "$previous" ]; then
      echo "install.sh: the appliance that was here before is unchanged." >&2
    else
      echo "install.sh: nothing was installed, but for packages of the system." >&2
    fi
  elif [ "$code" != 0 ]; then
    echo "install.sh: not all was removed; run it again." >&2
  fi
  exit "$code"
}

install_all() {
  step "Look at the machine"
  check_machine
  choose_flavour
  [ -z "$libedgetpu" ] || check_libedgetpu
  step "What will be done"
  plan
  [ -z "$dry_run" ] || exit 0

  work=$(mktemp -d)
  undo+=("rm -rf $work")

  step "Install packages of the system"
  install_packages
  step "Get the Edge TPU's library"
  get_libedgetpu
  step "Make the program in $release"
  make_release
  make_environment
  step "Try the program"
  try_release
  step "Set up user, configuration and folders"
  set_up_user
  set_up_data
  step "Put it in place"
  put_in_place
  undo=("rm -rf $work") placed=yes
  # From here on all is done to its end, even if the connection breaks.
  trap '' HUP PIPE

  stop_other_service
  tidy_up
  reload
  [ -z "$libedgetpu" ] || add_libedgetpu
  [ -z "$model" ] || add_model
  step "Look over the installed appliance, before it is started"
  look_over
  if takes_screen && is_below_terminal "$FIRST_TERMINAL"; then
    # From this script, too.
    sum_up
    say "In 10 seconds the screen goes to the appliance. To log in here then: Ctrl-Alt-F2; to read the above again: appliance doctor"
    sleep 10
    start --no-block # the old release may still run when this ends, so the next installation removes it
  else
    step "Start it"
    start
    remove_old_releases
    sum_up
  fi
  [ -z "$failed" ] || exit 1
}

main() {
  read_options "$@"
  [ "$(id -u)" = 0 ] || die "run it as root: sudo ./install.sh"
  previous=$(readlink "$PROGRAM" || true)
  owner=${SUDO_USER:-} # whose recordings these are
  [ "$owner" != root ] || owner=''
  release=$RELEASES/$(date +%Y%m%d-%H%M%S)
  exec 9>/run/appliance-install.lock
  flock --nonblock 9 || die "another installation is running"
  trap at_the_end EXIT
  trap 'end_by_signal 129' HUP
  trap 'end_by_signal 130' INT
  trap 'end_by_signal 141' PIPE
  trap 'end_by_signal 143' TERM
  case $action in
    install) install_all ;;
    *) remove_all ;;
  esac
}

# Not when it is read by a test. Ends within what is read as one, since the shell would read on in a file that has
# changed meanwhile.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  main "$@"
  exit
fi
