// SPDX-License-Identifier: GPL-2.0
/*
 * drcvmm: a small VMM on mshv_vtl's ABI. Runs an L2 and at each HW_INTERRUPT
 * exit gets its debug registers, as OpenVMM does for its debugger.
 */
#include <argp.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <mshv/mshv_vtl.h>
#include <tdx_drcache_read.h>

#include "guest.h"

const char *argp_program_version = "drcvmm " VERSION;

#define EXIT_USAGE	2
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

/* VMX basic exit reasons. */
#define REASON_EXCEPTION	0
#define REASON_HW_INTERRUPT	1
#define REASON_TRIPLE_FAULT	2
#define REASON_CPUID		10
#define REASON_HLT		12
#define REASON_VMCALL		18
#define REASON_IO		30
#define REASON_RDMSR		31
#define REASON_WRMSR		32
#define REASON_INVALID_STATE	33
#define REASON_EPT_VIOLATION	48

#define RFLAGS_TF		(1u << 8)
#define RFLAGS_RF		(1u << 16)
#define INTR_INFO_DB		0x80000301u	/* valid, hardware exception, 1 */
#define FX_FCW			0
#define FX_MXCSR		24

/* The first two are of the cache. */
enum read_method { READ_MMAP, READ_IOCTL, READ_MSHV, READ_BATCH };

static const char *const method_names[] = { "mmap", "ioctl", "mshv", "batch" };
static const char *const guest_names[] = { "counter", "breakpoint", "exits", "hostile" };
static const char *const result_names[] = {
	[TDX_DRCACHE_HIT] = "captured",
	[TDX_DRCACHE_MISS_INVALID] = "not captured",
	[TDX_DRCACHE_MISS_STALE] = "stale",
	[TDX_DRCACHE_MISS_OTHER_EXIT] = "of another exit",
	[TDX_DRCACHE_MISS_BUSY] = "being written",
};

#define RESULTS		5

/* What the command line asks for. */
static struct {
	unsigned int cpus[GUEST_VCPUS_MAX];
	unsigned int nr_cpus;
	uint64_t exits;
	unsigned int guest;
	enum read_method method;
	uint64_t show;
	uint64_t min_misses, max_misses;
	unsigned int enter;
	int bind_cpu;
	bool guest_only;
	bool syscall;
	bool cost;
	unsigned int tick_us;
	unsigned int timeout_s;
	bool verify;
	uint64_t seed;
} opt = {
	.nr_cpus = 1,
	.exits = 1000,
	.max_misses = UINT64_MAX,
	.bind_cpu = -1,
	.tick_us = 1000,
	.timeout_s = 120,
	.seed = 1,
};

/* What something takes, in ticks of the time stamp counter. */
struct cost {
	uint64_t least, sum, n;
};

static const uint32_t reg_names[5] = {
	HV_X64_REGISTER_DR0, HV_X64_REGISTER_DR0 + 1, HV_X64_REGISTER_DR0 + 2,
	HV_X64_REGISTER_DR3, HV_X64_REGISTER_DR6,
};

/* A vCPU, its thread's own. */
struct vcpu {
	unsigned int index, cpu;
	pthread_t thread;
	volatile struct mshv_vtl_run *run;
	struct tdx_drcache_reader reader;
	volatile uint64_t *data;

	uint64_t interrupts, other_exits, refused, cancelled;
	uint64_t results[RESULTS];
	uint64_t breakpoints;
	uint64_t checked, mismatches, failures;
	uint64_t steps[GUEST_STEPS];
	uint64_t shown;
	uint64_t hwbp;
	uint64_t last_count;
	struct cost read, one, handling;
	unsigned int vm;
	bool stopped;
};

static int vtl_fd;
static uint8_t *memory;
static const struct guest_table *table;
static bool use_drcache;
static pthread_mutex_t print_lock = PTHREAD_MUTEX_INITIALIZER;

