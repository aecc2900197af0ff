// SPDX-License-Identifier: GPL-2.0
/*
 * The vCPUs: their pages, who is bound to them, and what happens at an exit.
 *
 * Locks, outermost first:
 *
 *   drcache_bind_lock    who is bound, the hook's users, who is exclusive
 *   cpu_hotplug_lock     whether a CPU is armed
 *
 * cpu_hotplug_lock is taken for reading here, and the hotplug callbacks run
 * with it taken for writing. Placing and removing a hook takes it as well, and
 * perf's locks, for what is exclusive, are outside of it. So these are done outside
 * of it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compat.h>
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched/mm.h>
#include <linux/smp.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>

#include "exclusive.h"
#include "exit.h"
#include "hook.h"
#include "host.h"
#include "host_driver.h"
#include "regs.h"
#include "run_page.h"
#include "slot.h"
#include "vcpu.h"

/**
 * struct drcache_cpu - a vCPU
 * @slot: where exits go; NULL while the CPU is not armed: no owner, or offline.
 *	Written by this CPU with interrupts off, or while it is offline.
 * @exit_reasons: the owner's, for drcache_exit_decode()
 * @flags: what each snapshot has in its flags: VALID, and EMULATED if it is; and
 *	FLAGS_SHARED
 * @published: these are for struct tdx_drcache_stats; written by this CPU with
 *	interrupts off, read by any
 * @filtered: see @published
 * @refused: see @published
 * @late: see @published
 * @l1_hwbp: see @published
 * @missed: see @published
 * @run: the owner's run page, where the hook needs it, else NULL. Not trusted:
 *	user space writes it at any time. There while @owned.
 * @run_page: the same, pinned
 * @mm: the owner's, held so that no other has its address; compared only
 * @page: the page that is mapped; there while @users is not 0. Under
 *	drcache_bind_lock.
 * @users: files bound to this vCPU. Under drcache_bind_lock.
 * @owned: one of them owns it. Under drcache_bind_lock and cpu_hotplug_lock.
 * @exclusive: its breakpoint registers are kept from L1. Changed under
 *	drcache_bind_lock, while the CPU is not armed.
 */
struct drcache_cpu {
	struct tdx_drcache_slot *slot;
	u64 exit_reasons;
	u32 flags;
	u64 published;
	u64 filtered;
	u64 refused;
	u64 late;
	u64 l1_hwbp;
	u64 missed;

	const struct mshv_vtl_run *run;
	struct page *run_page;
	struct mm_struct *mm;
	struct page *page;
	unsigned int users;
	bool owned;
	bool exclusive;
};

/* In @flags alone: L1 can have breakpoints on the CPU. The sign bit is a free test. */
#define FLAGS_SHARED	BIT(31)

static DEFINE_PER_CPU(struct drcache_cpu, drcache_cpu);

/* Protects who is bound to a vCPU; see above. */
static DEFINE_MUTEX(drcache_bind_lock);

/* Dynamic hotplug state. */
static int cpuhp_state;

/*
 * The exit path. Takes no lock, calls nothing, cannot fault, and does not need
 * RCU. Its cost does not depend on how many vCPUs are bound.
 */
static __always_inline void vcpu_exit(u64 exit_rax, u64 entry_rcx, const u32 late)
{
	struct tdx_drcache_slot *slot = this_cpu_read(drcache_cpu.slot);
	struct drcache_regs regs;
	u32 flags;

	if (!slot)
		return;

	switch (drcache_exit_decode(exit_rax, entry_rcx,
				    this_cpu_read(drcache_cpu.exit_reasons))) {
	case DRCACHE_EXIT_CAPTURE:
		break;
	case DRCACHE_EXIT_FILTERED:
		drcache_slot_invalidate(slot);
		this_cpu_inc(drcache_cpu.filtered);
		return;
	case DRCACHE_EXIT_REFUSED:
	default:
		drcache_slot_invalidate(slot);
		this_cpu_inc(drcache_cpu.refused);
		return;
	}

	drcache_regs_read(&regs);
	flags = drcache_exit_vm(entry_rcx) | late | this_cpu_read(drcache_cpu.flags);
	if (flags & FLAGS_SHARED) {
		flags &= ~FLAGS_SHARED;
		/*
		 * L1's perf and ptrace breakpoints are in the same registers, and the
		 * L2 ran with them. Not hw_breakpoint_active(): with DEBUG_PREEMPT it
		 * calls a function.
		 */
		if (unlikely(raw_cpu_read(cpu_dr7) & DR_GLOBAL_ENABLE_MASK)) {
			flags |= TDX_DRCACHE_L1_HWBP;
			this_cpu_inc(drcache_cpu.l1_hwbp);
		}
	}
	drcache_slot_publish(slot, flags, exit_rax, &regs);
	this_cpu_inc(drcache_cpu.published);
	if (late)	/* known when compiled */
		this_cpu_inc(drcache_cpu.late);
}

