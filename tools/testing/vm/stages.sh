# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Tests that are commands or virtual machines, and their results. Shared by scripts/check,
# soak, matrix and others. To be sourced after lib.sh.

stock=$builddir/stock-6.12
src=$builddir/linux/linux-source-6.12
bin=$builddir/tools
emul=(tdx_emul.ko mshv_vtl_emul.ko tdx_drcache.ko)
with=("$bin"/{drcvmm,drcbind,drcstat,l1bp,uapi} "$vm"/{ktap,hook-tests}.sh)

stages_begin()
{
	mkdir -p "$builddir/run"
	runs=$builddir/run/$1.runs
	ktap=$builddir/run/$1.ktap
	: >"$runs"
	# shellcheck source=tools/testing/vm/ktap.sh
	. "$vm/ktap.sh"
}

# stage NAME COMMAND...: run a test that is a command. REPORT=, a file below build/run, has
# results that count too.
stage()
{
	local name=$1
	shift
	[ -z "${REPORT:-}" ] || echo "$builddir/run/$REPORT" >>"$runs"
	step "test: $name"
	if "$@"; then ok "$name"; else not_ok "$name"; fi
}

# boot_stage NAME BOOT-ARGUMENT...: run a test that is a virtual machine. RUN= is the
# machine's name; the results of its job count too.
boot_stage()
{
	local name=$1
	shift
	REPORT=$RUN/ktap.log stage "$name" "$vm/boot" "$@"
}

stages_end()
{
	ktap_end || true
	step "results"
	mapfile -t reports <"$runs"
	exec "$vm/ktap-report" "$src" "$ktap" "${reports[@]}"
}

# A KERNEL is one of Debian's (stock, which is 6.12, or 6.1, 6.12, newest), or a variant of
# build-kernel.
debian() { [[ $1 =~ ^(stock|[0-9.]+|newest)$ ]]; }
dir_of() { if debian "$1"; then echo "stock-${1/#stock/6.12}"; else echo "kernel-$1"; fi; }
kdir_of() { echo "$builddir/$(dir_of "$1")$(! debian "$1" || echo /kdir)"; }
ko_of() { echo "$builddir/modules-$(if debian "$1"; then dir_of "$1"; else echo "$1"; fi)"; }
image_of()
{
	if debian "$1"; then
		echo "$builddir/$(dir_of "$1")/vmlinuz"
	else
		echo "$builddir/kernel-$1/arch/x86/boot/bzImage"
	fi
}

# name_of KERNEL: print the release of a kernel of the matrix.
name_of() { cat "$builddir/stock-$1/release" 2>/dev/null || echo "$1"; }

# Edits of slot.h. Slow: the writer pauses before each member, so that readers meet it, and
# GET_REGS returns in bits 31:16 of flags how often it has retried. Broken: the sequence
# count that readers see during a write is even.
slow='s/^\tWRITE_ONCE\(slot->[^s].*/\tfor (int i = 0; i < 4; i++) cpu_relax();\n&/
	s/^\t\treturn snap->tsc < min_tsc/\t\tsnap->flags |= i << 16;\n&/'
broken='s/(WRITE_ONCE\(slot->seq, slot->seq \+) 1\)/\1 2)/
	s/(smp_store_release\(&slot->seq, slot->seq) \+ 1\)/\1)/'

# build_for KERNEL|slow|broken: get one of Debian's kernels first. clang only compiles.
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
	clang)
		"$kernels/build-kernel" clang &&
			"$kernels/build-modules" "$(kdir_of clang)" "$(ko_of clang)" \
				LLVM=1 W=1 KBUILD_MODPOST_WARN=1 ;;
	newest)
		"$kernels/get" stock newest && "$kernels/build-modules" \
			--root "$builddir/stock-newest/root" \
			"/usr/src/linux-headers-$(cat "$builddir/stock-newest/release")" \
			"$(ko_of newest)" W=1 ;;
	[0-9]*)
		"$kernels/get" stock "$1" &&
			"$kernels/build-modules" "$(kdir_of "$1")" "$(ko_of "$1")" W=1 ;;
	*)
		"$kernels/build-modules" "$(kdir_of "$1")" "$(ko_of "$1")" W=1 ;;
	esac
}

build_selftests()
{
	quietly "$builddir/log/selftests.log" make -C "$topdir/tools/testing" O="$bin" KSRC="$src"
}

