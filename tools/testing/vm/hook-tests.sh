# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# The tests of a hook, with tdx_drcache loaded over the emulated host driver. To be
# sourced by a job after ktap.sh.

fails() { ! "$@"; }

# selftest NAME TEST: one of uapi's.
selftest()
{
	uapi -t "$2" >/tmp/selftest 2>&1
	status=$?
	reason=$(sed -n 's/.*# SKIP *//p' /tmp/selftest)
	if [ "$reason" ]; then
		skip "$1" "$reason"
	else
		t "$1" sh -c "cat /tmp/selftest; exit $status"
	fi
}

# An fprobe's handler is called where RCU is not watching: from 6.10 to 6.13, as none of
# the kernels here is configured to look.
fprobe_sees_idle()
{
	case $(uname -r) in
	6.1[0-3].*) return 0 ;;
	*) return 1 ;;
	esac
}
knob() { echo "$2" >/sys/module/tdx_emul/parameters/"$1"; }
l1_knob() { echo "$2" >/sys/module/mshv_vtl_emul/parameters/"$1"; }

# runs HOOK N DRCVMM-ARGUMENT...: an L2 has N exits, and all are captured. A late capture
# misses what it is not sure of, the more the busier L1 is: go on until N were captured.
runs()
{
	runs_hook=$1 runs_n=$2
	shift 2
	if [ "$runs_hook" = return ]; then
		drcvmm --hits "$runs_n" --timeout 600 "$@"
	else
		drcvmm -n "$runs_n" --max-misses 0 "$@"
	fi
}

# hook_tests HOOK
hook_tests()
{
	hook=$1
	some=100
	late=0
	[ "$hook" != return ] || late=$some
	t "$hook: GET_INFO names it" sh -c "drcbind --info | grep -q 'hook $hook'"
	t "$hook: counter" runs "$hook" $some -c 0,1 -v
	t "$hook: breakpoint" runs "$hook" $some -c 0,1 --guest breakpoint -v
	t "$hook: every way of leaving" runs "$hook" 50 -c 0,1 --guest exits -v
	knob refuse 3
	t "$hook: refused entries" refused_entries
	knob refuse 0

	l1_knob reenter 2
	t "$hook: the last of three exits in one ioctl" \
		runs "$hook" $some --verify=guest
	t "$hook: the upper bits of the enter mode mean nothing" \
		runs "$hook" $some --enter 0x10 --verify=guest
	blind="runs $hook $some"
	if [ "$hook" = fprobe ] && ! fprobe_sees_idle; then
		# It must not guess.
		blind="drcvmm -n $some --min-misses $some"
	fi
	if [ "$hook" = fprobe ] && [ -e /proc/lockdep ]; then
		skip "$hook: RCU not watching" "lockdep complains of the kernel's own fprobe code"
	else
		# shellcheck disable=SC2086
		t "$hook: the last of three, RCU not watching" $blind --enter 1 --verify=guest
		l1_knob reenter 0
		# shellcheck disable=SC2086
		t "$hook: RCU not watching" $blind --enter 1 --verify=guest
		idle_thread_test
	fi
	l1_knob reenter 0
	[ "$hook" != fprobe ] || ftrace_tests
	selftest "$hook: the preemption timer's reason" preemption_timer_reason
	selftest "$hook: a halt that ends by its deadline is no exit" halt_is_no_exit
	selftest "$hook: a 32-bit caller" compat_caller
	selftest "$hook: a run page that never comes holds up nobody" run_page_that_never_comes
	t "$hook: signals with handlers" runs "$hook" $some --signals 200 --verify=guest
	t "$hook: GET_INFO beside owners that come and go counts no exit twice" info_beside_owners

	# Changes that L1 makes after the exit must not pass for the L2's.
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
	# It stays. A hit resets DR6, and changes nothing else that could be seen later.
	l1_knob after_exit 5
	t "$hook: a breakpoint of L1's that stays is hit between exit and return" \
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
		runs "$hook" $some --verify=guest
	t "$hook: it did" sh -c "[ \$(cut -d' ' -f14 /proc/$busy/stat) -gt 0 ]"
	kill $busy
	wait $busy
	l1bp 0 >/tmp/l1bp &
	l1bp=$!
	until grep -q placed /tmp/l1bp; do sleep 0.1; done
	if [ "$hook" = return ]; then
		t "$hook: each exit beside a breakpoint of L1's is a miss" \
			drcvmm -n 100 --verify=guest --min-misses 100
	else
		t "$hook: snapshots beside a breakpoint of L1's say so" sh -c '
			drcvmm -n 100 --verify=guest --max-misses 0 >/tmp/hwbp &&
			grep -q " 100 with L1_HWBP" /tmp/hwbp'
	fi
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
	t "$hook: and an L2 runs there as before" runs "$hook" $some -c 1 -v
	exclusive_tests
}

