# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Tests that are commands and virtual machines, and their results: what
# scripts/check and scripts/soak share. To be sourced after lib.sh.

stock=$builddir/stock-6.12
src=$builddir/linux/linux-source-6.12
bin=$builddir/tools
emul=(tdx_emul.ko mshv_vtl_emul.ko tdx_drcache.ko)
with=("$bin"/{drcvmm,drcbind,l1bp,uapi} "$vm"/{ktap,hook-tests}.sh)

stages_begin()
{
	results=$builddir/run/$1.results
	runs=$builddir/run/$1.runs
	report=$builddir/run/$1.ktap
	mkdir -p "$builddir/run"
	: >"$results"
	: >"$runs"
}

# stage NAME COMMAND...: a test that is a command.
stage()
{
	local name=$1
	shift
	step "test: $name"
	if "$@"; then
		echo "ok - $name" >>"$results"
	else
		echo "not ok - $name" >>"$results"
	fi
}

# boot_stage NAME BOOT-ARGUMENT...: one that boots. RUN= is the machine's name;
# its job's report is counted too.
boot_stage()
{
	local name=$1
	shift
	echo "$builddir/run/$RUN/ktap.log" >>"$runs"
	stage "$name" "$vm/boot" "$@"
}

stages_end()
{
	{
		echo "KTAP version 1"
		echo "1..$(wc -l <"$results")"
		awk '{ n++; sub(/ - /, " " n " "); print }' "$results"
	} >"$report"
	step "results"
	mapfile -t reports <"$runs"
	exec "$vm/ktap-report" "$src" "$report" "${reports[@]}"
}

# kdir_of, image_of and ko_of KERNEL
kdir_of() { if [ "$1" = stock ]; then echo "$stock/kdir"; else echo "$builddir/kernel-$1"; fi; }
image_of()
{
	if [ "$1" = stock ]; then
		echo "$stock/vmlinuz"
	else
		echo "$builddir/kernel-$1/arch/x86/boot/bzImage"
	fi
}
ko_of() { echo "$builddir/modules-${1/#stock/stock-6.12}"; }

# Edits of slot.h. Slow: the writer takes its time before each member, so that readers
# meet it, and GET_REGS tells in bits 31:16 of flags how often it has retried. Broken:
# the count that readers see meanwhile is even.
slow='s/^\tWRITE_ONCE\(slot->[^s].*/\tfor (int i = 0; i < 4; i++) cpu_relax();\n&/
	s/^\t\treturn snap->tsc < min_tsc/\t\tsnap->flags |= i << 16;\n&/'
broken='s/(WRITE_ONCE\(slot->seq, slot->seq \+) 1\)/\1 2)/
	s/(smp_store_release\(&slot->seq, slot->seq) \+ 1\)/\1)/'

# build_for stock|debug|kcsan|ohcl|slow|broken
build_for()
{
	case $1 in
	slow)
		"$kernels/build-modules" --edit "$slow" drivers/tdx_drcache/slot.h \
			"$stock/kdir" "$(ko_of slow)" ;;
	broken)
		"$kernels/build-modules" --edit "$slow; $broken" \
			drivers/tdx_drcache/slot.h "$stock/kdir" "$(ko_of broken)" ;;
	debug)
		"$kernels/build-modules" "$(kdir_of debug)" "$(ko_of debug)" W=1 \
			GCOV_PROFILE=y KCOV_INSTRUMENT=y ;;
	*)
		"$kernels/build-modules" "$(kdir_of "$1")" "$(ko_of "$1")" W=1 ;;
	esac
}

build_selftests()
{
	quietly "$builddir/log/selftests.log" make -C "$topdir/tools" O="$bin" KSRC="$src" \
		"$bin"/{uapi,exclusive,tdcall,vtl}
}

# After the builds: it looks at what they made, and lint builds for the stock kernel
# again.
stage_static()
{
	printf '%s\n' "$builddir/run/"{lint,binary}.ktap >>"$runs"
	stage "the static checks find nothing" "$topdir/scripts/lint"
	stage "the binary keeps its promises" "$claims/check-binary" \
		"$(ko_of stock)" "$(kdir_of stock)" "$(ko_of ohcl)" "$(kdir_of ohcl)"
}

# The virtual machines. Those on the debug kernel say what was executed.

