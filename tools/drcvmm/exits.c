// SPDX-License-Identifier: GPL-2.0
/*
 * Exits: read the registers at HW_INTERRUPT, and serve the program at any other.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "drcvmm.h"

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
#define REASON_PREEMPTION_TIMER	52

/* TDX module 2.0: the entry failed before or after an L2 ran. */
#define CLASS_L2_VM_ENTRY_FAILED	0x80001103u

#define RFLAGS_TF		(1u << 8)
#define RFLAGS_RF		(1u << 16)
#define INTR_INFO_DB		0x80000301u	/* valid, hardware exception, vector 1 */

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

/* Show one exit, read by each of the three methods. */
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

/*
 * Compare a DR6 that was read alone with the whole snapshot, and keep the rest of that, by
 * which DR6 is judged.
 */
static void complete(struct vcpu *v, uint64_t min_tsc, uint64_t rax,
		     struct tdx_drcache_slot *regs)
{
	struct tdx_drcache_slot whole;
	uint64_t dr6 = regs->dr6;
	enum tdx_drcache_result res;

	if (dr6 & 0xf)
		fail(v, "exit %" PRIu64 ": DR6 is %#" PRIx64 ", and was read alone",
		     v->interrupts, dr6);
	res = tdx_drcache_read(&v->reader, min_tsc, rax, &whole);
	if (res != TDX_DRCACHE_HIT) {
		fail(v, "exit %" PRIu64 ": DR6 is captured, and the snapshot %s", v->interrupts,
		     result_names[res]);
		return;
	}
	*regs = whole;
	regs->dr6 = dr6;
	compare(v, regs, &whole, "a full read");
}

static void on_interrupt(struct vcpu *v, uint64_t min_tsc, uint64_t rax)
{
	struct tdx_drcache_slot regs = { 0 }, local = { 0 };
	enum tdx_drcache_result res;
	struct position pos;
	uint64_t start;
	bool dr6_alone;

	v->interrupts++;
	if (opt.syscall)
		syscall(SYS_getppid);
	start = tdx_drcache_tsc();
	res = read_regs(v, min_tsc, rax, &regs);
	add_cost(&v->read, tdx_drcache_tsc() - start);
	v->results[res]++;
	dr6_alone = opt.method == READ_DR6 && res == TDX_DRCACHE_HIT &&
		    !(regs.flags & TDX_DRCACHE_VALID);
	v->dr6_alone += dr6_alone;
	if (regs.flags & TDX_DRCACHE_L1_HWBP)
		v->hwbp++;

	/* Each breakpoint that the guest's DR6 reports, with its address. */
	if (regs.dr6 & 0xf)
		v->breakpoints++;

	get_position(v, &pos);
	if (in_loop(&pos)) {
		v->in_loop++;
		if (v->shown < opt.show)
			show(v, min_tsc, rax);
	}
	if (!opt.verify)
		return;
	if (dr6_alone)
		complete(v, min_tsc, rax, &regs);
	if (!opt.guest_only) {
		read_mshv(&local);
		compare(v, &regs, &local, "the five ioctls");
	}
	/* After a miss L1 may have changed the registers since the exit. */
	if (res == TDX_DRCACHE_HIT)
		judge(v, &regs);
}

/* The exit that each step of the exits program must cause. */
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

/* Check an exit that the exits program caused, and go on. */
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

/* Handle any exit of the hostile program, and go on after it. */
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
		/* The #DB may be for the next instruction, and for any MOV DR. */
		gs->rflags = (gs->rflags & ~RFLAGS_TF) | RFLAGS_RF;
		write_l2(v, TDX_VMCS_GUEST_DR7, 0x400, UINT64_MAX);
		break;
	case REASON_TRIPLE_FAULT:
	case REASON_INVALID_STATE | TDX_ENTRY_FAILURE:
		/* Go on with the next VM. */
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

void on_exit_reason(struct vcpu *v, uint64_t min_tsc)
{
	uint64_t rax = v->run->exit_info.rax;
	unsigned int class = rax >> TDX_CLASS_SHIFT;
	unsigned int reason = rax & TDX_BASIC_REASON_MASK;
	bool failed = class == CLASS_L2_VM_ENTRY_FAILED;
	bool ran = class != TDX_CLASS_PENDING_INTERRUPT && !failed;
	struct tdx_drcache_slot regs;
	uint64_t dr6;

	if (class > TDX_CLASS_PENDING_INTERRUPT && !failed)
		die("vCPU %u: TDG.VP.ENTER failed with %#" PRIx64, v->index, rax);
	if (ran && !(rax & TDX_ENTRY_FAILURE) && reason == REASON_HW_INTERRUPT) {
		on_interrupt(v, min_tsc, rax);
		return;
	}

	/*
	 * A halt ended (mshv_tdx_halt_timer_post() of OHCL-Linux-Kernel 00d95ddb). No L2
	 * was entered, so a hook may not have seen it. The previous snapshot is stale.
	 */
	if (ran && rax == REASON_PREEMPTION_TIMER) {
		v->cancelled++;
		if (use_drcache && tdx_drcache_read(&v->reader, min_tsc, rax, &regs) ==
		    TDX_DRCACHE_HIT)
			fail(v, "there is a snapshot of a halt");
		return;
	}

	/* The hook does not capture this exit, so no snapshot may be valid. */
	if (use_drcache &&
	    (tdx_drcache_read(&v->reader, 0, rax, &regs) != TDX_DRCACHE_MISS_INVALID ||
	     tdx_drcache_read_dr6(&v->reader, 0, rax, &dr6) != TDX_DRCACHE_MISS_INVALID ||
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