# hold CPU: own the vCPU exclusively until release().
hold()
{
	: >/tmp/hold
	drcbind --hold --exclusive --run-page "$1" >/tmp/hold &
	holder=$!
	until grep -q . /tmp/hold; do sleep 0.1; done
}

# release [SIGNAL]
release()
{
	kill "${1:--TERM}" "$holder"
	wait "$holder"
}

# place CPU: a breakpoint of L1's on it, which stays until it is killed. Its process is $bp.
place()
{
	: >/tmp/place
	l1bp "$1" >/tmp/place 2>&1 &
	bp=$!
	until grep -q . /tmp/place; do usleep 10000; done
	grep -q placed /tmp/place
}

# free_slots CPU N: it can have N breakpoints, and then no more, for want of room.
free_slots()
{
	_bps='' _free=0
	while place "$1"; do
		_bps="$_bps $bp" _free=$((_free + 1))
		[ $_free -lt 9 ] || break
	done
	[ $_free -ge 9 ] || wait "$bp"
	# shellcheck disable=SC2086
	[ -z "$_bps" ] || { kill $_bps; wait $_bps; }
	cat /tmp/place
	echo "$_free breakpoints, $2 wanted"
	[ $_free -eq "$2" ] && grep -q 'No space left' /tmp/place
}

# answers CPU WORD [OPTION]: BIND answers with this.
answers()
{
	_got=$(drcbind --run-page ${3:+"$3"} "$1")
	echo "$_got"
	[ "$_got" = "$2" ]
}

set_cpu1() { echo "$1" >/sys/devices/system/cpu/cpu1/online; }

# hits DRCVMM-ARGUMENT...: nearly every exit is captured, and right. With the return hook one
# is missed at times, if another task was on its way to user space just before the entry.
hits()
{
	if [ "$hook" = return ]; then
		drcvmm -n 200 --exclusive --verify=guest --max-misses 10 "$@" >/tmp/hits
	else
		drcvmm -n 100 --exclusive --verify=guest --max-misses 0 "$@" >/tmp/hits
	fi
	_status=$?
	cat /tmp/hits
	[ $_status -eq 0 ] && grep -q ' 0 with L1 breakpoints' /tmp/hits &&
		! grep -q L1_HWBP$ /tmp/hits && grep -q ' 0 unwritten and unlike' /tmp/hits
}