extern const char guest_image[], guest_image_end[];

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("drcvmm: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static void __attribute__((format(printf, 2, 3))) fail(struct vcpu *v, const char *fmt, ...)
{
	va_list ap;

	/* A few say what is wrong; the count says how much. */
	if (v->failures++ >= 10)
		return;
	pthread_mutex_lock(&print_lock);
	printf("vCPU %u: ", v->index);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	pthread_mutex_unlock(&print_lock);
}

static void add_cost(struct cost *c, uint64_t ticks)
{
	if (!c->n++ || ticks < c->least)
		c->least = ticks;
	c->sum += ticks;
}

/* What asking for the time takes itself. */
static uint64_t clock_cost(void)
{
	uint64_t start, ticks, least = UINT64_MAX;

	for (unsigned int i = 0; i < 1000; i++) {
		start = tdx_drcache_tsc();
		ticks = tdx_drcache_tsc() - start;
		least = ticks < least ? ticks : least;
	}
	return least;
}

/* DR0 to DR3, DR6. */
static __u64 *dr_of(struct tdx_drcache_slot *s, unsigned int i)
{
	return i == 4 ? &s->dr6 : &s->db[i];
}

/* By one of the host driver's ioctls. */
static uint64_t read_one(unsigned int i)
{
	struct hv_register_assoc reg = { .name = reg_names[i] };
	struct mshv_vp_registers arg = { .count = 1, .regs_ptr = (uintptr_t)&reg };

	if (ioctl(vtl_fd, MSHV_GET_VP_REGISTERS, &arg))
		die("MSHV_GET_VP_REGISTERS of DR%c: %s", "01236"[i], strerror(errno));
	return reg.value[0];
}

/* By five of them. */
static void read_mshv(struct tdx_drcache_slot *s)
{
	s->flags = 0;
	for (unsigned int i = 0; i < 5; i++)
		*dr_of(s, i) = read_one(i);
}

/* By the stand-in's own, that gives all at once. */
static void read_batch(struct tdx_drcache_slot *s)
{
	struct mshv_vtl_emul_debugregs r;

	if (ioctl(vtl_fd, MSHV_VTL_EMUL_GET_DEBUGREGS, &r))
		die("MSHV_VTL_EMUL_GET_DEBUGREGS: %s", strerror(errno));
	memcpy(s->db, r.db, sizeof(s->db));
	s->dr6 = r.dr6;
	s->flags = 0;
}

/* As after a reset, on this CPU: another L2 may have run there. */
static void reset_dr(void)
{
	for (unsigned int i = 0; i < 5; i++) {
		struct hv_register_assoc reg = {
			.name = reg_names[i],
			.value = { i == 4 ? GUEST_DR6_ONES : 0 },
		};
		struct mshv_vp_registers arg = {
			.count = 1,
			.regs_ptr = (uintptr_t)&reg,
		};

		if (ioctl(vtl_fd, MSHV_SET_VP_REGISTERS, &arg))
			die("MSHV_SET_VP_REGISTERS of DR%c: %s", "01236"[i], strerror(errno));
	}
}

/* By the cache's ioctl. */
static enum tdx_drcache_result
read_ioctl(struct vcpu *v, uint64_t min_tsc, uint64_t rax, struct tdx_drcache_slot *s)
{
	struct tdx_drcache_regs r = { .size = sizeof(r), .min_tsc = min_tsc };

	if (ioctl(v->reader.fd, TDX_DRCACHE_GET_REGS, &r)) {
		switch (errno) {
		case ENODATA:
			return TDX_DRCACHE_MISS_INVALID;
		case ESTALE:
			return TDX_DRCACHE_MISS_STALE;
		case EAGAIN:
			return TDX_DRCACHE_MISS_BUSY;
		default:
			die("TDX_DRCACHE_GET_REGS: %s", strerror(errno));
		}
	}
	if (r.exit_rax != rax)
		return TDX_DRCACHE_MISS_OTHER_EXIT;
	memcpy(s->db, r.db, sizeof(s->db));
	s->dr6 = r.dr6;
	s->flags = r.flags;
	return TDX_DRCACHE_HIT;
}

/* As the command line says; if that misses, by the host driver's ioctls. */
static inline enum tdx_drcache_result
read_regs(struct vcpu *v, uint64_t min_tsc, uint64_t rax, struct tdx_drcache_slot *s)
{
	enum tdx_drcache_result res = TDX_DRCACHE_HIT;

	switch (opt.method) {
	case READ_MMAP:
		res = tdx_drcache_read(&v->reader, min_tsc, rax, s);
		break;
	case READ_IOCTL:
		res = read_ioctl(v, min_tsc, rax, s);
		break;
	case READ_MSHV:
		read_mshv(s);
		break;
	default:
		read_batch(s);
		break;
	}
	if (res != TDX_DRCACHE_HIT)
		read_mshv(s);
	return res;
}

static uint64_t counter_dr(struct vcpu *v, unsigned int i, uint64_t n)
{
	return i == 4 ? GUEST_DR6_ONES | (n & 0xf) : v->data[GUEST_BASE0 / 8 + i] + n;
}

/*
 * What the guest has in its registers, told from where it is: false if it is
 * not in its loop yet. RBX is its count, and an instruction before RIP has run.
 */
static bool expect_counter(struct vcpu *v, struct tdx_drcache_slot *want)
{
	uint64_t rip = v->run->l2_enter_guest_state.rip;
	uint64_t n = v->run->l2_enter_guest_state.rbx;

	if (rip < table->counter_inc || rip >= table->counter_end || n < 2)
		return false;
	for (unsigned int i = 0; i < 5; i++) {
		uint64_t mov = i == 4 ? table->counter_mov6 : table->counter_mov[i];
		bool done = rip > mov || rip == table->counter_inc;

		*dr_of(want, i) = counter_dr(v, i, done ? n : n - 1);
	}
	return true;
}

/* Likewise; DR1 to DR3 are not the guest's here, so they are taken from @got. */
static bool expect_breakpoint(struct vcpu *v, const struct tdx_drcache_slot *got,
			      struct tdx_drcache_slot *want)
{
	uint64_t rip = v->run->l2_enter_guest_state.rip;
	bool cleared = rip > table->bp_clear && rip <= table->bp_write;

	if (rip >= table->bp_end && v->run->l2_enter_guest_state.rbx >= 2)
		cleared = false;	/* in the #DB handler */
	else if (rip < table->bp_clear - 16 || rip >= table->bp_end ||
		 v->run->l2_enter_guest_state.rbx < 2)
		return false;
	*want = *got;
	want->db[0] = GUEST_DATA + v->index * GUEST_DATA_SIZE + GUEST_VARIABLE;
	want->dr6 = GUEST_DR6_ONES | !cleared;
	return true;
}

/*
 * Likewise: R8 to R11 have what is in DR0 to DR3, but at the instruction that writes
 * one. DR6 is the CPU's to write, too.
 */
static bool expect_hostile(struct vcpu *v, const struct tdx_drcache_slot *got,
			   struct tdx_drcache_slot *want)
{
	volatile struct tdx_l2_enter_guest_state *gs = &v->run->l2_enter_guest_state;
	const uint64_t r[4] = { gs->r8, gs->r9, gs->r10, gs->r11 };

	if (gs->rip < table->hostile_loop || gs->rip >= table->hostile_end)
		return false;
	for (unsigned int i = 0; i < 4; i++)
		*dr_of(want, i) = gs->rip == table->hostile_mov[i] ? got->db[i] : r[i];
	want->dr6 = (got->dr6 & UINT32_MAX) | GUEST_DR6_ONES;
	return true;
}

static void compare(struct vcpu *v, const char *a_name, struct tdx_drcache_slot *a,
		    const char *b_name, struct tdx_drcache_slot *b)
{
	for (unsigned int i = 0; i < 5; i++) {
		if (*dr_of(a, i) == *dr_of(b, i))
			continue;
		v->mismatches++;
		fail(v, "exit %" PRIu64 " at rip %#" PRIx64 ": DR%c is %#" PRIx64
		     " by %s, %#" PRIx64 " by %s", v->interrupts,
		     (uint64_t)v->run->l2_enter_guest_state.rip, "01236"[i],
		     (uint64_t)*dr_of(a, i), a_name, (uint64_t)*dr_of(b, i), b_name);
	}
}

static void show_row(const char *how, enum tdx_drcache_result res,
		     const struct tdx_drcache_slot *s)
{
	if (res != TDX_DRCACHE_HIT) {
		printf("%25s %-6s miss: %s\n", "", how, result_names[res]);
		return;
	}
	printf("%25s %-6s %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64
	       " %08" PRIx64 "\n", "", how, (uint64_t)s->db[0], (uint64_t)s->db[1],
	       (uint64_t)s->db[2], (uint64_t)s->db[3], (uint64_t)s->dr6);
}

/* One exit, read in all three ways. */
static void show(struct vcpu *v, uint64_t min_tsc, uint64_t rax)
{
	struct tdx_drcache_slot s;
	enum tdx_drcache_result res;

	pthread_mutex_lock(&print_lock);
	if (!v->shown++ && !v->index)
		printf("%4s %6s %12s %-6s %16s %16s %16s %16s %8s\n", "vCPU", "exit",
		       "rip", "by", "DR0", "DR1", "DR2", "DR3", "DR6");
	printf("%4u %6" PRIu64 " %12" PRIx64 " class %#x, reason %u (HW_INTERRUPT)\n",
	       v->index, v->interrupts, (uint64_t)v->run->l2_enter_guest_state.rip,
	       (unsigned int)(rax >> TDX_CLASS_SHIFT),
	       (unsigned int)(rax & TDX_BASIC_REASON_MASK));
	if (use_drcache) {
		res = tdx_drcache_read(&v->reader, min_tsc, rax, &s);
		show_row("mmap", res, &s);
		res = read_ioctl(v, min_tsc, rax, &s);
		show_row("ioctl", res, &s);
	}
	read_mshv(&s);
	show_row("mshv", TDX_DRCACHE_HIT, &s);
	for (unsigned int i = 0; i < 4; i++)
		if (s.dr6 & (1u << i) && opt.guest == GUEST_BREAKPOINT)
			printf("%25s breakpoint %u, at %#" PRIx64 "\n", "", i,
			       (uint64_t)s.db[i]);
	pthread_mutex_unlock(&print_lock);
}

static void on_interrupt(struct vcpu *v, uint64_t min_tsc, uint64_t rax)
{
	struct tdx_drcache_slot regs, local, want;
	enum tdx_drcache_result res;
	uint64_t count = v->run->l2_enter_guest_state.rbx, start;
	bool in_loop, advanced = count - v->last_count >= 2;

	v->last_count = count;
	v->interrupts++;
	if (opt.syscall)
		syscall(SYS_getppid);
	start = tdx_drcache_tsc();
	res = read_regs(v, min_tsc, rax, &regs);
	add_cost(&v->read, tdx_drcache_tsc() - start);
	v->results[res]++;
	if (regs.flags & TDX_DRCACHE_L1_HWBP)
		v->hwbp++;

	/* Any breakpoint that the guest's DR6 has: which, and where. */
	if (regs.dr6 & 0xf)
		v->breakpoints++;

	in_loop = (opt.guest == GUEST_COUNTER && expect_counter(v, &want)) ||
		  (opt.guest == GUEST_BREAKPOINT && expect_breakpoint(v, &regs, &want)) ||
		  (opt.guest == GUEST_HOSTILE && expect_hostile(v, &regs, &want));
	if (in_loop && v->shown < opt.show)
		show(v, min_tsc, rax);
	if (!opt.verify)
		return;
	if (!opt.guest_only) {
		read_mshv(&local);
		compare(v, method_names[opt.method], &regs, "the five ioctls", &local);
	} else if (res != TDX_DRCACHE_HIT || !advanced || regs.flags & TDX_DRCACHE_L1_HWBP) {
		/*
		 * Where L1 writes the registers, the ioctls read what it wrote,
		 * and so does the L2 until it has written them again.
		 */
		return;
	}
	if (in_loop) {
		v->checked++;
		compare(v, method_names[opt.method], &regs, "what the guest wrote", &want);
	}
}

/* What each step of the exits program must exit with. */
static const struct {
	unsigned int reason;
	uint64_t qualification;
	unsigned int length;
} step_exits[GUEST_STEPS] = {
	[GUEST_STEP_CPUID] = { REASON_CPUID, 0, 2 },
	[GUEST_STEP_HLT] = { REASON_HLT, 0, 1 },
	[GUEST_STEP_OUT] = { REASON_IO, GUEST_PORT_OUT << 16, 2 },
	[GUEST_STEP_IN] = { REASON_IO, GUEST_PORT_IN << 16 | 1 << 3 | 3, 1 },
	[GUEST_STEP_VMCALL] = { REASON_VMCALL, 0, 3 },
	[GUEST_STEP_RDMSR] = { REASON_RDMSR, 0, 2 },
	[GUEST_STEP_WRMSR] = { REASON_WRMSR, 0, 2 },
	[GUEST_STEP_READ] = { REASON_EPT_VIOLATION, 1 << 0, 0 },
	[GUEST_STEP_WRITE] = { REASON_EPT_VIOLATION, 1 << 1, 0 },
	[GUEST_STEP_DB] = { REASON_EXCEPTION, 1 << 0, 0 },
	[GUEST_STEP_TRIPLE_FAULT] = { REASON_TRIPLE_FAULT, 0, 0 },
};

/* An exit by something that the exits program did. */
static void on_step(struct vcpu *v, unsigned int reason)
{
	volatile struct tdx_l2_enter_guest_state *gs = &v->run->l2_enter_guest_state;
	unsigned int step = gs->rbx, length = v->run->exit_info.r11 >> 32;
	uint64_t qual = v->run->exit_info.rcx;

	if (step >= GUEST_STEPS) {
		fail(v, "no such step: %u", step);
		v->stopped = true;
		return;
	}
	v->steps[step]++;
	if (reason != step_exits[step].reason || qual != step_exits[step].qualification ||
	    length != step_exits[step].length)
		fail(v, "step %u exits with reason %u, qualification %#" PRIx64
		     ", length %u; want %u, %#" PRIx64 ", %u", step, reason, qual,
		     length, step_exits[step].reason, step_exits[step].qualification,
		     step_exits[step].length);
	if (reason == REASON_EPT_VIOLATION && v->run->exit_info.r8 != GUEST_BEYOND)
		fail(v, "EPT violation at %#" PRIx64 ", want %#x",
		     (uint64_t)v->run->exit_info.r8, GUEST_BEYOND);
	if (reason == REASON_EXCEPTION && v->run->exit_info.r9 != INTR_INFO_DB)
		fail(v, "interruption information %#" PRIx64 ", want %#x",
		     (uint64_t)v->run->exit_info.r9, INTR_INFO_DB);

	if (reason == REASON_EPT_VIOLATION)
		gs->rip = gs->r15;
	else if (reason == REASON_TRIPLE_FAULT)
		v->stopped = true;
	else
		gs->rip += length;
}

static void setup_vcpu(struct vcpu *v);
static void write_l2(struct vcpu *v, uint32_t field, uint64_t val, uint64_t mask);

/* The hostile program left, by whatever it did: go on behind it. */
static void on_hostile(struct vcpu *v, uint64_t rax)
{
	volatile struct tdx_l2_enter_guest_state *gs = &v->run->l2_enter_guest_state;

	switch (rax & (TDX_BASIC_REASON_MASK | TDX_ENTRY_FAILURE)) {
	case REASON_CPUID:
	case REASON_HLT:
	case REASON_VMCALL:
	case REASON_IO:
	case REASON_RDMSR:
	case REASON_WRMSR:
		gs->rip += v->run->exit_info.r11 >> 32;
		break;
	case REASON_EPT_VIOLATION:
		gs->rip = gs->r15;
		break;
	case REASON_EXCEPTION:
		/* A #DB that may be of the next instruction, and of any MOV DR. */
		gs->rflags = (gs->rflags & ~RFLAGS_TF) | RFLAGS_RF;
		write_l2(v, TDX_VMCS_GUEST_DR7, 0x400, UINT64_MAX);
		break;
	case REASON_TRIPLE_FAULT:
	case REASON_INVALID_STATE | TDX_ENTRY_FAILURE:
		/* The next VM has what this one had. */
		v->stopped = v->vm == TDX_L2_VM_MAX;
		if (!v->stopped) {
			v->vm++;
			setup_vcpu(v);
		}
		break;
	default:
		fail(v, "the L2 left with RAX %#" PRIx64, rax);
		v->stopped = true;
	}
}

static void on_exit_reason(struct vcpu *v, uint64_t min_tsc)
{
	uint64_t rax = v->run->exit_info.rax;
	unsigned int class = rax >> TDX_CLASS_SHIFT;
	unsigned int reason = rax & TDX_BASIC_REASON_MASK;
	bool ran = class != TDX_CLASS_PENDING_INTERRUPT;
	struct tdx_drcache_slot regs;

	if (class > TDX_CLASS_PENDING_INTERRUPT)
		die("vCPU %u: TDG.VP.ENTER failed with %#" PRIx64, v->index, rax);
	if (ran && !(rax & TDX_ENTRY_FAILURE) && reason == REASON_HW_INTERRUPT) {
		on_interrupt(v, min_tsc, rax);
		return;
	}

	/* Not an exit to capture at: there must be nothing to take for one. */
	if (use_drcache &&
	    (tdx_drcache_read(&v->reader, 0, rax, &regs) != TDX_DRCACHE_MISS_INVALID ||
	     read_ioctl(v, 0, rax, &regs) != TDX_DRCACHE_MISS_INVALID))
		fail(v, "a snapshot is valid after an exit with RAX %#" PRIx64, rax);
	if (!ran) {
		v->refused++;
		return;
	}
	v->other_exits++;
	if (opt.guest == GUEST_EXITS) {
		on_step(v, reason);
		return;
	}
	if (opt.guest == GUEST_HOSTILE) {
		on_hostile(v, rax);
		return;
	}
	fail(v, "the L2 left with RAX %#" PRIx64 ", qualification %#" PRIx64 " at rip %#"
	     PRIx64, rax, (uint64_t)v->run->exit_info.rcx,
	     (uint64_t)v->run->l2_enter_guest_state.rip);
	v->stopped = true;
}

/* A field of the L2's VMCS, on this CPU. */
static void write_l2(struct vcpu *v, uint32_t field, uint64_t val, uint64_t mask)
{
	struct mshv_tdcall call = {
		.rax = TDX_LEAF_VP_WR,
		.rdx = TDX_MD_L2_VMCS(v->vm, field),
		.r8 = val,
		.r9 = mask,
	};

	if (ioctl(vtl_fd, MSHV_VTL_TDCALL, &call))
		die("MSHV_VTL_TDCALL: %s", strerror(errno));
	if (call.rax)
		die("TDG.VP.WR of %#x: %#" PRIx64, field, (uint64_t)call.rax);
}

/* Have #DB exit. */
static void intercept_db(struct vcpu *v)
{
	write_l2(v, TDX_VMCS_EXCEPTION_BITMAP, 1 << 1, 1 << 1);
}

/* DR7 is not shared: only TDG.VP.RD has the L2's. */
static uint64_t read_dr7(void)
{
	struct mshv_tdcall call = {
		.rax = TDX_LEAF_VP_RD,
		.rdx = TDX_MD_L2_VMCS(1, TDX_VMCS_GUEST_DR7),
	};

	if (ioctl(vtl_fd, MSHV_VTL_TDCALL, &call) || call.rax)
		die("TDG.VP.RD of DR7 failed");
	return call.r8;
}

static void setup_vcpu(struct vcpu *v)
{
	volatile struct mshv_vtl_run *run = v->run;

	for (unsigned int i = 0; i < sizeof(run->l2_enter_guest_state); i++)
		((volatile uint8_t *)&run->l2_enter_guest_state)[i] = 0;
	run->cancel = 0;
	run->enter_mode = opt.enter;
	run->entry_rcx = (uint64_t)v->vm << TDX_ENTRY_VM_SHIFT;
	run->l2_enter_guest_state.rip = GUEST_IMAGE;
	run->l2_enter_guest_state.rflags = 2;
	run->l2_enter_guest_state.rsp = GUEST_STACKS + (v->index + 1) * 0x1000;
	run->l2_enter_guest_state.rsi = opt.guest;
	run->l2_enter_guest_state.rbp = GUEST_DATA + v->index * GUEST_DATA_SIZE;
	*(volatile uint16_t *)&run->fx_state[FX_FCW] = 0x37f;
	*(volatile uint32_t *)&run->fx_state[FX_MXCSR] = 0x1f80;

	v->data = (uint64_t *)(memory + GUEST_DATA + v->index * GUEST_DATA_SIZE);
	v->data[GUEST_STOP / 8] = 0;
	v->data[GUEST_SEED / 8] = (opt.seed * GUEST_VCPUS_MAX + v->index) * 4 + v->vm;
	/* One of three handles its own #DBs no more. */
	if (opt.guest == GUEST_EXITS || (opt.guest == GUEST_HOSTILE && v->vm == 2))
		intercept_db(v);
	/* Kernel-like addresses; another for each register and each vCPU. */
	for (unsigned int i = 0; i < 4; i++)
		v->data[GUEST_BASE0 / 8 + i] = 0xffff800000000000 |
			(uint64_t)(i + 1) << 40 | (uint64_t)v->index << 36;
}

/* Interrupts that end the L2's runs: a timer on this CPU, that nobody reads. */
static int start_tick(void)
{
	const struct timespec ts = { 0, opt.tick_us * 1000L };
	const struct itimerspec its = { ts, ts };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd < 0 || timerfd_settime(fd, 0, &its, NULL))
		die("timerfd: %s", strerror(errno));
	return fd;
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	time_t end = now() + opt.timeout_s;
	cpu_set_t set;
	uint64_t t, left, interrupts;
	int err, tick = -1;

	CPU_ZERO(&set);
	CPU_SET(v->cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("CPU %u: %s", v->cpu, strerror(errno));
	v->vm = 1;
	v->run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vtl_fd,
		      v->cpu * 4096l);
	if (v->run == MAP_FAILED)
		die("run page of CPU %u: %s", v->cpu, strerror(errno));
	setup_vcpu(v);
	reset_dr();
	if (use_drcache) {
		err = tdx_drcache_open(&v->reader, opt.bind_cpu < 0 ? v->cpu :
				       (unsigned int)opt.bind_cpu, 0, (void *)v->run, 0);
		if (err)
			die("%s, CPU %u: %s", TDX_DRCACHE_DEV, v->cpu, strerror(-err));
	}
	if (opt.tick_us)
		tick = start_tick();

	while (!v->stopped) {
		if (v->interrupts >= opt.exits) {
			if (opt.guest != GUEST_EXITS)
				break;
			v->data[GUEST_STOP / 8] = 1;
		}
		/* Each of the three VMs has its part, and dies. */
		if (opt.guest == GUEST_HOSTILE &&
		    v->interrupts >= opt.exits * v->vm / TDX_L2_VM_MAX)
			v->data[GUEST_STOP / 8] = v->vm == TDX_L2_VM_MAX ?
						  GUEST_STOP_CONTROL : GUEST_STOP_FAULT;
		if (now() > end) {
			fail(v, "stopped after %u seconds", opt.timeout_s);
			break;
		}
		t = tdx_drcache_tsc();
		if (ioctl(vtl_fd, MSHV_VTL_RETURN_TO_LOWER_VTL)) {
			if (errno != EINTR)
				die("MSHV_VTL_RETURN_TO_LOWER_VTL: %s", strerror(errno));
			v->cancelled++;
			continue;
		}
		interrupts = v->interrupts;
		left = tdx_drcache_tsc();
		on_exit_reason(v, t);
		if (v->interrupts != interrupts)
			add_cost(&v->handling, tdx_drcache_tsc() - left);
	}

	for (unsigned int i = 0; opt.cost && i < 100; i++) {
		t = tdx_drcache_tsc();
		read_one(4);
		add_cost(&v->one, tdx_drcache_tsc() - t);
	}
	if (opt.guest == GUEST_BREAKPOINT && read_dr7() != (GUEST_DR7 | 0x400))
		fail(v, "DR7 is %#" PRIx64 ", want %#x", read_dr7(), GUEST_DR7 | 0x400);
	if (tick >= 0)
		close(tick);
	return NULL;
}