# Run this after the builds: it checks their results, and lint builds for the stock kernel
# again.
stage_static()
{
	REPORT=lint.ktap stage "the static checks find nothing" "$topdir/scripts/lint"
	REPORT=binary.ktap stage "the binary keeps its promises" "$claims/check-binary" \
		"$(ko_of stock)" "$(kdir_of stock)" "$(ko_of ohcl)" "$(kdir_of ohcl)"
	REPORT=abi.ktap stage "the layout of the UAPI has not changed" "$claims/check-abi"
}

# The virtual machines. Those with the debug kernel also send their coverage.

# boot_kunit KERNEL
boot_kunit()
{
	RUN=kunit-$1 boot_stage "the KUnit suites leave a clean log, $1 kernel" --quiet \
		--memory 2G --append no5lvl --timeout 900 \
		--out "$builddir/run/kunit-$1.gcov" "kunit-$1" "$(image_of "$1")" \
		"$vm/jobs/kunit" "$(ko_of "$1")"/{tdx_drcache,drcache_mock_host,tdx_drcache_kunit}.ko
}

# The kernel warns of a failed allocation, with a stack dump. So warnings stay off the
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
	debian "$1" ||
		more=(--quiet --memory 2G --append no5lvl --out "$builddir/run/e2e-$1.gcov")
	RUN=e2e-$1 boot_stage "the end-to-end tests leave a clean log, $(name_of "$1") kernel" --l2 \
		--timeout 1800 "${more[@]}" --env "EXITS=${EXITS:-$2}" \
		"e2e-$1" "$(image_of "$1")" "$vm/jobs/e2e" "${emul[@]/#/$(ko_of "$1")/}" \
		"${with[@]}" "$bin/exclusive"
}

boot_ground()
{
	RUN=ground boot_stage "the tests of the test bed leave a clean log" --quiet --l2 \
		--timeout 900 ground "$(image_of stock)" "$vm/jobs/ground" \
		"$(ko_of stock)"/{tdx_emul,mshv_vtl_emul,tdcall_raw}.ko \
		"$bin"/{tdcall,vtl,drcvmm} "$vm"/{ktap,hook-tests}.sh
}

# boot_fuzz OPERATIONS [SEED [QUICK]]: QUICK switches off the kernel's slow checks, except
# KASAN.
boot_fuzz()
{
	local append=no5lvl
	[ -z "${3:-}" ] || append="$append kmemleak=off no_debug_objects"
	REPORT=fuzz-${2:-1}/ktap.log \
		stage "fuzzing and hostile L2s leave a clean log, $1 operations, seed ${2:-1}" \
		fuzz "fuzz-${2:-1}" "$1" "${2:-1}" --append "$append" --env "QUICK=${3:-}"
}

# fuzz MACHINE OPERATIONS SEED OPTION...: run the fuzzer. An L2's instructions may crash QEMU
# (10.0); then try another seed, three at most.
fuzz()
{
	local name=$1 ops=$2 seed=$3 status
	shift 3
	for _ in 1 2 3; do
		status=0
		"$vm/boot" --quiet --l2 --memory 2G --timeout 10800 \
			--out "$builddir/run/$name.gcov" "$@" --env "OPS=$ops SEED=$seed" \
			"$name" "$(image_of debug)" "$vm/jobs/fuzz" "${emul[@]/#/$(ko_of debug)/}" \
			"$bin"/{fuzz,drcvmm,drcbind,l1count} "$vm"/{ktap,hook-tests}.sh || status=$?
		[ $status -eq 3 ] || return $status
		seed=$((seed + 1000))
		step "QEMU crashed; trying seed $seed"
	done
	return 1
}

# Check the memory order with herd7.
stage_litmus()
{
	REPORT=litmus.ktap stage "the litmus tests have the results in the files" "$claims/check-litmus"
}

boot_ohcl()
{
	RUN=e2e-ohcl boot_stage "the return hook leaves a clean log, ohcl kernel" \
		--quiet --l2 --timeout 600 e2e-ohcl "$(image_of ohcl)" "$vm/jobs/ohcl" \
		"${emul[@]/#/$(ko_of ohcl)/}" "${with[@]}" "$bin/exclusive"
}

# stress MACHINE KERNEL MODULES ENV: MODULES is an argument of ko_of.
stress()
{
	"$vm/boot" --quiet --memory 2G --timeout 7200 --env "$4" "$1" \
		"$(image_of "$2")" "$vm/jobs/stress" "$(ko_of "$3")"/{tdx_drcache,drcache_mock_host}.ko \
		"$bin"/{drcbind,torn} "$vm/ktap.sh"
}

