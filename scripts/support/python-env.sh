#!/usr/bin/env bash
# Python programs for tests, each package pinned by its hash.
#
#   python-env.sh FILE DIR   installs what FILE requires into a virtual environment in DIR once; prints the directory of
#                            its programs
set -euo pipefail

# Debian's own is preferred: whoever the programs run as can execute it.
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3)

install() {
  local requirements=$1 home=$2
  rm -rf "$home"
  "$python" -m venv "$home"
  PIP_ROOT_USER_ACTION=ignore "$home/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --require-hashes --only-binary :all: --requirement "$requirements"
  chmod -R a+rX "$home"
  touch "$home/.complete"
}

[ $# = 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$2"
stamp=$({ "$python" --version; cat "$1"; } | sha256sum | cut -c 1-12)
home="$(cd "$2" && pwd)/$(basename "$1" .txt)-$stamp"
# Whoever asks for the same meanwhile waits for it.
exec 9>"$home.lock"
flock 9
[ -e "$home/.complete" ] || install "$1" "$home"
echo "$home/bin"