static void setup_memory(void)
{
	struct mshv_vtl_emul_memory mem = { .length = GUEST_MEMORY };
	uint64_t *pml4, *pdpt, *pd;

	memory = mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("memory of the L2: %s", strerror(errno));
	memcpy(memory + GUEST_IMAGE, guest_image, guest_image_end - guest_image);
	table = (const struct guest_table *)(memory + GUEST_TABLE);
	if (table->magic != GUEST_MAGIC)
		die("the L2 image has no table");
	pml4 = (uint64_t *)(memory + GUEST_PML4);
	pdpt = (uint64_t *)(memory + GUEST_PDPT);
	pd = (uint64_t *)(memory + GUEST_PD);
	pml4[0] = GUEST_PDPT | 3;
	pdpt[0] = GUEST_PD | 3;
	for (unsigned int i = 0; i < 512; i++)
		pd[i] = (uint64_t)i << 21 | 0x83;

	mem.addr = (uintptr_t)memory;
	if (!ioctl(vtl_fd, MSHV_VTL_EMUL_SET_MEMORY, &mem))
		return;
	if (errno == ENOTTY)
		die("this /dev/mshv is not the stand-in's: its L2's memory is not drcvmm's to give");
	die("MSHV_VTL_EMUL_SET_MEMORY: %s%s", strerror(errno),
	    errno == EBUSY ? " (another VMM is running)" : "");
}

