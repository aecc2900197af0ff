// SPDX-License-Identifier: GPL-2.0
/*
 * The halted state, and the L2's TSC deadline, which may end it.
 *
 * Modelled on drivers/hv/mshv_vtl_main.c of OHCL-Linux-Kernel (00d95ddb1b73):
 * mshv_tdx_setup_halt_timer(), mshv_tdx_halt_timer_pre() and _post(),
 * mshv_vtl_return_tdx_tsc_deadline(), mshv_tdx_tsc_deadline_expired().
 *
 * The real driver halts with a TDVMCALL that an interrupt ends; the CPU takes the
 * interrupt once the driver enables interrupts. A HLT with interrupts off never ends,
 * so here the CPU takes the interrupt at the HLT. The deadline of a running L2 goes
 * to TDG.VP.WR, which ignores it: tdx_emul has no timer.
 */
#include <linux/context_tracking.h>
#include <linux/ftrace.h>
#include <linux/hrtimer.h>
#include <linux/irqflags.h>
#include <linux/math64.h>
#include <linux/percpu.h>
#include <linux/tdx_emul.h>
#include <asm/tsc.h>
#include <asm/vmx.h>

#include "vtl.h"

/* TDVPS.TSC_DEADLINE; add n for L2 VM n. */
#define MD_TSC_DEADLINE		0xA020000300000058ULL
/* In TDVPS all ones means disarmed. 0 is a deadline in the past. */
#define TDVPS_DISARMED		U64_MAX

/**
 * struct deadline - per-CPU deadlines
 * @timer: ends the halt; armed with interrupts off only
 * @halt: deadline of the halt in progress
 * @last: last deadline written with TDG.VP.WR, per VM
 * @expired: that deadline has passed and was not rewritten since
 */
struct deadline {
	struct hrtimer timer;
	u64 halt;
	u64 last[TDX_L2_VM_MAX];
	bool expired[TDX_L2_VM_MAX];
};

static DEFINE_PER_CPU(struct deadline, deadlines);

/* The run page's VM as an index in struct deadline; negative for VM 0. */
static int vm_of(const struct mshv_vtl_run *run)
{
	return (int)((READ_ONCE(run->entry_rcx) & TDX_ENTRY_VM_MASK) >> TDX_ENTRY_VM_SHIFT) - 1;
}

/* Get a new deadline from the VMM, in TDVPS's form; false if there is none. */
static bool new_deadline(const struct mshv_vtl_run *run, u64 *deadline)
{
	if (!(READ_ONCE(run->l2_tsc_deadline.update) & MSHV_VTL_TDX_L2_DEADLINE_UPDATE))
		return false;
	*deadline = READ_ONCE(run->l2_tsc_deadline.deadline);
	if (*deadline == MSHV_VTL_TDX_L2_DEADLINE_DISARMED)
		*deadline = TDVPS_DISARMED;
	else if (*deadline == U64_MAX)
		*deadline = U64_MAX - 1;
	return true;
}

static void deadline_taken(struct mshv_vtl_run *run)
{
	run->l2_tsc_deadline.update &= ~MSHV_VTL_TDX_L2_DEADLINE_UPDATE;
}

static void write_deadline(struct deadline *d, int vm, u64 deadline)
{
	struct tdx_vp_enter_regs regs = {
		.rax = TDX_LEAF_VP_WR,
		.rdx = MD_TSC_DEADLINE + vm + 1,
		.r8 = deadline,
		.r9 = U64_MAX,
	};

	d->expired[vm] = false;
	if (deadline == d->last[vm])
		return;
	tdx_emul_tdcall(&regs);
	d->last[vm] = deadline;
}

/* Runs before each TDG.VP.ENTER, with interrupts off; RCU may not be watching. */
void vtl_deadline_enter(struct mshv_vtl_run *run)
{
	struct deadline *d = this_cpu_ptr(&deadlines);
	int vm = vm_of(run);
	u64 deadline;

	if (vm < 0)
		return;
	if (new_deadline(run, &deadline)) {
		write_deadline(d, vm, deadline);
		deadline_taken(run);
	} else if (d->expired[vm]) {
		write_deadline(d, vm, TDVPS_DISARMED);
	}
}

