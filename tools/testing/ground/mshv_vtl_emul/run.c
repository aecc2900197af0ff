// SPDX-License-Identifier: GPL-2.0
/*
 * The run pages, and entering the L2: MSHV_VTL_RETURN_TO_LOWER_VTL.
 *
 * Modelled on drivers/hv/mshv_vtl_main.c of OHCL-Linux-Kernel (00d95ddb1b73):
 * mshv_vtl_ioctl_return_to_lower_vtl(), mshv_vtl_switch_to_vtl0_irqoff(),
 * mshv_vtl_return_tdx(). The differences:
 *
 * - The stand-in handles pending work itself, because not every kernel has
 *   xfer_to_guest_mode_handle_work(). A task_work, or other work behind
 *   TIF_NOTIFY_RESUME, waits for the return to user space.
 * - The tick keeps running in play idle: tick_nohz_idle_enter() and
 *   tick_nohz_idle_stop_tick() are not exported.
 * - The run page's vp_state is not used: an emulated L2 has its own CR2, XSS and
 *   system call MSRs, and there is no cache to flush.
 * - The hypervisor asserts no interrupts for the L2 (proxy_irr).
 */
#include <linux/context_tracking.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/static_call.h>
#include <linux/tdx_drcache_host.h>
#include <linux/tdx_emul.h>
#include <linux/tick.h>
#include <asm/fpu/api.h>

#include "l1.h"
#include "vtl.h"

/*
 * Number of exits after which the kernel enters the L2 again, before one goes to user
 * space. Interrupt offload does this for some exits, the knob for any.
 */
static unsigned int reenter;
module_param(reenter, uint, 0644);
MODULE_PARM_DESC(reenter, "number of exits after which to enter the L2 again, before one goes to user space");

static bool plant;
module_param(plant, bool, 0644);
MODULE_PARM_DESC(plant,
		 "plant a fault for tests to detect: write DR1 between the exit and the hook");

#define PLANTED_DR1	0x00000badc0ffee00UL

/* Entries so far in each mode, halts included. */
static DEFINE_PER_CPU(unsigned long [3], entries);

static int get_entries(char *buffer, const struct kernel_param *kp)
{
	unsigned long sum[3] = { 0 };
	unsigned int cpu, mode;

	for_each_possible_cpu(cpu)
		for (mode = 0; mode < 3; mode++)
			sum[mode] += READ_ONCE(per_cpu(entries, cpu)[mode]);
	return sysfs_emit(buffer, "%lu %lu %lu\n", sum[0], sum[1], sum[2]);
}