static void open_vtl(void)
{
	uint32_t cap = MSHV_CAP_DR6_SHARED;
	int fd = open("/dev/mshv", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("/dev/mshv: %s (load tdx_emul and mshv_vtl_emul, or run inside OpenHCL)",
		    strerror(errno));
	if (ioctl(fd, MSHV_CHECK_EXTENSION, &cap) != 1)
		die("/dev/mshv: DR6 is not shared between L1 and L2 here");
	vtl_fd = ioctl(fd, MSHV_CREATE_VTL, NULL);
	if (vtl_fd < 0)
		die("MSHV_CREATE_VTL: %s", strerror(errno));
	close(fd);
}

static void print_stats(struct vcpu *v)
{
	struct tdx_drcache_stats s = { .size = sizeof(s) };

	if (ioctl(v->reader.fd, TDX_DRCACHE_GET_STATS, &s))
		die("TDX_DRCACHE_GET_STATS: %s", strerror(errno));
	printf("  kernel: %" PRIu64 " published, %" PRIu64 " filtered, %" PRIu64
	       " refused, %" PRIu64 " late, %" PRIu64 " with L1 breakpoints, %" PRIu64
	       " missed\n", (uint64_t)s.published, (uint64_t)s.filtered,
	       (uint64_t)s.refused, (uint64_t)s.late, (uint64_t)s.l1_hwbp,
	       (uint64_t)s.missed);
	if (opt.verify && s.refused < v->refused)
		fail(v, "the kernel counts %" PRIu64 " refused entries, the VMM %" PRIu64,
		     (uint64_t)s.refused, v->refused);
}

/* Without what asking for the time twice takes. */
static void print_cost(const char *what, const struct cost *c)
{
	uint64_t clock = clock_cost();

	if (c->n)
		printf("  ticks of %s: least %" PRIu64 ", mean %" PRIu64 "\n", what,
		       c->least - clock, c->sum / c->n - clock);
}

/* What has come of it. The number of things that are wrong. */
static uint64_t summarize(struct vcpu *v)
{
	uint64_t hits = v->results[TDX_DRCACHE_HIT], misses = v->interrupts - hits;

	printf("vCPU %u on CPU %u, %s, by %s: %" PRIu64 " HW_INTERRUPT exits, %" PRIu64
	       " %s, %" PRIu64 " missed", v->index, v->cpu, guest_names[opt.guest],
	       method_names[opt.method], v->interrupts, hits,
	       opt.method < READ_MSHV ? "captured" : "read", misses);
	for (unsigned int i = 1; i < RESULTS; i++)
		if (v->results[i])
			printf(" (%" PRIu64 " %s)", v->results[i], result_names[i]);
	if (v->hwbp)
		printf("; %" PRIu64 " with L1_HWBP", v->hwbp);
	printf("\n  %" PRIu64 " other exits, %" PRIu64 " refused entries, %" PRIu64
	       " cancelled, %" PRIu64 " with a breakpoint in DR6\n", v->other_exits,
	       v->refused, v->cancelled, v->breakpoints);
	if (opt.cost) {
		print_cost("a read", &v->read);
		print_cost("one of the host driver's ioctls", &v->one);
		print_cost("handling an exit", &v->handling);
	}
	if (opt.verify)
		printf("  %" PRIu64 " compared with the five ioctls, %" PRIu64
		       " with what the guest wrote: %" PRIu64 " mismatches\n",
		       opt.guest_only ? 0 : v->interrupts, v->checked, v->mismatches);
	if (use_drcache)
		print_stats(v);
	if (misses < opt.min_misses)
		fail(v, "%" PRIu64 " misses, at least %" PRIu64 " wanted", misses,
		     opt.min_misses);
	if (misses > opt.max_misses)
		fail(v, "%" PRIu64 " misses, at most %" PRIu64 " wanted", misses,
		     opt.max_misses);
	if (opt.verify && !opt.guest_only && opt.guest < GUEST_EXITS &&
	    v->checked < v->interrupts / 2)
		fail(v, "only %" PRIu64 " exits were in the guest's loop", v->checked);
	if (opt.verify && opt.guest == GUEST_BREAKPOINT &&
	    (!v->breakpoints || v->breakpoints == v->interrupts))
		fail(v, "the breakpoint was never hit, or always");
	if (opt.guest == GUEST_EXITS)
		for (unsigned int i = 1; i < GUEST_STEPS; i++)
			if (i != GUEST_STEP_SPIN && !v->steps[i])
				fail(v, "step %u did not exit", i);
	return v->failures;
}

static uint64_t parse_number(const char *arg, uint64_t min, uint64_t max,
			     struct argp_state *state)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(arg, &end, 0);
	if (errno || end == arg || *end || *arg == '-' || n < min || n > max)
		argp_error(state, "'%s' is not a number from %" PRIu64 " to %" PRIu64,
			   arg, min, max);
	return n;
}

