// SPDX-License-Identifier: GPL-2.0
/*
 * The vCPUs: their pages, the files bound to them, and CPU hotplug.
 *
 * Locks, outermost first:
 *
 *   drcache_bind_lock    the bound files, the hook's users, and exclusive vCPUs
 *   cpu_hotplug_lock     whether a CPU is armed
 *
 * This file takes cpu_hotplug_lock for reading; the hotplug callbacks run with it held
 * for writing. Hooks must be placed and removed without it, because that takes it too.
 * Breakpoint slots must be reserved and released without it, because perf's locks nest
 * outside it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compat.h>
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/smp.h>

#include "capture.h"
#include "exclusive.h"
#include "hook.h"
#include "host_driver.h"
#include "run_page.h"
#include "vcpu.h"

/**
 * struct drcache_vcpu - a vCPU
 * @page: the mapped page; allocated while @users is not 0
 * @users: number of files bound to this vCPU
 * @owned: one of them owns it; also protected by cpu_hotplug_lock
 * @exclusive: L1's breakpoints are kept off its CPU. Changes only while the CPU is not
 *	armed; GET_STATS reads it without a lock.
 *
 * drcache_bind_lock protects all members.
 */
struct drcache_vcpu {
	struct page *page;
	unsigned int users;
	bool owned;
	bool exclusive;
};

static DEFINE_PER_CPU(struct drcache_vcpu, drcache_vcpu);

/* Protects struct drcache_vcpu and the hook; see above. */
static DEFINE_MUTEX(drcache_bind_lock);

/* Dynamic hotplug state. */
static int cpuhp_state;

/* vcpu_arm() and vcpu_disarm() run on the CPU of the vCPU @info, with interrupts off. */
static void vcpu_arm(void *info)
{
	const struct drcache_vcpu *v = info;

	drcache_capture_start(drcache_page_slot(v->page));
	drcache_run_page_start();
	drcache_hook_arm(v->exclusive);
}

static void vcpu_disarm(void *info)
{
	drcache_hook_disarm();
	drcache_run_page_stop();
	drcache_capture_stop();
}

/* Return TDX_DRCACHE_FEATURE_*. */
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

/* Release everything acquired for the owner. The CPU must be disarmed. */
static void vcpu_put_owner(struct drcache_vcpu *v, unsigned int cpu)
{
	drcache_exclusive_release(cpu);
	WRITE_ONCE(v->exclusive, false);
	drcache_run_page_take(cpu);
	drcache_hook_put();
}

/* Check that the hook supports the request and the caller's kind of system calls. */
static int vcpu_check_hook(const struct drcache_hook *hook,
			   const struct tdx_drcache_bind *bind)
{
	if (bind->exit_reasons & hook->untold || (hook->native_only && in_compat_syscall()))
		return -EOPNOTSUPP;
	return hook->needs_run_page && !bind->run_page ? -EINVAL : 0;
}

/*
 * Make the vCPU owned and arm its CPU; -ENXIO if the CPU is offline. If the hook needs
 * the run page, take it over and set *@run_page to NULL.
 */
static int vcpu_own(struct drcache_vcpu *v, unsigned int cpu,
		    const struct tdx_drcache_bind *bind, struct page **run_page)
{
	const struct drcache_hook *hook;
	u32 host, flags = TDX_DRCACHE_VALID;
	int ret;

	if (v->owned)
		return -EBUSY;
	hook = drcache_hook_get();
	if (IS_ERR(hook))
		return PTR_ERR(hook);
	host = drcache_host_driver_kind(hook->id);
	if (host == TDX_DRCACHE_HOST_NONE) {
		pr_notice_ratelimited("no host driver to hook: this is not a TDX guest\n");
		ret = -ENODEV;
		goto err_put_owner;
	}
	ret = vcpu_check_hook(hook, bind);
	if (ret)
		goto err_put_owner;
	if (hook->needs_run_page) {
		drcache_run_page_give(cpu, *run_page);
		*run_page = NULL;
	}
	if (bind->flags & TDX_DRCACHE_BIND_EXCLUSIVE) {
		ret = drcache_exclusive_reserve(cpu);
		if (ret)
			goto err_put_owner;
		WRITE_ONCE(v->exclusive, true);
	}
	if (host == TDX_DRCACHE_HOST_EMULATED)
		flags |= TDX_DRCACHE_EMULATED;
	drcache_capture_setup(cpu, bind->exit_reasons ?: TDX_DRCACHE_REASON_HW_INTERRUPT, flags,
			      v->exclusive);

	cpus_read_lock();
	ret = smp_call_function_single(cpu, vcpu_arm, v, true);
	v->owned = !ret;
	cpus_read_unlock();
	if (!ret)
		return 0;
err_put_owner:
	vcpu_put_owner(v, cpu);
	return ret;
}