/**
 * drcache_vcpu_exit() - TDG.VP.ENTER has returned on this CPU
 * @exit_rax: RAX as the instruction left it
 * @entry_rcx: the RCX that it was given
 *
 * Context: Interrupts off since. RCU may not be watching.
 */
void notrace drcache_vcpu_exit(u64 exit_rax, u64 entry_rcx)
{
	vcpu_exit(exit_rax, entry_rcx, 0);
}
NOKPROBE_SYMBOL(drcache_vcpu_exit);

/**
 * drcache_vcpu_exit_late() - it has, and interrupts were on since
 * @exit_rax: see drcache_vcpu_exit()
 * @entry_rcx: see drcache_vcpu_exit()
 *
 * Context: Interrupts off. The caller knows that the debug registers are as the
 * L2 left them.
 */
void notrace drcache_vcpu_exit_late(u64 exit_rax, u64 entry_rcx)
{
	vcpu_exit(exit_rax, entry_rcx, TDX_DRCACHE_LATE);
}
NOKPROBE_SYMBOL(drcache_vcpu_exit_late);

/**
 * drcache_vcpu_missed() - there was an exit on this CPU, and its registers are
 *	not to be had any more
 *
 * Context: Interrupts off.
 */
void notrace drcache_vcpu_missed(void)
{
	struct tdx_drcache_slot *slot = this_cpu_read(drcache_cpu.slot);

	if (!slot)
		return;
	drcache_slot_invalidate(slot);
	this_cpu_inc(drcache_cpu.missed);
}
NOKPROBE_SYMBOL(drcache_vcpu_missed);

/* The run page of the owner of this CPU; NULL if it is not armed. IRQs are off. */
const struct mshv_vtl_run *notrace drcache_vcpu_run(void)
{
	return this_cpu_read(drcache_cpu.slot) ? this_cpu_read(drcache_cpu.run) : NULL;
}
NOKPROBE_SYMBOL(drcache_vcpu_run);

/* The owner's mm, to compare. IRQs are off, and the CPU is armed. */
const struct mm_struct *notrace drcache_vcpu_mm(void)
{
	return this_cpu_read(drcache_cpu.mm);
}
NOKPROBE_SYMBOL(drcache_vcpu_mm);

/* arm() and disarm() run on @c's CPU with interrupts off. */
static void arm(struct drcache_cpu *c)
{
	WRITE_ONCE(c->slot, drcache_page_slot(c->page));
	drcache_hook_arm(c->exclusive);
}

static void disarm(struct drcache_cpu *c)
{
	static const struct drcache_regs zero;

	drcache_hook_disarm();
	WRITE_ONCE(c->slot, NULL);
	drcache_slot_publish(drcache_page_slot(c->page), 0, 0, &zero);
}

static void arm_ipi(void *info)
{
	arm(info);
}

static void disarm_ipi(void *info)
{
	disarm(info);
}

/* TDX_DRCACHE_HOST_*, if @hook is the hook in place, or the one that could be. */
u32 drcache_vcpu_host(u32 hook)
{
	return drcache_host_kind(drcache_host_driver_emulated(),
				 boot_cpu_has(X86_FEATURE_TDX_GUEST),
				 hook != TDX_DRCACHE_HOOK_NONE);
}

