# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Run tests several times in one machine, for claims/mutants. To be sourced by a job. For
# each run it reports "noticed by TEST" if a test failed, and "passed" if none did.

# notice TEST: record that a test failed, if it is the first.
notice() { [ -s /tmp/noticed ] || echo "$1" >/tmp/noticed; }

# often COMMAND...: run COMMAND RUNS times; it calls notice() if a test fails. After a
# complaint of the kernel, or a failure of COMMAND, the next run might notice remains of this
# one. So this machine then reports "end", and claims/mutants starts another. If a machine
# ends without that report, the run it was in counts as noticed.
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
