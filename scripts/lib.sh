# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every script here shares: where things are, how progress and failure
# are said. To be sourced.

set -euo pipefail

topdir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Everything that is downloaded or built goes below one directory, so that
# deleting it takes the tree back to what git knows.
builddir=${DRCACHE_BUILD:-$topdir/build}
mkdir -p "$builddir"

_t0=$SECONDS

# step TEXT: one progress line, with the seconds since the script began.
step()
{
	printf '[%4ds] %s\n' $((SECONDS - _t0)) "$*"
}

die()
{
	printf '%s: error: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# have COMMAND...: are all of them there?
have()
{
	local c
	for c; do
		command -v "$c" >/dev/null 2>&1 || return 1
	done
}

# quietly LOG COMMAND...: run COMMAND into LOG; on failure show its end.
quietly()
{
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		die "'$*' failed; the whole output is in $log"
	fi
}