# boot_stress EXITS [KERNEL]: test the unmodified module. How many publishes its readers meet
# depends on the host; boot_slow guarantees enough.
boot_stress()
{
	local kernel=${2:-stock}
	REPORT=stress-$kernel/ktap.log stage "no torn snapshot in $1 exits, $kernel kernel" \
		stress "stress-$kernel" "$kernel" "$kernel" "EXITS=$1"
}

# boot_slow PUBLISHES
boot_slow()
{
	REPORT=stress-slow/ktap.log stage "no torn snapshot in reads that meet $1 publishes" \
		stress stress-slow stock slow "MET=$1"
}

boot_broken()
{
	REPORT=stress-broken/ktap.log stage "a module that tears snapshots is caught" \
		stress stress-broken stock broken "MET=10000 BROKEN=1"
}

# disturb MACHINE KERNEL TITLE ENV...: run the disturbance suite, or only its rows ROWS=.
disturb()
{
	local name=$1 kernel=$2 title=$3
	shift 3
	RUN=$name boot_stage "$title, $(name_of "$kernel") kernel" --quiet --l2 --memory 2G --append no5lvl \
		--timeout 21600 --out "$builddir/run/$name.rows" \
		--env "$* ${ROWS:+ROWS='$ROWS'}" "$name" \
		"$(image_of "$kernel")" "$vm/jobs/disturb" "${emul[@]/#/$(ko_of "$kernel")/}" \
		"$bin"/{disturb,drcvmm,drcbind} "$vm"/{ktap,hook-tests}.sh
}

# boot_disturb EXITS XEXITS [KERNEL [HOOKS]]: EXITS in each row, XEXITS in those of an
# exclusive vCPU. The tables of the stock kernel are printed.
boot_disturb()
{
	local kernel=${3:-stock}
	disturb "disturb-$kernel" "$kernel" \
		"no wrong register beside any disturbance, $1 exits per row, $2 exclusive" \
		"EXITS=$1 XEXITS=$2 SHARING=both HOOKS='${4:-callout fprobe return}'"
	[ "$kernel" != stock ] ||
		"$claims/disturbance-table" "$builddir/run/disturb-stock.rows" || true
}

# boot_planted EXITS HOOKS: plant a fault, which every row must notice.
boot_planted()
{
	disturb disturb-planted stock "every row notices a planted fault, $1 exits each" \
		"EXITS=$1 SHARING=both HOOKS='$2' PLANTED=1"
}

boot_drcstat()
{
	local rust=()
	if have_rust; then
		stage "the Rust reader's test programs build" \
			quietly "$builddir/log/rsread.log" make -C "$topdir/tools/testing" \
			O="$bin" KSRC="$src" "$bin"/{rsread,rsvmm}
		rust=("$bin"/{rsread,rsvmm})
	fi
	stage "the example in C builds" quietly "$builddir/log/observe.log" \
		make -C "$topdir/tools/testing" O="$bin" KSRC="$src" "$bin/observe"
	RUN=drcstat boot_stage "drcstat's tests leave a clean log" --quiet --l2 --timeout 900 \
		drcstat "$(image_of stock)" "$vm/jobs/drcstat" "${emul[@]/#/$(ko_of stock)/}" \
		"$bin"/{drcstat,drcvmm,drcbind,l1bp,observe,ptyrun} "${rust[@]}" \
		"$vm"/{ktap,hook-tests}.sh
}

# Run this after boot_drcstat, whose JSON it checks.
stage_tools()
{
	REPORT=tools.ktap stage "the tools' tests on the host" "$claims/check-tools"
}

# stage_coverage MACHINE...: check the coverage that these machines have sent.
stage_coverage()
{
	local logs=("${@/#/$builddir/run/}")
	REPORT=coverage.ktap stage "the tests cover the module" "$claims/coverage" \
		"$(ko_of debug)/src/drivers/tdx_drcache" "$claims/uncovered" "${logs[@]/%/.gcov}"
}

# matrix KERNEL...: build for each kernel and, except with clang, run the end-to-end tests
# and the disturbance suite on it.
matrix()
{
	local kernel
	for kernel; do
		if [ "$kernel" = clang ]; then
			stage "the modules build with $(clang --version | head -n 1), W=1" build_for clang
			continue
		fi
		stage "the modules build for Debian's $kernel kernel, W=1" build_for "$kernel"
		boot_e2e "$kernel" 300
		boot_disturb "${XEXITS:-60}" "${XEXITS:-60}" "$kernel"
	done
}
