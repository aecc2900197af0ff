# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Test a hook, with tdx_drcache loaded over the emulated host driver, and functions that
# other jobs use too. To be sourced by a job, in place of ktap.sh.

# shellcheck source=tools/testing/vm/ktap.sh
. /bin/ktap.sh

fails() { ! "$@"; }

# start_vmm DRCVMM-ARGUMENT...: run a VMM until stop_vmm. Its process is $vmm.
start_vmm()
{
	drcvmm -n 1000000000 --timeout 86400 "$@" >/tmp/vmm.out 2>&1 &
	vmm=$!
}

# stop_vmm: fails if the VMM has died.
stop_vmm()
{
	kill "$vmm" || return
	wait "$vmm"
	true
}

# selftest NAME TEST: run a test of the program uapi.
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

# fprobe_sees_idle: succeed if an fprobe's handler is called where RCU is not watching.
# It is from 6.10 to 6.13, as none of the kernels here is configured to check that.
fprobe_sees_idle()
{
	case $(uname -r) in
	6.1[0-3].*) return 0 ;;
	*) return 1 ;;
	esac
}
# can_bind NAME: skip the tests of NAME if this kernel cannot have the hook.
can_bind()
{
	drcbind --run-page 0 >/tmp/bind ||
		{ skip "$1" "this kernel cannot have it: $(cat /tmp/bind)"; return 1; }
}

has_idle_thread()
{
	[ "$(cat /sys/module/mshv_vtl_emul/parameters/idle_thread 2>/dev/null)" = Y ]
}

knob() { echo "$2" >/sys/module/tdx_emul/parameters/"$1"; }
l1_knob() { echo "$2" >/sys/module/mshv_vtl_emul/parameters/"$1"; }

# runs HOOK N DRCVMM-ARGUMENT...: an L2 has N exits, and all are captured. The return hook
# captures late, and misses each exit that it is not sure of; a busy L1 has more of these.
# With it the L2 runs until N exits were captured.
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

# none_if_late DRCVMM-ARGUMENT...: all exits are captured; with the return hook, which
# captures late, all are misses.
none_if_late()
{
	drcvmm -n 100 --verify=guest --min-misses "$late" --max-misses "$late" "$@"
}

# hook_tests HOOK
hook_tests()
{
	hook=$1
	some=100
	late=0
	[ "$hook" != return ] || late=$some
	t "$hook: GET_INFO names it" sh -c "drcstat info | grep -qx 'hook  *$hook'"
	t "$hook: counter" runs "$hook" $some -c 0,1 -v
	t "$hook: breakpoint" runs "$hook" $some -c 0,1 --guest breakpoint -v
	t "$hook: every kind of exit" runs "$hook" 50 -c 0,1 --guest exits -v
	knob refuse 3
	t "$hook: refused entries" refused_entries
	knob refuse 0

	l1_knob reenter 2
	t "$hook: the last of three exits in one ioctl" \
		runs "$hook" $some --verify=guest
	t "$hook: the upper bits of the enter mode are ignored" \
		runs "$hook" $some --enter 0x10 --verify=guest
	blind="runs $hook $some"
	if [ "$hook" = fprobe ] && ! fprobe_sees_idle; then
		# Where the fprobe is not called, every exit must be a miss.
		blind="drcvmm -n $some --min-misses $some"
	fi
	if [ "$hook" = fprobe ] && [ -e /proc/lockdep ]; then
		skip "$hook: RCU not watching" "lockdep complains about the kernel's own fprobe code"
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
	selftest "$hook: a halt that ends at its deadline is not an exit" halt_is_no_exit
	selftest "$hook: a 32-bit caller" compat_caller
	selftest "$hook: a run page that never comes blocks no other file" run_page_that_never_comes
	t "$hook: signals with handlers" runs "$hook" $some --signals 200 --verify=guest
	t "$hook: GET_INFO while owners come and go counts no exit twice" info_beside_owners

	# Changes that L1 makes after the exit must not be taken for the L2's. The breakpoint
	# of 4 is there at every second exit; a snapshot has L1_HWBP, or not its address. The
	# one of 5 stays: a hit resets DR6, and changes nothing else that can be seen later.
	for what in 1 2 3 4 5; do
		case $what in
		1) desc="another task runs" ;;
		2) desc="a breakpoint comes to the CPU and goes" ;;
		3) desc="L1 has a debug exception" ;;
		4) desc="a one-shot breakpoint of the CPU removes itself" ;;
		5) desc="a breakpoint of L1's that stays is hit" ;;
		esac
		l1_knob after_exit $what
		t "$hook: $desc between exit and return" none_if_late
	done
	l1_knob after_exit 1
	t "$hook: a later system call does not make the registers look intact" \
		none_if_late --syscall
	l1_knob after_exit 0

	t "$hook: a VMM on another CPU gets nothing" \
		drcvmm -c 1 --bind 0 -n 100 --min-misses 100
	taskset 1 sh -c 'while :; do :; done' &
	busy=$!
	t "$hook: another process runs on the CPU" \
		runs "$hook" $some --verify=guest
	t "$hook: the other process did run" sh -c "[ \$(cut -d' ' -f14 /proc/$busy/stat) -gt 0 ]"
	kill $busy
	wait $busy
	place 0
	if [ "$hook" = return ]; then
		t "$hook: each exit beside a breakpoint of L1's is a miss" \
			drcvmm -n 100 --verify=guest --min-misses 100
	else
		t "$hook: snapshots beside a breakpoint of L1's have L1_HWBP" sh -c '
			drcvmm -n 100 --verify=guest --max-misses 0 >/tmp/hwbp &&
			grep -q " 100 with L1_HWBP" /tmp/hwbp'
	fi
	unplace

	# No VMM runs meanwhile: mshv_vtl_emul's vCPUs do not outlive their CPU.
	hold 1
	t "$hook: the CPU goes offline and comes back while it is bound" sh -c '
		cpu=/sys/devices/system/cpu/cpu1/online
		echo 0 >$cpu && drcbind --run-page 1 | grep -q ENXIO &&
		echo 1 >$cpu && drcbind --run-page 1 | grep -q EBUSY'
	release
	t "$hook: an L2 runs on the CPU that came back" runs "$hook" $some -c 1 -v
	exclusive_tests
}

