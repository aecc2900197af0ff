# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Report in KTAP from a shell script. To be sourced by a job.

_n=0
_bad=0
_results=/tmp/ktap.results
: >$_results

# t NAME COMMAND...: a test is a command that succeeds.
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

# leaks: a test that no memory was lost, where the kernel can tell.
leaks()
{
	_leaks=/sys/kernel/debug/kmemleak
	if ! { echo scan >$_leaks; } 2>/dev/null; then
		skip "no memory was lost" "this kernel does not look for leaks"
		return
	fi
	# What is younger than five seconds is not reported, and a pointer on its
	# way from one place to another is missed once.
	sleep 6
	echo scan >$_leaks
	echo scan >$_leaks
	t "no memory was lost" sh -c "cat $_leaks && ! grep -q . $_leaks"
}

# ktap_end: send the report. Fails if a test did.
ktap_end()
{
	{
		echo "KTAP version 1"
		echo "1..$_n"
		cat $_results
	} >/dev/ttyS1
	[ $_bad -eq 0 ]
}
