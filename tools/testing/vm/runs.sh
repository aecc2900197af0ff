# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Tests that run several times in one machine, for claims/mutants. To be sourced by a
# job. It says of each run "noticed by TEST" if a test failed, "passed" if none did.

# notice TEST: a test failed. The first counts.
notice() { [ -s /tmp/noticed ] || echo "$1" >/tmp/noticed; }

# often COMMAND...: RUNS times COMMAND, which calls notice() if a test fails. If the kernel
# complains or COMMAND fails, the next run could notice what is left of this one: then this
# machine says "end", and claims/mutants goes on with another. A machine that ends
# without has noticed something too.
often()
{
	_run=0
	while [ $_run -lt "${RUNS:-1}" ]; do
		dmesg -c >/dev/null
		: >/tmp/noticed
		sh -c 'sleep 900; verdict 17' &
		_watchdog=$!
		_status=0
		("$@") || _status=$?
		kill $_watchdog
		if dmesg | grep -E 'WARNING|BUG:|Oops|Call Trace|UBSAN' >/tmp/complaints; then
			_status=1
			notice "the kernel: $(head -n 1 /tmp/complaints)"
		fi
		if [ -s /tmp/noticed ]; then
			echo "noticed by $(cat /tmp/noticed)" >/dev/ttyS1
			if [ $_status -ne 0 ]; then
				echo end >/dev/ttyS1
				exit 1
			fi
		elif [ $_status -eq 0 ]; then
			echo passed >/dev/ttyS1
		else
			exit 1
		fi
		_run=$((_run + 1))
	done
}