# The breakpoint registers are kept from L1.
exclusive_tests()
{
	x="$hook, exclusive"
	t "$x: counter" hits -c 0,1
	t "$x: breakpoint" hits -c 0,1 --guest breakpoint
	t "$x: every way of leaving" runs "$hook" 50 -c 0,1 --exclusive --guest exits -v
	# Its breakpoints are refused, so that 2 to 5 do nothing to a register; nor does 1.
	for what in 1 2 3 4 5; do
		l1_knob after_exit $what
		t "$x: L1 tries what would be a miss, $what" hits
	done
	l1_knob after_exit 1
	t "$x: another system call after the exit" hits --syscall
	l1_knob after_exit 4
	drcvmm -n 2 >/dev/null
	t "$x: BIND beside a breakpoint of the kernel's own is ENOSPC" answers 0 ENOSPC --exclusive
	l1_knob after_exit 0
	drcvmm -n 2 >/dev/null
	t "$x: and no more when that is gone" answers 0 bound --exclusive
	if [ "$(cat /sys/module/mshv_vtl_emul/parameters/idle_thread)" = Y ] &&
	   { [ "$hook" != fprobe ] || { fprobe_sees_idle && [ ! -e /proc/lockdep ]; }; }; then
		t "$x: idle thread" hits --enter 2
	else
		skip "$x: idle thread" "no idle routine here, or an fprobe that is blind in it"
	fi

	hold 0
	t "$x: no breakpoint for the CPU" free_slots 0 0
	t "$x: those of another CPU" free_slots 1 4
	release
	t "$x: and all when the owner is gone" free_slots 0 4
	hold 0
	release -KILL
	t "$x: or was killed" free_slots 0 4

	place 1
	others=$bp
	t "$x: exits beside a breakpoint of another CPU" hits -c 0
	t "$x: BIND beside one of the CPU is ENOSPC" answers 1 ENOSPC --exclusive
	t "$x: that leaves the other three slots free" free_slots 1 3
	t "$x: without the flag it can be bound" answers 1 bound
	kill "$others"
	wait "$others"
	t "$x: with the flag it can when the breakpoint is gone" answers 1 bound --exclusive
	hold 0
	t "$x: BIND of an owned vCPU is EBUSY" answers 0 EBUSY --exclusive
	t "$x: and its owner keeps the slots" free_slots 0 0
	release

	hold 1
	set_cpu1 0
	t "$x: the CPU is offline: BIND is ENXIO" answers 1 ENXIO --exclusive
	set_cpu1 1
	t "$x: it is back, and its slots are the owner's still" free_slots 1 0
	release
	t "$x: until that is gone" free_slots 1 4
	hold 1
	set_cpu1 0
	release
	set_cpu1 1
	t "$x: the owner goes while the CPU is offline" free_slots 1 4
	t "$x: and an L2 runs there" hits -c 1

	sleep_test

	hold 0
	t "$x: the module stays while a vCPU has an owner" fails rmmod tdx_drcache
	release
	if rmmod tdx_drcache 2>/dev/null; then
		t "$x: all slots are free without the module" free_slots 0 4
		insmod tdx_drcache.ko "hook=$hook"
	else
		skip "$x: all slots are free without the module" "modules stay on this kernel"
	fi
}

refused_entries()
{
	runs "$hook" "$some" -v >/tmp/refused
	ret=$?
	cat /tmp/refused
	[ $ret -eq 0 ] && grep -q ' [1-9][0-9]* refused entries' /tmp/refused
}

# Hibernate L1 a few times beside an L2. Without swap space it makes an image and goes on:
# unlike suspend to memory, that needs no alarm, which may ring too early on a busy machine.
# The boot CPU goes on with L1's debug registers, and tasks were frozen on their way back:
# the return hook has a miss for each time at least, and the others have none.
sleeps()
{
	part=1000
	while [ $part -le 64000 ]; do
		drcvmm -n $part --exclusive --verify=guest --timeout 300 >/tmp/sleeps 2>&1 &
		vmm=$!
		drcbind --wait 0
		slept=0
		while [ $slept -lt 4 ] && kill -0 $vmm 2>/dev/null; do
			images=$(images)
			echo disk 2>/dev/null >/sys/power/state
			[ "$(images)" -gt "$images" ] || return 1
			slept=$((slept + 1))
		done
		wait $vmm || { cat /tmp/sleeps; return 1; }
		[ $slept -lt 3 ] || break
		part=$((4 * part))
	done
	lost=$(sed -n 's/^  kernel: .*[ ,]\([0-9]*\) lost.*/\1/p' /tmp/sleeps)
	echo "slept $slept times, $lost lost"
	if [ "$hook" = return ]; then
		# The last may have been after the VMM.
		[ "$slept" -ge 3 ] && [ "$lost" -ge $((slept - 1)) ]
	else
		[ "$slept" -ge 3 ] && [ "$lost" -eq 0 ]
	fi
}

# Images that L1 has made, and found no place for.
images() { dmesg | grep -c 'PM: Cannot find swap device'; }

sleep_test()
{
	if grep -qs disk /sys/power/state; then
		t "$x: L1 sleeps and wakes up" sleeps
	else
		skip "$x: L1 sleeps and wakes up" "this kernel cannot hibernate"
	fi
}

# enters [MODE]: some VMM enters an L2 twice from now on, so it has an exit. The mode is 0
# fast, 1 play idle or 2 idle thread.
enters()
{
	_mode=${1:-0} _tries=0 _before=''
	until [ $_tries -eq 10000 ]; do
		read -r _0 _1 _2 </sys/module/mshv_vtl_emul/parameters/entries
		eval "_now=\$_$_mode"
		: "${_before:=$_now}"
		[ "$_now" -lt $((_before + 2)) ] || return 0
		_tries=$((_tries + 1))
		usleep 10000
	done
	echo "no exit"
	return 1
}