static void vcpu_disown(struct drcache_vcpu *v, unsigned int cpu)
{
	cpus_read_lock();
	/* An offline CPU is already disarmed. */
	smp_call_function_single(cpu, vcpu_disarm, v, true);
	v->owned = false;
	cpus_read_unlock();
	vcpu_put_owner(v, cpu);
}

/**
 * drcache_vcpu_bind() - bind a file to a vCPU
 * @bind: the validated request
 * @cpu: @bind's CPU, below nr_cpu_ids
 *
 * Context: May sleep. Must run in the caller's process.
 * Return: the vCPU's page, which stays allocated until drcache_vcpu_unbind(); or an
 * ERR_PTR() with an errno listed at TDX_DRCACHE_BIND.
 */
struct page *drcache_vcpu_bind(const struct tdx_drcache_bind *bind, unsigned int cpu)
{
	struct drcache_vcpu *v = per_cpu_ptr(&drcache_vcpu, cpu);
	struct page *run_page;
	int ret = 0;

	if (!cpu_online(cpu))
		return ERR_PTR(-ENXIO);
	run_page = drcache_run_page_pin(bind->run_page);
	if (IS_ERR(run_page))
		return run_page;

	mutex_lock(&drcache_bind_lock);
	if (!v->users) {
		v->page = page_create(cpu);
		if (!v->page) {
			ret = -ENOMEM;
			goto out;
		}
	}
	if (!(bind->flags & TDX_DRCACHE_BIND_OBSERVE))
		ret = vcpu_own(v, cpu, bind, &run_page);
	if (!ret)
		v->users++;
	else if (!v->users)
		put_page(v->page);
out:
	mutex_unlock(&drcache_bind_lock);
	drcache_run_page_unpin(run_page);
	return ret ? ERR_PTR(ret) : v->page;
}

/**
 * drcache_vcpu_unbind() - unbind a file whose mappings are gone
 * @cpu: as given to drcache_vcpu_bind()
 * @owner: true if the file was the owner
 *
 * Context: May sleep.
 */
void drcache_vcpu_unbind(unsigned int cpu, bool owner)
{
	struct drcache_vcpu *v = per_cpu_ptr(&drcache_vcpu, cpu);

	mutex_lock(&drcache_bind_lock);
	if (owner)
		vcpu_disown(v, cpu);
	if (!--v->users)
		put_page(v->page);
	mutex_unlock(&drcache_bind_lock);
}

/* Fill in the counts, and whether the vCPU is exclusive now. */
void drcache_vcpu_stats(unsigned int cpu, struct tdx_drcache_stats *stats)
{
	struct drcache_vcpu *v = per_cpu_ptr(&drcache_vcpu, cpu);

	stats->flags = READ_ONCE(v->exclusive) ? TDX_DRCACHE_STATS_EXCLUSIVE : 0;
	/* The counts form an array in @stats too; dev.c checks that it has no gap. */
	drcache_capture_counts(cpu, (void *)stats +
			       offsetof(struct tdx_drcache_stats, published));
}

/* Runs on the CPU, before any user task does. */
static int vcpu_online(unsigned int cpu)
{
	struct drcache_vcpu *v = this_cpu_ptr(&drcache_vcpu);
	unsigned long flags;

	if (v->owned) {
		local_irq_save(flags);
		vcpu_arm(v);
		local_irq_restore(flags);
	}
	return 0;
}

/* Runs on the CPU. Tasks may still run there; their exits are no longer captured. */
static int vcpu_offline(unsigned int cpu)
{
	struct drcache_vcpu *v = this_cpu_ptr(&drcache_vcpu);
	unsigned long flags;

	if (v->owned) {
		local_irq_save(flags);
		vcpu_disarm(v);
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