/* TDX_DRCACHE_FEATURE_* */
u64 drcache_vcpu_features(void)
{
	return drcache_exclusive_possible() ? TDX_DRCACHE_FEATURE_EXCLUSIVE : 0;
}

static struct page *page_create(unsigned int cpu)
{
	struct tdx_drcache_header *header;
	struct page *page;

	page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!page)
		return NULL;
	header = page_address(page);
	header->magic = TDX_DRCACHE_MAGIC;
	header->header_size = offsetof(struct tdx_drcache_header, reserved);
	header->slot_size = sizeof(struct tdx_drcache_slot);
	header->slot_offset = DRCACHE_SLOT_OFFSET;
	header->cpu = cpu;
	header->features = drcache_vcpu_features();
	return page;
}

/* The CPU is not armed any more: let go of what the owner brought. */
static void put_owner(struct drcache_cpu *c, unsigned int cpu)
{
	drcache_exclusive_release(cpu);
	WRITE_ONCE(c->exclusive, false);
	drcache_run_page_unpin(c->run_page);
	c->run_page = NULL;
	c->run = NULL;
	mmdrop(c->mm);
	c->mm = NULL;
	drcache_hook_put();
}

/* Can the hook serve what the caller wants, and the caller? */
static int check_hook(const struct drcache_hook *hook, const struct tdx_drcache_bind *bind)
{
	if (bind->exit_reasons & hook->untold || (hook->native_only && in_compat_syscall()))
		return -EOPNOTSUPP;
	return hook->needs_run_page && !bind->run_page ? -EINVAL : 0;
}

/*
 * Make the vCPU owned and arm its CPU; -ENXIO if that is offline. A run page that
 * the hook needs is taken over, and *@run_page set to NULL.
 */
static int own(struct drcache_cpu *c, unsigned int cpu,
	       const struct tdx_drcache_bind *bind, struct page **run_page)
{
	const struct drcache_hook *hook;
	u32 host;
	int ret;

	if (c->owned)
		return -EBUSY;
	hook = drcache_hook_get();
	if (IS_ERR(hook))
		return PTR_ERR(hook);
	c->mm = current->mm;
	mmgrab(c->mm);
	host = drcache_vcpu_host(hook->id);
	if (host == TDX_DRCACHE_HOST_NONE) {
		pr_notice_ratelimited("no host driver to hook: this is not a TDX guest\n");
		ret = -ENODEV;
		goto err_put_owner;
	}
	ret = check_hook(hook, bind);
	if (ret)
		goto err_put_owner;
	if (hook->needs_run_page) {
		swap(c->run_page, *run_page);
		c->run = page_address(c->run_page);
	}

	if (bind->flags & TDX_DRCACHE_BIND_EXCLUSIVE) {
		ret = drcache_exclusive_reserve(cpu);
		if (ret)
			goto err_put_owner;
		WRITE_ONCE(c->exclusive, true);
	}

	c->exit_reasons = bind->exit_reasons ?: TDX_DRCACHE_HW_INTERRUPT;
	c->flags = TDX_DRCACHE_VALID;
	if (host == TDX_DRCACHE_HOST_EMULATED)
		c->flags |= TDX_DRCACHE_EMULATED;
	if (!c->exclusive)
		c->flags |= FLAGS_SHARED;
	/* Observers may be reading these. */
	WRITE_ONCE(c->published, 0);
	WRITE_ONCE(c->filtered, 0);
	WRITE_ONCE(c->refused, 0);
	WRITE_ONCE(c->late, 0);
	WRITE_ONCE(c->l1_hwbp, 0);
	WRITE_ONCE(c->missed, 0);

	cpus_read_lock();
	ret = smp_call_function_single(cpu, arm_ipi, c, true);
	c->owned = !ret;
	cpus_read_unlock();
	if (!ret)
		return 0;
err_put_owner:
	put_owner(c, cpu);
	return ret;
}

