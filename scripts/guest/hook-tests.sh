# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# The tests of a hook, with tdx_drcache loaded over the emulated host driver. To be
# sourced by a job after ktap.sh.

fails() { ! "$@"; }
knob() { echo "$2" >/sys/module/tdx_emul/parameters/"$1"; }
l1_knob() { echo "$2" >/sys/module/mshv_vtl_emul/parameters/"$1"; }

# hook_tests HOOK
hook_tests()
{
	hook=$1
	some=100
	# A late capture misses what it is not sure of, the more the busier L1 is.
	exact=0 late=0
	[ "$hook" != return ] || exact=$((some - 1)) late=$some
	t "$hook: GET_INFO names it" sh -c "drcbind --info | grep -q 'hook $hook'"
	t "$hook: counter" drcvmm -c 0,1 -n $some -v --max-misses $exact
	t "$hook: breakpoint" drcvmm -c 0,1 --guest breakpoint -n $some -v --max-misses $exact
	t "$hook: every way of leaving" drcvmm -c 0,1 --guest exits -n 50 -v
	knob refuse 3
	t "$hook: refused entries" drcvmm -n $some -v --max-misses $exact
	knob refuse 0

	l1_knob reenter 2
	t "$hook: the last of three exits in one ioctl" \
		drcvmm -n $some --verify=guest --max-misses $exact
	# fprobe is blind while RCU is not watching: it must not guess.
	blind=$exact must_miss=0
	[ "$hook" != fprobe ] || blind=$some must_miss=$some
	if [ "$hook" = fprobe ] && [ -e /proc/lockdep ]; then
		# 6.12 looks the return address up before it finds that RCU is not
		# watching, and then skips the handler.
		skip "$hook: RCU not watching" "lockdep complains of the kernel's own fprobe code"
	else
		t "$hook: the last of three, RCU not watching from the second on" \
			drcvmm -n $some --enter 0x10 --verify=guest --min-misses $must_miss \
			--max-misses $blind
		l1_knob reenter 0
		t "$hook: RCU not watching" drcvmm -n $some --enter 1 --verify=guest \
			--min-misses $must_miss --max-misses $blind
	fi
	l1_knob reenter 0

	# What L1 does to the registers after the exit is not taken for the L2's.
	for what in 1 2 3; do
		case $what in
		1) desc="another task runs" ;;
		2) desc="a breakpoint comes to the CPU and goes" ;;
		3) desc="L1 has a debug exception" ;;
		esac
		l1_knob after_exit $what
		t "$hook: $desc between exit and return" \
			drcvmm -n 100 --verify=guest --min-misses $((late ? 100 : 0)) \
			--max-misses $((late ? 100 : 0))
	done
	# It is there at every second exit. What is captured says so, or has it not.
	l1_knob after_exit 4
	t "$hook: a breakpoint of the CPU goes by itself between exit and return" \
		drcvmm -n 100 --verify=guest --min-misses $((late ? 100 : 0)) \
		--max-misses $((late ? 100 : 0))
	l1_knob after_exit 1
	t "$hook: and a later system call does not make it look intact" \
		drcvmm -n 100 --syscall --verify=guest --min-misses $((late ? 100 : 0)) \
		--max-misses $((late ? 100 : 0))
	l1_knob after_exit 0

	t "$hook: a VMM on another CPU gets nothing" \
		drcvmm -c 1 --bind 0 -n 100 --min-misses 100
	taskset 1 sh -c 'while :; do :; done' &
	busy=$!
	t "$hook: another process runs on the CPU" \
		drcvmm -n $some --verify=guest --max-misses $((late ? some : 0))
	kill $busy
	wait $busy
	l1bp 0 >/dev/null &
	l1bp=$!
	sleep 0.5
	t "$hook: snapshots beside a breakpoint of L1's say so" sh -c '
		drcvmm -n 100 --verify=guest >/tmp/hwbp
		n=$(sed -n "s/.*exits, \([0-9]*\) captured.*/\1/p" /tmp/hwbp)
		grep -q " $n with L1_HWBP" /tmp/hwbp && [ "$n" -ge 1 ]'
	kill $l1bp
	wait $l1bp

	# Nobody is in an L2 then: the stand-in's vCPUs do not outlive their CPU.
	drcbind --hold --run-page 1 >/tmp/hold &
	holder=$!
	until grep -q . /tmp/hold; do sleep 0.1; done
	t "$hook: the CPU goes and comes back while it is bound" sh -c '
		cpu=/sys/devices/system/cpu/cpu1/online
		echo 0 >$cpu && drcbind --run-page 1 | grep -q ENXIO &&
		echo 1 >$cpu && drcbind --run-page 1 | grep -q EBUSY'
	kill $holder
	wait $holder
	t "$hook: and an L2 runs there as before" drcvmm -c 1 -n $some -v --max-misses $exact
}

# Load and unload tdx_drcache so often beside a VMM that does not use it, one time
# in four bound by somebody else in between.
load_often()
{
	drcvmm -r mshv -n 1000000000 --timeout 86400 >/dev/null &
	vmm=$!
	i=0
	while [ $i -lt "$1" ]; do
		rmmod tdx_drcache && insmod tdx_drcache.ko || return 1
		[ $((i % 4)) -ne 0 ] || drcbind 1 >/dev/null || return 1
		i=$((i + 1))
		[ $((i % 100)) -ne 0 ] || echo "$i loads" >/dev/ttyS0
	done
	kill -0 $vmm && kill $vmm
}

# loads TIMES
loads()
{
	t "tdx_drcache loads and unloads $1 times beside a VMM" load_often "$1"
	wait
}