static unsigned int parse_name(const char *arg, const char *const *names, unsigned int n,
			       struct argp_state *state)
{
	for (unsigned int i = 0; i < n; i++)
		if (!strcmp(arg, names[i]))
			return i;
	argp_error(state, "there is no '%s'; see --help", arg);
	return 0;
}

static void parse_cpus(char *arg, struct argp_state *state)
{
	char *save, *tok;

	opt.nr_cpus = 0;
	for (tok = strtok_r(arg, ",", &save); tok; tok = strtok_r(NULL, ",", &save)) {
		if (opt.nr_cpus == GUEST_VCPUS_MAX)
			argp_error(state, "more than %d CPUs", GUEST_VCPUS_MAX);
		opt.cpus[opt.nr_cpus++] = parse_number(tok, 0, CPU_SETSIZE - 1, state);
	}
	if (!opt.nr_cpus)
		argp_error(state, "no CPU");
}

enum {
	KEY_GUEST = 0x100, KEY_SHOW, KEY_TICK, KEY_TIMEOUT, KEY_MIN_MISSES, KEY_MAX_MISSES,
	KEY_ENTER, KEY_BIND, KEY_SYSCALL, KEY_SEED, KEY_COST,
};

static const struct argp_option options[] = {
	{ "cpus", 'c', "LIST", 0, "a vCPU on each of these CPUs, as 0,1 (default 0)", 0 },
	{ "exits", 'n', "N", 0, "stop after N HW_INTERRUPT exits (default 1000)", 0 },
	{ "guest", KEY_GUEST, "NAME", 0,
	  "what the L2 does: counter (default) loads DR0-DR3 and DR6 all the time; "
	  "breakpoint arms a hardware breakpoint on itself and hits it; "
	  "exits leaves in every way there is; hostile does whatever may do harm", 0 },
	{ "read", 'r', "METHOD", 0,
	  "how the registers are read: mmap (default), ioctl, mshv, the host "
	  "driver's five ioctls, or batch, one that the stand-in alone has", 0 },
	{ "verify", 'v', "WHAT", OPTION_ARG_OPTIONAL,
	  "compare each snapshot with the five ioctls and with what the guest wrote "
	  "(all, default), or with the latter alone (guest), for an L1 that writes the "
	  "registers", 0 },
	{ "enter", KEY_ENTER, "MODE", 0,
	  "the run page's enter mode (default 0: fast; 1: play idle; 0x10: fast, and "
	  "play idle when entered again)", 0 },
	{ "bind", KEY_BIND, "CPU", 0,
	  "bind to this CPU instead of the vCPU's: every exit is a miss", 0 },
	{ "seed", KEY_SEED, "N", 0, "another seed, another hostile L2 (default 1)", 0 },
	{ "syscall", KEY_SYSCALL, NULL, 0,
	  "make another system call between an exit and the read", 0 },
	{ "min-misses", KEY_MIN_MISSES, "N", 0, "fewer misses are a failure", 0 },
	{ "cost", KEY_COST, NULL, 0,
	  "say how many ticks of the time stamp counter a read took, and all that is "
	  "done at an exit", 0 },
	{ "show", KEY_SHOW, "N", 0,
	  "show the first N exits in the guest's loop, read in every way", 0 },
	{ "tick", KEY_TICK, "USEC", 0,
	  "interrupt the CPU so often (default 1000; 0: not at all)", 0 },
	{ "max-misses", KEY_MAX_MISSES, "N", 0, "more misses are a failure", 0 },
	{ "timeout", KEY_TIMEOUT, "SEC", 0, "give up after so long (default 120)", 0 },
	{ 0 },
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'c':
		parse_cpus(arg, state);
		break;
	case 'n':
		opt.exits = parse_number(arg, 1, UINT32_MAX, state);
		break;
	case 'r':
		opt.method = parse_name(arg, method_names, ARRAY_SIZE(method_names), state);
		break;
	case 'v':
		opt.verify = true;
		if (arg && strcmp(arg, "all") && strcmp(arg, "guest"))
			argp_error(state, "'%s' is neither all nor guest", arg);
		opt.guest_only = arg && !strcmp(arg, "guest");
		break;
	case KEY_ENTER:
		opt.enter = parse_number(arg, 0, 0xff, state);
		break;
	case KEY_BIND:
		opt.bind_cpu = parse_number(arg, 0, CPU_SETSIZE - 1, state);
		break;
	case KEY_SEED:
		opt.seed = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_COST:
		opt.cost = true;
		break;
	case KEY_SYSCALL:
		opt.syscall = true;
		break;
	case KEY_MIN_MISSES:
		opt.min_misses = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_GUEST:
		opt.guest = parse_name(arg, guest_names, ARRAY_SIZE(guest_names), state);
		break;
	case KEY_SHOW:
		opt.show = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_TICK:
		opt.tick_us = parse_number(arg, 0, 999999, state);
		break;
	case KEY_MAX_MISSES:
		opt.max_misses = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_TIMEOUT:
		opt.timeout_s = parse_number(arg, 1, 86400, state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_opt,
		.doc = "Run an L2 VM on mshv_vtl's ABI and read its debug registers at its "
		       "HW_INTERRUPT exits.\vExit status: 0 if all went well, 1 if "
		       "anything did not, 2 for a wrong command line.",
	};
	struct vcpu *vcpus;
	uint64_t failures = 0;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	use_drcache = opt.method < READ_MSHV ||
		      ((opt.show || opt.verify) && !access(TDX_DRCACHE_DEV, F_OK));

	open_vtl();
	setup_memory();
	vcpus = calloc(opt.nr_cpus, sizeof(*vcpus));
	if (!vcpus)
		die("out of memory");
	for (unsigned int i = 0; i < opt.nr_cpus; i++) {
		vcpus[i].index = i;
		vcpus[i].cpu = opt.cpus[i];
		vcpus[i].reader.fd = -1;
		if (pthread_create(&vcpus[i].thread, NULL, vcpu_main, &vcpus[i]))
			die("cannot make a thread");
	}
	for (unsigned int i = 0; i < opt.nr_cpus; i++)
		pthread_join(vcpus[i].thread, NULL);
	for (unsigned int i = 0; i < opt.nr_cpus; i++) {
		failures += summarize(&vcpus[i]);
		if (use_drcache)
			tdx_drcache_close(&vcpus[i].reader);
	}
	free(vcpus);
	if (failures)
		printf("drcvmm: %" PRIu64 " failures\n", failures);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
