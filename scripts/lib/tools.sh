# shellcheck shell=bash
# Other people's tools for tests and for `scripts/clients`: installed when first asked for, beneath cargo's target
# directory, by exact version. Each function ends with the tool there, or fails with the reason on standard error.

[ -n "$(type -t as_root)" ] || . "$(dirname "${BASH_SOURCE[0]}")/prepare.sh"

TOOLS=${CARGO_TARGET_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target}/tools
mkdir -p "$TOOLS"

# One at a time: tests of several checkouts may share the directory.
tools_lock() { exec 9>"$TOOLS/lock" && flock -w 900 9; }

# A Debian package for a missing command, where that can be had.
tool() { # command package…
  command -v "$1" >/dev/null 2>&1 && return
  local command=$1
  shift
  { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "$@"; } >"$TOOLS/apt.log" 2>&1
  command -v "$command" >/dev/null 2>&1 || {
    echo "$command is not here and Debian's $* cannot be installed" >&2
    return 1
  }
}

# A virtual environment with exactly what a file asks for; prints its directory.
python_tools() { # name requirements-file
  local at=$TOOLS/python-$1 wanted
  tool python3 python3 || return 1
  wanted=$(python3 --version)$(cat "$2")
  if [ "$(cat "$at/wanted" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$at"
    python3 -c 'import ensurepip' 2>/dev/null || as_root apt-get install -y -qq python3-venv >"$TOOLS/apt.log" 2>&1
    { python3 -m venv "$at" && "$at/bin/pip" install -q --disable-pip-version-check --timeout 20 --retries 2 -r "$2"; } \
      >"$TOOLS/pip.log" 2>&1 || {
      echo "what $2 names cannot be installed: $(tail -n 1 "$TOOLS/pip.log")" >&2
      return 1
    }
    printf '%s' "$wanted" >"$at/wanted"
  fi
  echo "$at"
}

# A program made from a folder with a Go module; prints its path.
go_program() { # name folder
  local at=$TOOLS/go-$1
  tool go golang || return 1
  (cd "$2" && go build -mod=mod -modfile="$2/go.mod" -o "$at" .) >"$TOOLS/go.log" 2>&1 || {
    if ! grep -qE '^(\./|[a-z_]+\.go:)' "$TOOLS/go.log"; then
      echo "the modules of $2 cannot be had: $(tail -n 1 "$TOOLS/go.log")" >&2
      return 1
    fi
    # It does not compile: that is no reason to skip anything.
    cat "$TOOLS/go.log" >&2
    printf '#!/bin/sh\ncat %s >&2\nexit 1\n' "$TOOLS/go.log" >"$at"
    chmod +x "$at"
  }
  echo "$at"
}