# boot_kunit KERNEL
boot_kunit()
{
	RUN=kunit-$1 boot_stage "the KUnit suites leave a clean log, $1 kernel" --quiet \
		--memory 2G --append no5lvl --timeout 900 \
		--out "$builddir/run/kunit-$1.gcov" "kunit-$1" "$(image_of "$1")" \
		"$vm/jobs/kunit" "$(ko_of "$1")"/tdx_drcache{,_kunit}.ko
}

# An allocation that fails is a warning with a stack dump; so warnings stay off the
# console, and the job looks for those that matter.
boot_faults()
{
	RUN=faults boot_stage "injected faults leave a clean log" --quiet --l2 --memory 2G \
		--append "no5lvl loglevel=4 log_buf_len=4M" --timeout 1200 \
		--out "$builddir/run/faults.gcov" faults "$(image_of debug)" \
		"$vm/jobs/faults" "${emul[@]/#/$(ko_of debug)/}" \
		"$bin"/{failnth,drcvmm,drcbind} "$vm/ktap.sh"
}

# boot_e2e KERNEL EXITS
boot_e2e()
{
	local more=()
	[ "$1" = stock ] ||
		more=(--quiet --memory 2G --append no5lvl --out "$builddir/run/e2e-$1.gcov")
	RUN=e2e-$1 boot_stage "the end-to-end tests leave a clean log, $1 kernel" --l2 \
		--timeout 1800 "${more[@]}" --env "EXITS=${EXITS:-$2}" \
		"e2e-$1" "$(image_of "$1")" "$vm/jobs/e2e" "${emul[@]/#/$(ko_of "$1")/}" \
		"${with[@]}" "$bin/exclusive"
}

# The test bed by itself.
boot_ground()
{
	RUN=tdcall boot_stage "the tests of TDCALL leave a clean log" --quiet --l2 \
		--timeout 900 tdcall "$(image_of stock)" "$vm/jobs/tdcall" \
		"$(ko_of stock)"/{tdx_emul,mshv_vtl_emul,tdcall_raw}.ko "$bin/tdcall"
	RUN=vtl boot_stage "the tests of the stand-in leave a clean log" --quiet --l2 \
		--timeout 900 vtl "$(image_of stock)" "$vm/jobs/vtl" \
		"$(ko_of stock)"/{tdx_emul,mshv_vtl_emul}.ko "$bin"/{vtl,drcvmm} "$vm/ktap.sh"
}

# boot_fuzz OPERATIONS [SEED [QUICK]]: with QUICK without what makes the kernel slow
# and is not KASAN.
boot_fuzz()
{
	local append=no5lvl
	[ -z "${3:-}" ] || append="$append kmemleak=off no_debug_objects"
	echo "$builddir/run/fuzz-${2:-1}/ktap.log" >>"$runs"
	stage "fuzzing and hostile L2s leave a clean log, $1 operations, seed ${2:-1}" \
		fuzz "fuzz-${2:-1}" "$1" "${2:-1}" --append "$append" --env "QUICK=${3:-}"
}

# fuzz MACHINE OPERATIONS SEED OPTION...: run the fuzzer. Instructions of an L2 may crash
# QEMU (10.0): say so and try another seed, three times at most.
fuzz()
{
	local name=$1 ops=$2 seed=$3 status
	shift 3
	for _ in 1 2 3; do
		status=0
		"$vm/boot" --quiet --l2 --memory 2G --timeout 10800 \
			--out "$builddir/run/$name.gcov" "$@" --env "OPS=$ops SEED=$seed" \
			"$name" "$(image_of debug)" "$vm/jobs/fuzz" "${emul[@]/#/$(ko_of debug)/}" \
			"$bin"/{fuzz,drcvmm,drcbind,l1count} "$vm/ktap.sh" || status=$?
		[ $status -eq 3 ] || return $status
		seed=$((seed + 1000))
		step "QEMU crashed; again with seed $seed"
	done
	return 1
}

# Check the memory order with herd7.
stage_litmus()
{
	echo "$builddir/run/litmus.ktap" >>"$runs"
	stage "the litmus tests end as they must" "$claims/check-litmus"
}

boot_ohcl()
{
	RUN=e2e-ohcl boot_stage "the return hook leaves a clean log, kernel like OpenHCL's" \
		--quiet --l2 --timeout 600 e2e-ohcl "$(image_of ohcl)" "$vm/jobs/ohcl" \
		"${emul[@]/#/$(ko_of ohcl)/}" "${with[@]}" "$bin/exclusive"
}

