# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by all scripts: directories, usage texts, progress and error messages. To be
# sourced.

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

# usage: print the script's opening comment, which begins with "usage: ".
usage()
{
	sed -n '/^# usage: /,/^$/s/^# \{0,1\}//p' "$0"
}

misused()
{
	usage >&2
	exit 2
}

# no_options ARGUMENT...: print the usage for --help, and refuse any other option.
no_options()
{
	case ${1:-} in
	-h | --help) usage; exit ;;
	-*) misused ;;
	esac
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
