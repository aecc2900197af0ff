# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by all scripts: directories, progress and error messages. To be sourced.

set -euo pipefail

topdir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034
vm=$topdir/tools/testing/vm kernels=$topdir/tools/testing/kernels claims=$topdir/tools/testing/claims

# All downloads and builds go below one directory. Deleting it restores a clean
# tree.
builddir=${DRCACHE_BUILD:-$topdir/build}
mkdir -p "$builddir"

_t0=$SECONDS

# step TEXT: print a progress line, with the seconds since the script began.
step()
{
	printf '[%4ds] %s\n' $((SECONDS - _t0)) "$*"
}

die()
{
	printf '%s: error: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# have COMMAND...: succeed if all of the commands exist.
have()
{
	local c
	for c; do
		command -v "$c" >/dev/null 2>&1 || return 1
	done
}

# have_rust: succeed if there is a rustc that can build the Rust reader.
have_rust()
{
	rustc --edition 2024 --print cfg >/dev/null 2>&1
}

# quietly LOG COMMAND...: run COMMAND with its output in LOG; on failure show the end.
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