# hold CPU [OPTION]: own the vCPU until release. drcbind's result is in /tmp/hold.
hold()
{
	: >/tmp/hold
	drcbind --hold --run-page ${2:+"$2"} "$1" >/tmp/hold &
	holder=$!
	until grep -q . /tmp/hold; do sleep 0.1; done
}

# release [SIGNAL]
release()
{
	kill "${1:--TERM}" "$holder"
	wait "$holder"
}

# place CPU: give L1 a breakpoint on the CPU, until its process $bp is killed.
place()
{
	: >/tmp/place
	l1bp "$1" >/tmp/place 2>&1 &
	bp=$!
	until grep -q . /tmp/place; do usleep 10000; done
	grep -q placed /tmp/place
}

# unplace: remove the last breakpoint of place.
unplace()
{
	kill "$bp"
	wait "$bp"
}

# free_slots CPU N: L1 can place N breakpoints on the CPU; the next has no space left.
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

# answers CPU WORD [OPTION]: drcbind prints WORD: bound, or an errno.
answers()
{
	_got=$(drcbind --run-page ${3:+"$3"} "$1")
	echo "$_got"
	[ "$_got" = "$2" ]
}

set_cpu1() { echo "$1" >/sys/devices/system/cpu/cpu1/online; }

# hits DRCVMM-ARGUMENT...: every exit is captured, with the right registers. The return hook
# may miss a few: those just before whose entry another task returned to user space.
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

# L1 must not get the CPU's breakpoint registers.
exclusive_tests()
{
	x="$hook, exclusive"
	t "$x: counter" hits -c 0,1
	t "$x: breakpoint" hits -c 0,1 --guest breakpoint
	t "$x: every kind of exit" runs "$hook" 50 -c 0,1 --exclusive --guest exits -v
	# L1's breakpoints are refused, so 2 to 5 change no register; nor does 1.
	for what in 1 2 3 4 5; do
		l1_knob after_exit $what
		t "$x: no miss although L1 tries to cause one, way $what" hits
	done
	l1_knob after_exit 1
	t "$x: another system call after the exit" hits --syscall
	l1_knob after_exit 4
	drcvmm -n 2 >/dev/null
	t "$x: BIND fails with ENOSPC beside a breakpoint of the kernel's own" \
		answers 0 ENOSPC --exclusive
	l1_knob after_exit 0
	drcvmm -n 2 >/dev/null
	t "$x: BIND succeeds when that breakpoint is gone" answers 0 bound --exclusive
	if has_idle_thread && { [ "$hook" != fprobe ] || { fprobe_sees_idle && [ ! -e /proc/lockdep ]; }; }; then
		t "$x: idle thread" hits --enter 2
	else
		skip "$x: idle thread" "no idle routine here, or an fprobe that is blind in it"
	fi

	hold 0 --exclusive
	t "$x: L1 can place no breakpoint on the CPU" free_slots 0 0
	t "$x: L1 can place four on another CPU" free_slots 1 4
	release
	t "$x: all four slots are free after the owner leaves" free_slots 0 4
	hold 0 --exclusive
	release -KILL
	t "$x: all four slots are free after the owner is killed" free_slots 0 4

	place 1
	others=$bp
	t "$x: exits beside a breakpoint of another CPU" hits -c 0
	t "$x: BIND fails with ENOSPC beside a breakpoint of the CPU" answers 1 ENOSPC --exclusive
	t "$x: the failed BIND leaves the other three slots free" free_slots 1 3
	t "$x: BIND without the flag succeeds beside the breakpoint" answers 1 bound
	bp=$others
	unplace
	t "$x: BIND with the flag succeeds after the breakpoint is gone" answers 1 bound --exclusive
	hold 0 --exclusive
	t "$x: BIND of an owned vCPU fails with EBUSY" answers 0 EBUSY --exclusive
	t "$x: the failed BIND leaves the slots to the owner" free_slots 0 0
	release

	hold 1 --exclusive
	set_cpu1 0
	t "$x: BIND fails with ENXIO while the CPU is offline" answers 1 ENXIO --exclusive
	set_cpu1 1
	t "$x: the owner still has the slots of a CPU that came back" free_slots 1 0
	release
	t "$x: all four slots are free after that owner leaves" free_slots 1 4
	hold 1 --exclusive
	set_cpu1 0
	release
	set_cpu1 1
	t "$x: all four slots are free if the owner left while the CPU was offline" free_slots 1 4
	t "$x: an L2 runs on that CPU" hits -c 1

	sleep_test

	hold 0 --exclusive
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

# Hibernate L1 a few times beside an L2. Without swap space L1 makes an image and then goes
# on. Unlike suspend to memory this needs no alarm, which may ring too early on a busy
# machine. The boot CPU restores L1's debug registers, and tasks are frozen on their way to
# user space. So the return hook has at least one miss each time; the others have none.
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
		# The VMM may have ended before the last hibernation.
		[ "$slept" -ge 3 ] && [ "$lost" -ge $((slept - 1)) ]
	else
		[ "$slept" -ge 3 ] && [ "$lost" -eq 0 ]
	fi
}