static int set_entries(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static const struct kernel_param_ops entries_ops = {
	.set = set_entries,
	.get = get_entries,
};
module_param_cb(entries, &entries_ops, NULL, 0444);
MODULE_PARM_DESC(entries, "entries and halts so far: fast, play idle, idle thread (read only)");

/* Each CPU's run page, from load to unload. User space may write it at any time. */
static DEFINE_PER_CPU(struct mshv_vtl_run *, vtl_run);

/* The L2's x87 and SSE state while it is not in the run page. */
struct vtl_fx {
	u8 state[512];
} __aligned(16);
static DEFINE_PER_CPU(struct vtl_fx, vtl_fx);

#define FX_MXCSR	24
#define FX_MXCSR_MASK	0xffff

/* Marks a stand-in; see linux/tdx_drcache_host.h. */
const u8 mshv_vtl_emulated = 1;
EXPORT_SYMBOL_GPL(mshv_vtl_emulated);

typedef void (exit_hook_fn)(u64 exit_rax, u64 entry_rcx);
DEFINE_STATIC_CALL_NULL(mshv_vtl_exit_hook, exit_hook_fn);
/* The callout is set. Protected by exit_hook_lock. */
static bool exit_hook_set;
static DEFINE_MUTEX(exit_hook_lock);

static void wait_one_cpu(void *unused)
{
}

int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx))
{
	int ret = 0;

	mutex_lock(&exit_hook_lock);
	if (fn && exit_hook_set) {
		ret = -EBUSY;
	} else {
		static_call_update(mshv_vtl_exit_hook, fn);
		exit_hook_set = fn;
		/*
		 * The hook runs with interrupts off, so a CPU that takes the
		 * IPI has left it. Waiting for RCU is not enough: RCU may not
		 * be watching in the hook.
		 */
		if (!fn)
			on_each_cpu(wait_one_cpu, NULL, 1);
	}
	mutex_unlock(&exit_hook_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);

struct mshv_vtl_run *mshv_vtl_this_run(void)
{
	return this_cpu_read(vtl_run);
}

struct mshv_vtl_run *vtl_run_of(unsigned int cpu)
{
	return per_cpu(vtl_run, cpu);
}

/*
 * Execute the instruction. Each output register starts as zero or as an operand and is
 * stored right after, so that no kernel value leaks into @out. An error changes RAX
 * alone and leaves the operands: RDX is then the physical address of the run page, as
 * in the real driver.
 */
static __always_inline u64 tdcall_vp_enter(u64 rcx, u64 rdx, struct tdx_vp_enter_regs *out)
{
	u64 rax = TDX_LEAF_VP_ENTER;

	asm volatile("push %%rdi\n\t"
		     "xor %%esi, %%esi\n\t"
		     "xor %%edi, %%edi\n\t"
		     "xor %%r8d, %%r8d\n\t"
		     "xor %%r9d, %%r9d\n\t"
		     "xor %%r10d, %%r10d\n\t"
		     "xor %%r11d, %%r11d\n\t"
		     "xor %%r12d, %%r12d\n\t"
		     "xor %%r13d, %%r13d\n\t"
		     ".byte 0x66, 0x0f, 0x01, 0xcc\n\t"
		     "pop %%rbx\n\t"
		     "mov %%rax, 0(%%rbx)\n\t"
		     "mov %%rcx, 8(%%rbx)\n\t"
		     "mov %%rdx, 16(%%rbx)\n\t"
		     "mov %%rsi, 24(%%rbx)\n\t"
		     "mov %%rdi, 32(%%rbx)\n\t"
		     "mov %%r8, 40(%%rbx)\n\t"
		     "mov %%r9, 48(%%rbx)\n\t"
		     "mov %%r10, 56(%%rbx)\n\t"
		     "mov %%r11, 64(%%rbx)\n\t"
		     "mov %%r12, 72(%%rbx)\n\t"
		     "mov %%r13, 80(%%rbx)\n\t"
		     : "+a" (rax), "+c" (rcx), "+d" (rdx), "+D" (out), ASM_CALL_CONSTRAINT
		     : : "rbx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
		       "memory", "cc");
	return rax;
}

/* Execute TDG.VP.ENTER and call the hook. */
static __always_inline void tdg_vp_enter(u64 entry_rcx, u64 state_pa,
					 struct tdx_vp_enter_regs *out)
{
	struct tdx_vp_enter_regs regs;
	u64 rax;

	/* The kernel's #UD handler needs RCU. Real hardware raises no #UD. */
	if (rcu_is_watching()) {
		rax = tdcall_vp_enter(entry_rcx, state_pa, out);
	} else {
		regs = (struct tdx_vp_enter_regs) {
			.rax = TDX_LEAF_VP_ENTER, .rcx = entry_rcx, .rdx = state_pa,
		};
		tdx_emul_tdcall(&regs);
		*out = regs;
		rax = regs.rax;
	}
	if (READ_ONCE(plant))
		asm volatile("mov %0, %%db1" : : "r" (PLANTED_DR1));
	static_call_cond(mshv_vtl_exit_hook)(rax, entry_rcx);
}

/* Enter the L2 of this CPU's run page. Interrupts and preemption are off. */
void mshv_vtl_return_tdx(void)
{
	struct mshv_vtl_run *run = mshv_vtl_this_run();
	struct vtl_fx *fx = this_cpu_ptr(&vtl_fx);

	vtl_deadline_enter(run);

	/* Copy: user space may write an MXCSR on which FXRSTOR faults. */
	memcpy(fx->state, run->fx_state, sizeof(fx->state));
	*(u32 *)(fx->state + FX_MXCSR) &= FX_MXCSR_MASK;

	kernel_fpu_begin_mask(0);
	asm volatile("fxrstor64 %0" : : "m" (*fx));
	vtl_notifier_enter();
	tdg_vp_enter(READ_ONCE(run->entry_rcx),
		     virt_to_phys(&run->l2_enter_guest_state), &run->exit_info);
	asm volatile("fxsave64 %0" : "=m" (*fx));
	kernel_fpu_end();

	memcpy(run->fx_state, fx->state, sizeof(fx->state));
}

/**
 * vtl_switch_irqoff() - enter the L2 once, or halt if the run page says so
 * @run: this CPU's run page
 * @mode: MSHV_ENTER_*; unless fast, RCU does not watch meanwhile
 *
 * Context: Interrupts off, RCU watching. Unless @mode is fast, current is an idle
 * task or has PF_IDLE.
 */
void vtl_switch_irqoff(struct mshv_vtl_run *run, unsigned int mode)
{
	bool halted = READ_ONCE(run->flags) & MSHV_VTL_RUN_FLAG_HALTED;
	bool armed = halted && vtl_halt_arm(run);

	this_cpu_inc(entries[mode]);
	/* An exit on which user space does nothing. */
	run->exit_info.rax = (u64)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT;
	if (halted) {
		vtl_halt(mode != MSHV_ENTER_FAST);
	} else if (mode == MSHV_ENTER_FAST) {
		mshv_vtl_return_tdx();
	} else {
		ct_idle_enter();
		mshv_vtl_return_tdx();
		ct_idle_exit();
	}
	if (armed)
		vtl_halt_disarm(run);
}

/* The mode that the run page asks for, or the nearest one available. */
static unsigned int possible_mode(unsigned int asked)
{
	if (asked == MSHV_ENTER_FAST || nr_cpu_ids == 1 || tick_nohz_full_enabled())
		return MSHV_ENTER_FAST;
	if (asked == MSHV_ENTER_IDLE_THREAD && vtl_idle_available())
		return MSHV_ENTER_IDLE_THREAD;
	return MSHV_ENTER_PLAY_IDLE;
}

/*
 * Enter the L2 once in mode @asked. Returns false if the L2 was not entered and the
 * caller must check for work again. Called with interrupts off, returns with them on.
 */
static bool enter_once(unsigned int asked, unsigned long irq_flags)
{
	unsigned int mode = possible_mode(asked);

	switch (mode) {
	case MSHV_ENTER_IDLE_THREAD:
		return vtl_idle_wait(irq_flags);
	case MSHV_ENTER_PLAY_IDLE:
		current->flags |= PF_IDLE;
		vtl_switch_irqoff(mshv_vtl_this_run(), mode);
		current->flags &= ~PF_IDLE;
		break;
	default:
		vtl_switch_irqoff(mshv_vtl_this_run(), mode);
	}
	local_irq_restore(irq_flags);
	return true;
}

/* Enter the L2 until an exit is for user space, or -EINTR. Preemption is off. */
static int run_lower(void)
{
	unsigned int mode = READ_ONCE(mshv_vtl_this_run()->enter_mode) & MSHV_ENTER_MASK;
	u64 again = READ_ONCE(reenter);
	unsigned long irq_flags;

	for (;;) {
		local_irq_save(irq_flags);
		if (signal_pending(current) || READ_ONCE(mshv_vtl_this_run()->cancel)) {
			local_irq_restore(irq_flags);
			return -EINTR;
		}
		if (need_resched()) {
			local_irq_restore(irq_flags);
			preempt_enable();
			schedule();
			preempt_disable();
			continue;
		}
		if (!enter_once(mode, irq_flags) || vtl_offload(mshv_vtl_this_run()))
			continue;
		if (!again--)
			return 0;
	}
}

/**
 * vtl_run_lower() - MSHV_VTL_RETURN_TO_LOWER_VTL
 *
 * Return: 0 after an exit, described in the run page, even if a signal is pending: its
 * handler runs on the return to user space. -EINTR if there was no exit.
 */
int vtl_run_lower(void)
{
	int ret;

	preempt_disable();
	ret = run_lower();
	preempt_enable();
	if (!ret)
		l1_after_exit();
	return ret;
}

int __init vtl_run_init(void)
{
	unsigned int cpu;

	BUILD_BUG_ON(sizeof(struct mshv_vtl_run) > PAGE_SIZE);
	BUILD_BUG_ON(offsetof(struct tdx_vp_enter_regs, r13) != 80);
	for_each_possible_cpu(cpu) {
		per_cpu(vtl_run, cpu) = (void *)get_zeroed_page(GFP_KERNEL);
		if (!per_cpu(vtl_run, cpu)) {
			vtl_run_fini();
			return -ENOMEM;
		}
	}
	return 0;
}

/* A pinned page stays allocated until it is unpinned. */
void vtl_run_fini(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		free_page((unsigned long)per_cpu(vtl_run, cpu));
}
