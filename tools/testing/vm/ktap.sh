# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# The writer of KTAP reports, for jobs and for the host's scripts. To be sourced. The
# report goes to $ktap, by default the second serial port of a virtual machine.
#
# Results go to a file first and get their numbers at the end, so background jobs may
# add some too.

: "${ktap:=/dev/ttyS1}"
case $ktap in
/dev/*) _results=/tmp/ktap.results ;;
*) _results=$ktap.results ;;
esac
_out=$_results.out
_failed=''
: >"$_results"

# ok NAME
ok()
{
	echo "ok - $1" >>"$_results"
	echo "PASS $1"
}

# not_ok NAME [FILE]: a failure, with FILE as its output.
not_ok()
{
	[ -z "${2:-}" ] || sed 's/^/# /' "$2" >>"$_results"
	echo "not ok - $1" >>"$_results"
	echo "FAIL $1"
	[ -z "${2:-}" ] || cat "$2"
}

# skip NAME REASON
skip()
{
	echo "ok - $1 # SKIP $2" >>"$_results"
	echo "SKIP $1: $2"
}

# t NAME COMMAND...: a test, which passes if COMMAND succeeds. Its output is in $_out.
t()
{
	_name=$1
	shift
	if "$@" >"$_out" 2>&1 </dev/null; then
		ok "$_name"
	else
		not_ok "$_name" "$_out"
	fi
}

# program COMMAND...: run a test program that writes a report of its own, and send that.
# ktap_end fails if COMMAND does.
program()
{
	if "$@" >"$_out" 2>&1; then
		cat "$_out" >"$ktap"
	else
		_failed=1
		tee "$ktap" <"$_out"
	fi
}

# leaks: test that no memory leaked, if the kernel can tell.
leaks()
{
	_leaks=/sys/kernel/debug/kmemleak
	if ! { echo scan >$_leaks; } 2>/dev/null; then
		skip "no memory was lost" "this kernel does not look for leaks"
		return
	fi
	# kmemleak does not report objects younger than five seconds, and one scan may
	# miss a pointer that is being moved.
	sleep 6
	echo scan >$_leaks
	echo scan >$_leaks
	t "no memory was lost" sh -c "cat $_leaks && ! grep -q . $_leaks"
}

# ktap_end: send the report. Fails if a test failed.
ktap_end()
{
	awk '
		/^(not )?ok - / { n++; sub(/ok - /, "ok " n " ") }
		{ lines[NR] = $0 }
		END {
			print "KTAP version 1\n1.." n + 0
			for (i = 1; i <= NR; i++)
				print lines[i]
		}' "$_results" >"$ktap"
	[ -z "$_failed" ] && ! grep -q '^not ok' "$_results"
}