# Count the images that L1 has made and found no place for.
images() { dmesg | grep -c 'PM: Cannot find swap device'; }

sleep_test()
{
	if grep -qs disk /sys/power/state; then
		t "$x: L1 sleeps and wakes up" sleeps
	else
		skip "$x: L1 sleeps and wakes up" "this kernel cannot hibernate"
	fi
}

# enters [MODE]: wait until a VMM has entered an L2 twice more, and so had an exit. MODE is 0
# (fast, the default), 1 (play idle) or 2 (idle thread).
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

# Owners come and go on a CPU whose idle task enters the L2 of a VMM that is not an owner.
beside_idle()
{
	start_vmm -r mshv --enter 2
	i=0 ret=0
	while [ $i -lt 20 ] && [ $ret -eq 0 ]; do
		drcbind --run-page 0 >/dev/null && enters 2 || ret=1
		i=$((i + 1))
	done
	stop_vmm || ret=1
	return $ret
}

# The idle task enters the L2, after a switch away from the VMM's task.
idle_thread_test()
{
	if ! has_idle_thread; then
		skip "$hook: idle thread" "mshv_vtl_emul has no idle routine on this kernel"
		return
	fi
	misses=0
	if [ "$hook" = return ] || ! { [ "$hook" = callout ] || fprobe_sees_idle; }; then
		misses=$some
	fi
	t "$hook: idle thread" drcvmm -n "$some" --enter 2 --verify=guest \
		--min-misses "$misses" --max-misses "$misses"
	l1_knob reenter 2
	t "$hook: owners come and go beside exits to the idle task" beside_idle
	t "$hook: idle thread, the last of three" drcvmm -n "$some" --enter 2 --verify=guest \
		--min-misses "$misses" --max-misses "$misses"
	l1_knob reenter 0
}

# Ftrace does not call the fprobe while kernel.ftrace_enabled is 0.
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
	t "$hook: tracing can be switched off while no vCPU is bound" sh -c "echo 0 >$enabled"
	t "$hook: BIND and GET_INFO report no hook while tracing is off" sh -c '
		drcbind --run-page 0 | grep -q ENODEV && dmesg | grep -q ftrace_enabled &&
		drcstat info >/tmp/info && grep -qx "hook  *none" /tmp/info &&
		grep -qx "host  *none" /tmp/info'
	echo 1 >$enabled
	t "$hook: the hook works when tracing is on again" drcvmm -n 50 -v --max-misses 0
}

# GET_INFO looks for a hook again and again, while owners place and remove theirs. The module
# publishes as many snapshots as the VMM takes: no exit is seen twice.
info_beside_owners()
{
	: >/tmp/go-on
	taskset 2 sh -c 'while [ -e /tmp/go-on ]; do drcstat info >/dev/null; done' &
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

# load_often TIMES: load and unload tdx_drcache beside a VMM that does not use it, and wait
# for an exit each time. Every fourth time another process binds to a vCPU before the next.
load_often()
{
	start_vmm -r mshv
	i=0 ret=0
	while [ $i -lt "$1" ] && [ $ret -eq 0 ]; do
		rmmod tdx_drcache && insmod tdx_drcache.ko && enters || ret=1
		[ $((i % 4)) -ne 0 ] || drcbind 1 >/dev/null || ret=1
		i=$((i + 1))
		[ $((i % 100)) -ne 0 ] || echo "$i loads" >/dev/ttyS0
	done
	stop_vmm || ret=1
	return $ret
}

# loads TIMES
loads()
{
	t "tdx_drcache loads and unloads $1 times beside a VMM" load_often "$1"
}
