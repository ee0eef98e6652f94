#!/bin/sh
# Brings everything that the other targets need: the npm packages (a Node 24 among them) and a Ray in a Python venv.
# Safe to run again: a part is done anew only when its lock file, its interpreter or the folder itself has changed.
set -eu
cd "$(dirname "$0")/.."

fail() {
  echo "setup: $1" >&2
  exit 1
}

stamp() {
  cat "$@" | cksum | tr -d ' '
}

python_from() {
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not ((3, 10) <= sys.version_info < (3, 14)))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
}

# The venv's own python must not be asked: it may be of an older set-up that is about to be replaced.
host_path=$(printf %s "$PATH" | tr ':' '\n' | grep -Fv -e "$PWD/.venv/bin" -e "$PWD/node_modules/.bin" | tr '\n' ':')
PATH=${host_path%:}
export PATH

mkdir -p .setup

# A registry that cannot be reached is given up after a minute or two, where npm would try for a quarter of an hour.
patience="--fetch-retries=2 --fetch-retry-mintimeout=2000 --fetch-retry-maxtimeout=10000 --fetch-timeout=60000"

node_part() {
  command -v npm >/dev/null 2>&1 || fail "npm is missing: install Node 18 or newer, the rest comes by itself"
  want="$(stamp package-lock.json package.json packages/*/package.json examples/*/package.json bench/package.json chaos/package.json) $(uname -sm) $PWD"
  if [ "$(cat .setup/npm 2>/dev/null || true)" = "$want" ] && node_modules/.bin/node --version >/dev/null 2>&1; then
    return 0
  fi
  echo "setup: npm packages (its output: .setup/npm.log)"
  rm -f .setup/npm
  # npm looks for the system's settings beside the Node that runs it: a certificate authority or a registry that is named
  # there would be lost with the Node that is installed below.
  NPM_CONFIG_GLOBALCONFIG=$(npm config get globalconfig)
  export NPM_CONFIG_GLOBALCONFIG
  if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 19) ? 0 : 1)'; then
    # Under an older Node, npm leaves out the optional packages (the linter's binary is one) that ask for a newer one.
    mkdir -p .setup/node
    version=$(node -p 'require("./package.json").devDependencies.node')
    printf '{ "private": true, "dependencies": { "node": "%s" }, "allowScripts": { "node": true } }\n' "$version" >.setup/node/package.json
    if ! (cd .setup/node && npm install $patience --ignore-scripts=false --no-audit --no-fund --loglevel=error) >.setup/node.log 2>&1; then
      cat .setup/node.log >&2
      fail "Node $version could not be installed"
    fi
    PATH=$PWD/.setup/node/node_modules/.bin:$PATH
  fi
  # `npm install`, not `npm ci`: the lock file names the platform packages of Linux only, and `npm ci` insists on all.
  # The rest is stated because a user's own settings may leave out what the tests need.
  # shellcheck disable=SC2086 # several words
  if ! npm install $patience --no-save --include=dev --include=optional --include=peer --ignore-scripts=false --no-audit --no-fund --loglevel=error >.setup/npm.log 2>&1; then
    cat .setup/npm.log >&2
    fail "npm install failed"
  fi
  node_modules/.bin/node --version >/dev/null 2>&1 || fail "the node of node_modules does not start: see .setup/npm.log"
  printf %s "$want" >.setup/npm
}

python_part() {
  python=$(python_from)
  [ -n "$python" ] || fail "Python 3.10 to 3.13 with venv is missing (set PYTHON to name one)"
  want="$(stamp infra/requirements.txt) $("$python" --version 2>&1) $(uname -sm) $PWD"
  if [ "$(cat .setup/python 2>/dev/null || true)" = "$want" ] && .venv/bin/python --version >/dev/null 2>&1; then
    return 0
  fi
  # `venv --clear` would empty the folder that it leads to, which others may use.
  if [ -L .venv ]; then fail ".venv is a link to $(readlink .venv), which does not fit: remove the link"; fi
  echo "setup: Ray in .venv (its output: .setup/python.log)"
  rm -f .setup/python
  "$python" -m venv --clear .venv
  if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement infra/requirements.txt >.setup/python.log 2>&1; then
    cat .setup/python.log >&2
    fail "pip install failed"
  fi
  printf %s "$want" >.setup/python
}

node_part &
node_job=$!
python_part &
python_job=$!
failed=0
wait "$node_job" || failed=1
wait "$python_job" || failed=1
exit "$failed"