# Owners come and go on a CPU whose idle task enters the L2 of a VMM that is none.
beside_idle()
{
	drcvmm -r mshv --enter 2 -n 1000000000 --timeout 86400 >/dev/null &
	vmm=$!
	i=0 ret=0
	while [ $i -lt 20 ] && [ $ret -eq 0 ]; do
		drcbind --run-page 0 >/dev/null && enters 2 || ret=1
		i=$((i + 1))
	done
	kill $vmm || ret=1
	wait $vmm
	return $ret
}

# The idle task enters the L2, and the VMM's task is switched away from.
idle_thread_test()
{
	if [ "$(cat /sys/module/mshv_vtl_emul/parameters/idle_thread)" != Y ]; then
		skip "$hook: idle thread" "the stand-in has no idle routine on this kernel"
		return
	fi
	misses=0
	if [ "$hook" = return ] || ! { [ "$hook" = callout ] || fprobe_sees_idle; }; then
		misses=$some
	fi
	t "$hook: idle thread" drcvmm -n "$some" --enter 2 --verify=guest \
		--min-misses "$misses" --max-misses "$misses"
	l1_knob reenter 2
	t "$hook: comes and goes beside exits to the idle task" beside_idle
	t "$hook: idle thread, the last of three" drcvmm -n "$some" --enter 2 --verify=guest \
		--min-misses "$misses" --max-misses "$misses"
	l1_knob reenter 0
}

# The fprobe is not called while kernel.ftrace_enabled is 0.
ftrace_tests()
{
	enabled=/proc/sys/kernel/ftrace_enabled
	if [ ! -e $enabled ]; then
		skip "$hook: kernel.ftrace_enabled" "this kernel has no such sysctl"
		return
	fi
	if ! echo 0 >$enabled; then
		skip "$hook: kernel.ftrace_enabled" "this kernel does not let it be set to 0"
		return
	fi
	echo 1 >$enabled
	l1_knob reenter 3
	drcvmm -n 1000000 --timeout 600 --verify=guest --max-misses 0 >/tmp/ftrace 2>&1 &
	vmm=$!
	drcbind --wait 0
	t "$hook: tracing cannot be switched off while a vCPU is bound" sh -c "
		! echo 0 >$enabled && [ \$(cat $enabled) = 1 ]"
	kill $vmm
	wait $vmm
	l1_knob reenter 0
	t "$hook: and can be when none is" sh -c "echo 0 >$enabled"
	t "$hook: BIND and GET_INFO say that there is no hook then" sh -c '
		drcbind --run-page 0 | grep -q ENODEV && dmesg | grep -q ftrace_enabled &&
		drcbind --info | grep -q "hook none, host none"'
	echo 1 >$enabled
	t "$hook: and one when tracing is on again" drcvmm -n 50 -v --max-misses 0
}

# As many snapshots are published as are taken: no exit is seen twice.
info_beside_owners()
{
	: >/tmp/go-on
	taskset 2 sh -c 'while [ -e /tmp/go-on ]; do drcbind --info >/dev/null; done' &
	infos=$!
	i=0 ret=0
	while [ $i -lt 10 ] && [ $ret -eq 0 ]; do
		drcvmm -n 20 >/tmp/owner || ret=1
		[ "$(sed -n 's/.*exits, \([0-9]*\) captured.*/\1/p
			s/.*kernel: \([0-9]*\) published.*/\1/p' /tmp/owner | uniq | wc -l)" = 1 ] ||
			ret=1
		i=$((i + 1))
	done
	rm /tmp/go-on
	wait $infos
	cat /tmp/owner
	return $ret
}

# Load and unload tdx_drcache so often beside a VMM that does not use it, one time
# in four bound by somebody else in between. The VMM has an exit with each.
load_often()
{
	drcvmm -r mshv -n 1000000000 --timeout 86400 >/dev/null &
	vmm=$!
	i=0 ret=0
	while [ $i -lt "$1" ] && [ $ret -eq 0 ]; do
		rmmod tdx_drcache && insmod tdx_drcache.ko && enters || ret=1
		[ $((i % 4)) -ne 0 ] || drcbind 1 >/dev/null || ret=1
		i=$((i + 1))
		[ $((i % 100)) -ne 0 ] || echo "$i loads" >/dev/ttyS0
	done
	kill $vmm || ret=1
	return $ret
}

# loads TIMES
loads()
{
	t "tdx_drcache loads and unloads $1 times beside a VMM" load_often "$1"
	wait
}