# stress MACHINE KERNEL MODULES ENV: MODULES as ko_of takes them
stress()
{
	"$vm/boot" --quiet --memory 2G --timeout 7200 --env "$4" "$1" \
		"$(image_of "$2")" "$vm/jobs/stress" "$(ko_of "$3")"/{tdx_drcache,drcache_stress}.ko \
		"$bin"/{drcbind,torn} "$vm/ktap.sh"
}

# boot_stress EXITS [KERNEL]: the module as it is. How many publishes the reads meet
# depends on the host; boot_slow is the one that has to meet enough.
boot_stress()
{
	local kernel=${2:-stock}
	echo "$builddir/run/stress-$kernel/ktap.log" >>"$runs"
	stage "no torn snapshot in $1 exits, $kernel kernel" \
		stress "stress-$kernel" "$kernel" "$kernel" "EXITS=$1"
}

# boot_slow PUBLISHES
boot_slow()
{
	echo "$builddir/run/stress-slow/ktap.log" >>"$runs"
	stage "no torn snapshot in reads that meet $1 publishes" \
		stress stress-slow stock slow "MET=$1"
}

boot_broken()
{
	echo "$builddir/run/stress-broken/ktap.log" >>"$runs"
	stage "a module that tears snapshots is caught" \
		stress stress-broken stock broken "MET=10000 BROKEN=1"
}

# disturb MACHINE KERNEL TITLE ENV...: rows of the suite
disturb()
{
	local name=$1 kernel=$2 title=$3
	shift 3
	RUN=$name boot_stage "$title, $kernel kernel" --quiet --l2 --memory 2G --append no5lvl \
		--timeout 21600 --out "$builddir/run/$name.rows" --env "$*" "$name" \
		"$(image_of "$kernel")" "$vm/jobs/disturb" "${emul[@]/#/$(ko_of "$kernel")/}" \
		"$bin"/{disturb,drcvmm,drcbind} "$vm"/{ktap,hook-tests}.sh
}

# boot_disturb EXITS XEXITS [KERNEL [HOOKS]]: exits in each row, and in each where the vCPU is
# exclusive. On the stock kernel the tables are printed.
boot_disturb()
{
	local kernel=${3:-stock}
	disturb "disturb-$kernel" "$kernel" \
		"no wrong register beside any disturbance, $1 exits a row, $2 exclusive" \
		"EXITS=$1 XEXITS=$2 SHARING=both HOOKS='${4:-callout fprobe return}'"
	[ "$kernel" != stock ] ||
		"$claims/disturbance-table" "$builddir/run/disturb-stock.rows" || true
}

# boot_planted EXITS HOOKS: a planted fault, which every row must notice.
boot_planted()
{
	disturb disturb-planted stock "a planted fault shows beside every disturbance, $1 exits a row" \
		"EXITS=$1 SHARING=both HOOKS='$2' PLANTED=1"
}

boot_drcstat()
{
	local rust=()
	if have_rust; then
		stage "the Rust reader's test programs build" \
			quietly "$builddir/log/rsread.log" make -C "$topdir/tools" O="$bin" \
			"$bin"/{rsread,rsvmm}
		rust=("$bin"/{rsread,rsvmm})
	fi
	stage "the example in C builds" quietly "$builddir/log/observe.log" \
		make -C "$topdir/tools" O="$bin" "$bin/observe"
	RUN=drcstat boot_stage "drcstat's tests leave a clean log" --quiet --l2 --timeout 900 \
		drcstat "$(image_of stock)" "$vm/jobs/drcstat" "${emul[@]/#/$(ko_of stock)/}" \
		"$bin"/{drcstat,drcvmm,drcbind,l1bp,observe,ptyrun} "${rust[@]}" "$vm/ktap.sh"
}

# After boot_drcstat, whose output it looks at.
stage_tools()
{
	echo "$builddir/run/check-tools.ktap" >>"$runs"
	stage "the tools' tests on the host" "$claims/check-tools" \
		"$builddir/run/check-tools.ktap"
}

# stage_coverage RUN...: of what these machines have executed.
stage_coverage()
{
	local logs=("${@/#/$builddir/run/}")
	echo "$builddir/run/coverage.ktap" >>"$runs"
	stage "the tests cover the module" coverage "${logs[@]/%/.gcov}"
}

coverage()
{
	"$claims/coverage" "$(ko_of debug)/src/drivers/tdx_drcache" \
		"$claims/uncovered" "$@" >"$builddir/run/coverage.ktap"
}