static void disown(struct drcache_cpu *c, unsigned int cpu)
{
	cpus_read_lock();
	/* An offline CPU is disarmed already. */
	smp_call_function_single(cpu, disarm_ipi, c, true);
	c->owned = false;
	cpus_read_unlock();
	put_owner(c, cpu);
}

/**
 * drcache_vcpu_bind() - another file is bound to a vCPU
 * @bind: what the caller wants, checked
 * @cpu: its cpu, below nr_cpu_ids
 *
 * Context: May sleep. In the process of the owner.
 * Return: the vCPU's page, with a reference for the file that is
 * drcache_vcpu_unbind()'s to drop; or an ERR_PTR() as listed at
 * TDX_DRCACHE_BIND.
 */
struct page *drcache_vcpu_bind(const struct tdx_drcache_bind *bind, unsigned int cpu)
{
	struct drcache_cpu *c = per_cpu_ptr(&drcache_cpu, cpu);
	struct page *run_page;
	int ret = 0;

	if (!cpu_online(cpu))
		return ERR_PTR(-ENXIO);
	run_page = drcache_run_page_pin(bind->run_page);
	if (IS_ERR(run_page))
		return run_page;

	mutex_lock(&drcache_bind_lock);
	if (!c->users) {
		c->page = page_create(cpu);
		if (!c->page) {
			ret = -ENOMEM;
			goto out;
		}
	}
	if (!(bind->flags & TDX_DRCACHE_BIND_OBSERVE))
		ret = own(c, cpu, bind, &run_page);
	if (!ret)
		c->users++;
	else if (!c->users)
		put_page(c->page);
out:
	mutex_unlock(&drcache_bind_lock);
	drcache_run_page_unpin(run_page);
	return ret ? ERR_PTR(ret) : c->page;
}

/**
 * drcache_vcpu_unbind() - a file that was bound is gone, and its mappings
 * @cpu: as given to drcache_vcpu_bind()
 * @owner: it was the owner
 *
 * Context: May sleep.
 */
void drcache_vcpu_unbind(unsigned int cpu, bool owner)
{
	struct drcache_cpu *c = per_cpu_ptr(&drcache_cpu, cpu);

	mutex_lock(&drcache_bind_lock);
	if (owner)
		disown(c, cpu);
	if (!--c->users)
		put_page(c->page);
	mutex_unlock(&drcache_bind_lock);
}

/* Fill in the counts, and how the vCPU is owned now. */
void drcache_vcpu_stats(unsigned int cpu, struct tdx_drcache_stats *stats)
{
	struct drcache_cpu *c = per_cpu_ptr(&drcache_cpu, cpu);

	stats->flags = READ_ONCE(c->exclusive) ? TDX_DRCACHE_STATS_EXCLUSIVE : 0;
	stats->published = READ_ONCE(c->published);
	stats->filtered = READ_ONCE(c->filtered);
	stats->refused = READ_ONCE(c->refused);
	stats->late = READ_ONCE(c->late);
	stats->l1_hwbp = READ_ONCE(c->l1_hwbp);
	stats->missed = READ_ONCE(c->missed);
}

/* On the CPU, before any task runs there. */
static int vcpu_online(unsigned int cpu)
{
	struct drcache_cpu *c = this_cpu_ptr(&drcache_cpu);
	unsigned long flags;

	if (c->owned) {
		local_irq_save(flags);
		arm(c);
		local_irq_restore(flags);
	}
	return 0;
}

/* On the CPU. A task that still runs there is not captured any more. */
static int vcpu_offline(unsigned int cpu)
{
	struct drcache_cpu *c = this_cpu_ptr(&drcache_cpu);
	unsigned long flags;

	if (c->owned) {
		local_irq_save(flags);
		disarm(c);
		local_irq_restore(flags);
	}
	return 0;
}

int __init drcache_vcpu_init(void)
{
	int ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "tdx_drcache:online",
				    vcpu_online, vcpu_offline);

	if (ret < 0)
		return ret;
	cpuhp_state = ret;
	return 0;
}

void drcache_vcpu_fini(void)
{
	cpuhp_remove_state(cpuhp_state);
}