/* Runs after an exit with reason 52, or a halt that the deadline ended. */
void vtl_deadline_expired(struct mshv_vtl_run *run)
{
	int vm = vm_of(run);

	if (vm >= 0)
		this_cpu_ptr(&deadlines)->expired[vm] = true;
}

/* Nothing to do: the interrupt itself ends the halt. */
static enum hrtimer_restart on_timer(struct hrtimer *timer)
{
	return HRTIMER_NORESTART;
}

/**
 * vtl_halt_arm() - start the timer of a halt, if the L2 has a deadline
 * @run: this CPU's run page
 *
 * Context: Interrupts off, RCU watching.
 * Return: true if the caller must call vtl_halt_disarm().
 */
bool vtl_halt_arm(struct mshv_vtl_run *run)
{
	struct deadline *d = this_cpu_ptr(&deadlines);
	u64 deadline = TDVPS_DISARMED, now = rdtsc(), ns = 0;
	int vm = vm_of(run);

	if (!new_deadline(run, &deadline) && vm >= 0 && !d->expired[vm])
		deadline = d->last[vm];
	if (deadline == TDVPS_DISARMED)
		return false;
	if (deadline > now)
		ns = mul_u64_u64_div_u64(deadline - now, USEC_PER_SEC, tsc_khz ?: 1);
	hrtimer_start(&d->timer, min_t(u64, ns, KTIME_MAX), HRTIMER_MODE_REL_PINNED);
	d->halt = deadline;
	return true;
}

/**
 * vtl_halt_disarm() - stop the timer, and report reason 52 if the deadline passed
 * @run: this CPU's run page
 *
 * Context: Interrupts off, RCU watching.
 */
void vtl_halt_disarm(struct mshv_vtl_run *run)
{
	struct deadline *d = this_cpu_ptr(&deadlines);

	hrtimer_cancel(&d->timer);
	if (d->halt > rdtsc())
		return;
	run->exit_info.rax = EXIT_REASON_PREEMPTION_TIMER;
	vtl_deadline_expired(run);
	deadline_taken(run);
}

/**
 * vtl_halt() - halt until an interrupt, and take it
 * @rcu_idle: stop RCU meanwhile; current is an idle task or has PF_IDLE
 *
 * Context: Interrupts off.
 */
noinstr void vtl_halt(bool rcu_idle)
{
	/* Open-coded ct_cpuidle_enter() and _exit(), which 6.1 lacks. */
	instrumentation_begin();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();
	if (rcu_idle)
		ct_idle_enter();
	lockdep_hardirqs_on(CALLER_ADDR0);
	asm volatile("sti; hlt; cli" : : : "memory");
	lockdep_hardirqs_off(CALLER_ADDR0);
	if (rcu_idle)
		ct_idle_exit();
	instrumentation_begin();
	trace_hardirqs_off_finish();
	instrumentation_end();
}

/*
 * Disarm the deadlines of the L2s on a CPU that comes online, as
 * mshv_vtl_alloc_context() does.
 */
void vtl_halt_online(void)
{
	struct deadline *d = this_cpu_ptr(&deadlines);
	unsigned long flags;
	int vm;

	local_irq_save(flags);
	for (vm = 0; vm < TDX_L2_VM_MAX; vm++) {
		d->last[vm] = 0;
		write_deadline(d, vm, TDVPS_DISARMED);
	}
	local_irq_restore(flags);
}

static void timer_init(struct hrtimer *timer)
{
#ifdef VTL_HAVE_HRTIMER_SETUP
	hrtimer_setup(timer, on_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED);
#else
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED);
	timer->function = on_timer;
#endif
}

void __init vtl_halt_init(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		timer_init(&per_cpu(deadlines, cpu).timer);
}
