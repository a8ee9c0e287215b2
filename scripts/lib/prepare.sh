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
