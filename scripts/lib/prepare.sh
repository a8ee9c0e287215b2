# shellcheck shell=bash
# Installs what building needs and is missing: a C compiler and linker for two dependencies with C code.
# Rust itself is a prerequisite (rustup).

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

prepare() {
  command -v cargo >/dev/null 2>&1 || {
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
      PATH="$HOME/.cargo/bin:$PATH"
      export PATH
    else
      echo "error: cargo is not installed: install Rust 1.95 or newer with rustup" >&2
      return 1
    fi
  }
  local missing=()
  command -v cc >/dev/null 2>&1 || missing+=(build-essential)
  command -v python3 >/dev/null 2>&1 || missing+=(python3)
  command -v ip >/dev/null 2>&1 || missing+=(iproute2)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    as_root apt-get update -qq && as_root apt-get install -y -qq "${missing[@]}"
  fi
}

# For tests of the Docker driver: an engine and a static busybox to make an image of. Where the engine cannot
# run, those tests say so and are counted as skipped.
prepare_docker() {
  local missing=()
  command -v dockerd >/dev/null 2>&1 || docker version >/dev/null 2>&1 || missing+=(docker.io)
  [ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || missing+=(busybox-static)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    as_root apt-get update -qq && as_root apt-get install -y -qq "${missing[@]}"
  fi
  docker version >/dev/null 2>&1 && return
  [ "$(id -u)" -eq 0 ] && command -v dockerd >/dev/null 2>&1 || return 0
  echo "starting dockerd"
  local log
  log=$(mktemp)
  dockerd >"$log" 2>&1 &
  # The caller ends it.
  DOCKERD_PID=$!
  local tries
  for tries in $(seq 60); do
    docker version >/dev/null 2>&1 && return
    kill -0 "$DOCKERD_PID" 2>/dev/null || break
    sleep 0.5
  done
  echo "dockerd does not run here: $(tail -n 1 "$log")"
}

# For tests of compose.yaml: Debian's docker-compose, and Compose v2, which go builds once, beneath cargo's target directory. Where one of
# them cannot be had, its tests say so and are counted as skipped.
prepare_compose() {
  docker version >/dev/null 2>&1 || return 0
  if ! command -v docker-compose >/dev/null 2>&1; then
    echo "installing docker-compose"
    as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends docker-compose >/dev/null || true
  fi
  docker compose version >/dev/null 2>&1 && return
  STEPPE_TEST_TOOLS=${CARGO_TARGET_DIR:-$PWD/target}/tools
  export STEPPE_TEST_TOOLS
  local built="$STEPPE_TEST_TOOLS/steppe-compose-v2" version=v2.40.3 work go
  [ -x "$built" ] && return
  go=$(command -v go || ls /usr/local/go/bin/go 2>/dev/null) || return 0
  echo "building Compose $version"
  work=$(mktemp -d)
  mkdir -p "$STEPPE_TEST_TOOLS"
  (
    cd "$work"
    printf 'module compose\ngo 1.24\nrequire github.com/docker/compose/v2 %s\n' "$version" >go.mod
    printf '//go:build tools\n\npackage compose\n\nimport _ "github.com/docker/compose/v2/cmd"\n' >tools.go
    "$go" mod tidy >log 2>&1 &&
      "$go" build -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version" -o compose \
        github.com/docker/compose/v2/cmd >>log 2>&1 &&
      mv compose "$built"
  ) || echo "Compose $version cannot be built here: $(tail -n 1 "$work/log")"
  rm -rf "$work"
}
