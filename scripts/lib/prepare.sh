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
  DOCKERD_PID=$!
  trap 'kill "$DOCKERD_PID" 2>/dev/null' EXIT
  local tries
  for tries in $(seq 60); do
    docker version >/dev/null 2>&1 && return
    kill -0 "$DOCKERD_PID" 2>/dev/null || break
    sleep 0.5
  done
  echo "dockerd does not run here: $(tail -n 1 "$log")"
}
