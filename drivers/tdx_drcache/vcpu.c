// SPDX-License-Identifier: GPL-2.0
/*
 * The vCPUs: their pages, who is bound to them, and what happens at an exit.
 *
 * Locks, outermost first:
 *
 *   drcache_bind_lock    who is bound, the hook's users
 *   cpu_hotplug_lock     whether a CPU is armed
 *
 * cpu_hotplug_lock is taken for reading here, and the hotplug callbacks run
 * with it taken for writing. Placing and removing a hook takes it as well, so
 * these are done outside of it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/hw_breakpoint.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/smp.h>
#include <linux/tdx_drcache.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>

#include "exit.h"
#include "hook.h"
#include "host.h"
#include "regs.h"
#include "slot.h"
#include "vcpu.h"

/**
 * struct drcache_cpu - a vCPU
 * @slot: where exits go; NULL while the CPU is not armed: no owner, or offline.
 *	Written by this CPU with interrupts off, or while it is offline.
 * @exit_reasons: the owner's, for drcache_exit_decode()
 * @flags: what each snapshot has in its flags: VALID, and EMULATED if it is
 * @published: these are for struct tdx_drcache_stats; written by this CPU with
 *	interrupts off, read by any
 * @filtered: see @published
 * @refused: see @published
 * @l1_hwbp: see @published
 * @page: the page that is mapped; there while @users is not 0. Under
 *	drcache_bind_lock.
 * @users: files bound to this vCPU. Under drcache_bind_lock.
 * @owned: one of them owns it. Under drcache_bind_lock and cpu_hotplug_lock.
 */
struct drcache_cpu {
	struct tdx_drcache_slot *slot;
	u64 exit_reasons;
	u32 flags;
	u64 published;
	u64 filtered;
	u64 refused;
	u64 l1_hwbp;

	struct page *page;
	unsigned int users;
	bool owned;
};

static DEFINE_PER_CPU(struct drcache_cpu, drcache_cpu);

/* Who is bound to what; see above. */
static DEFINE_MUTEX(drcache_bind_lock);

/* What cpuhp_setup_state() gave. */
static int cpuhp_state;

/**
 * drcache_vcpu_exit() - TDG.VP.ENTER has returned on this CPU
 * @exit_rax: RAX as the instruction left it
 * @entry_rcx: the RCX that it was given
 *
 * The exit path. Takes no lock, calls nothing, cannot fault, and does not need
 * RCU. What it costs is that much whatever is bound elsewhere.
 *
 * Context: Interrupts off. RCU may not be watching.
 */
void notrace drcache_vcpu_exit(u64 exit_rax, u64 entry_rcx)
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
	flags = this_cpu_read(drcache_cpu.flags) |
		drcache_exit_vm(entry_rcx) << TDX_DRCACHE_VM_SHIFT;
	/*
	 * L1's perf and ptrace breakpoints are in the same registers, and the
	 * L2 ran with them.
	 */
	if (unlikely(hw_breakpoint_active())) {
		flags |= TDX_DRCACHE_L1_HWBP;
		this_cpu_inc(drcache_cpu.l1_hwbp);
	}
	drcache_slot_publish(slot, flags, exit_rax, &regs);
	this_cpu_inc(drcache_cpu.published);
}
NOKPROBE_SYMBOL(drcache_vcpu_exit);

/* On the CPU itself with interrupts off, or on any while @c's is offline. */
static void arm(struct drcache_cpu *c)
{
	WRITE_ONCE(c->slot, drcache_page_slot(c->page));
}

static void disarm(struct drcache_cpu *c)
{
	static const struct drcache_regs zero;

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

/* TDX_DRCACHE_HOST_* */
u32 drcache_vcpu_host(void)
{
	bool emulated = symbol_get(mshv_vtl_emulated);

	if (emulated)
		symbol_put(mshv_vtl_emulated);
	return drcache_host_kind(emulated, boot_cpu_has(X86_FEATURE_TDX_GUEST),
				 drcache_hook_which() != TDX_DRCACHE_HOOK_NONE);
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
	return page;
}

/* Make the vCPU owned and arm its CPU. -ENXIO if that is offline. */
static int own(struct drcache_cpu *c, unsigned int cpu, u64 exit_reasons)
{
	u32 host = drcache_vcpu_host();
	int ret;

	if (c->owned)
		return -EBUSY;
	ret = drcache_hook_get();
	if (ret)
		return ret;
	if (host == TDX_DRCACHE_HOST_NONE) {
		pr_notice_ratelimited("no host driver to hook: this is not a TDX guest\n");
		drcache_hook_put();
		return -ENODEV;
	}

	c->exit_reasons = exit_reasons ?: TDX_DRCACHE_HW_INTERRUPT;
	c->flags = TDX_DRCACHE_VALID;
	if (host == TDX_DRCACHE_HOST_EMULATED)
		c->flags |= TDX_DRCACHE_EMULATED;
	c->published = 0;
	c->filtered = 0;
	c->refused = 0;
	c->l1_hwbp = 0;

	cpus_read_lock();
	ret = smp_call_function_single(cpu, arm_ipi, c, true);
	c->owned = !ret;
	cpus_read_unlock();
	if (ret)
		drcache_hook_put();
	return ret;
}

static void disown(struct drcache_cpu *c, unsigned int cpu)
{
	cpus_read_lock();
	/* An offline CPU is disarmed already. */
	smp_call_function_single(cpu, disarm_ipi, c, true);
	c->owned = false;
	cpus_read_unlock();
	drcache_hook_put();
}

/**
 * drcache_vcpu_bind() - another file is bound to a vCPU
 * @cpu: which, below nr_cpu_ids
 * @exit_reasons: of the owner; 0 for HW_INTERRUPT alone
 * @owner: it owns the vCPU, else it looks on
 *
 * Context: May sleep.
 * Return: the vCPU's page, with a reference for the file that is
 * drcache_vcpu_unbind()'s to drop; or an ERR_PTR() as listed at
 * TDX_DRCACHE_BIND.
 */
struct page *drcache_vcpu_bind(unsigned int cpu, u64 exit_reasons, bool owner)
{
	struct drcache_cpu *c = per_cpu_ptr(&drcache_cpu, cpu);
	int ret = 0;

	if (!cpu_online(cpu))
		return ERR_PTR(-ENXIO);

	mutex_lock(&drcache_bind_lock);
	if (!c->users) {
		c->page = page_create(cpu);
		if (!c->page) {
			ret = -ENOMEM;
			goto out;
		}
	}
	if (owner)
		ret = own(c, cpu, exit_reasons);
	if (!ret)
		c->users++;
	else if (!c->users)
		put_page(c->page);
out:
	mutex_unlock(&drcache_bind_lock);
	return ret ? ERR_PTR(ret) : c->page;
}

/**
 * drcache_vcpu_unbind() - a file that was bound is gone, and its mappings
 * @cpu: as given to drcache_vcpu_bind()
 * @owner: likewise
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

/* Fill in the counts. */
void drcache_vcpu_stats(unsigned int cpu, struct tdx_drcache_stats *stats)
{
	struct drcache_cpu *c = per_cpu_ptr(&drcache_cpu, cpu);

	stats->published = READ_ONCE(c->published);
	stats->filtered = READ_ONCE(c->filtered);
	stats->refused = READ_ONCE(c->refused);
	stats->l1_hwbp = READ_ONCE(c->l1_hwbp);
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
