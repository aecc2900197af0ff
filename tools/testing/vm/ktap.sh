# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# KTAP reports for shell scripts. To be sourced by a job.

_n=0
_bad=0
_results=/tmp/ktap.results
: >$_results

# t NAME COMMAND...: a test, which passes if COMMAND succeeds.
t()
{
	_name=$1
	shift
	_n=$((_n + 1))
	if "$@" >/tmp/t.out 2>&1; then
		echo "ok $_n $_name" >>$_results
		echo "PASS $_name"
	else
		_bad=$((_bad + 1))
		sed 's/^/# /' /tmp/t.out >>$_results
		echo "not ok $_n $_name" >>$_results
		echo "FAIL $_name"
		cat /tmp/t.out
	fi
}

# skip NAME REASON
skip()
{
	_n=$((_n + 1))
	echo "ok $_n $1 # SKIP $2" >>$_results
	echo "SKIP $1: $2"
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
	{
		echo "KTAP version 1"
		echo "1..$_n"
		cat $_results
	} >/dev/ttyS1
	[ $_bad -eq 0 ]
}
