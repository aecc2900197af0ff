// SPDX-License-Identifier: GPL-2.0
/*
 * Keep L1's breakpoints off a CPU while its vCPU is exclusive.
 *
 * perf counts the breakpoints that may be on a CPU at the same time, and allows no more
 * than the CPU has registers. Four events that are never enabled therefore reserve all
 * of them without writing a register. perf, ptrace and the kernel's own users then get
 * ENOSPC, so none of them writes DR0-DR3 or DR7. kgdb reserves its breakpoints the same
 * way.
 *
 * A breakpoint of a task counts on every CPU, wherever the task runs. So the reservation
 * fails while any task has one, and while it lasts no task can get one.
 */
#include <linux/err.h>
#include <linux/hw_breakpoint.h>
#include <linux/kgdb.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>

#include "exclusive.h"

#ifdef CONFIG_HAVE_HW_BREAKPOINT

/* A CPU's breakpoint slots; NULL if not reserved. Protected by drcache_bind_lock. */
struct reserved {
	struct perf_event *events[HBP_NUM];
};

static DEFINE_PER_CPU(struct reserved, reserved);

/* Return true if this kernel supports exclusive vCPUs. */
bool drcache_exclusive_possible(void)
{
	return true;
}

/* kgdb restores the debug registers of every CPU when it resumes the kernel. */
static bool debugger_is_connected(void)
{
#ifdef CONFIG_KGDB
	return READ_ONCE(kgdb_connected);
#else
	return false;
#endif
}

/* Translate perf's errno to BIND's. */
static int bind_error(int err)
{
	switch (err) {
	case -ENOSPC:
	case -ENOMEM:
		return err;
	case -ENODEV:	/* the CPU is offline */
		return -ENXIO;
	default:
		return -EOPNOTSUPP;
	}
}

/**
 * drcache_exclusive_reserve() - reserve all breakpoint slots of a CPU
 * @cpu: the CPU, with none reserved yet
 *
 * The slots stay reserved while the CPU is offline. On failure some may be reserved too,
 * so call drcache_exclusive_release() in any case.
 *
 * Context: May sleep. Call with drcache_bind_lock held and without cpu_hotplug_lock:
 * perf's locks nest outside it.
 * Return: 0; -ENOSPC if L1 has a breakpoint that may run there; -EBUSY if a debugger
 * is connected to kgdb; -ENXIO if the CPU is offline; -ENOMEM; -EOPNOTSUPP if the
 * kernel has no breakpoints.
 */
int drcache_exclusive_reserve(unsigned int cpu)
{
	struct reserved *r = per_cpu_ptr(&reserved, cpu);
	struct perf_event_attr attr;
	struct perf_event *event;
	unsigned int i;

	if (debugger_is_connected())
		return -EBUSY;
	hw_breakpoint_init(&attr);
	/* With a kernel address, perf would check the caller's capabilities again. */
	attr.bp_addr = 0;
	attr.bp_len = HW_BREAKPOINT_LEN_1;
	attr.bp_type = HW_BREAKPOINT_W;
	attr.disabled = 1;
	for (i = 0; i < HBP_NUM; i++) {
		event = perf_event_create_kernel_counter(&attr, cpu, NULL, NULL, NULL);
		if (IS_ERR(event))
			return bind_error(PTR_ERR(event));
		r->events[i] = event;
	}
	return 0;
}

/**
 * drcache_exclusive_release() - return a CPU's breakpoint slots to L1
 * @cpu: the CPU, which may be offline; no-op if no slot is reserved
 *
 * Context: As drcache_exclusive_reserve().
 */
void drcache_exclusive_release(unsigned int cpu)
{
	struct reserved *r = per_cpu_ptr(&reserved, cpu);
	unsigned int i;

	for (i = 0; i < HBP_NUM && r->events[i]; i++) {
		perf_event_release_kernel(r->events[i]);
		r->events[i] = NULL;
	}
}

#else /* not on x86 so far, which always selects HAVE_HW_BREAKPOINT */

bool drcache_exclusive_possible(void)
{
	return false;
}

int drcache_exclusive_reserve(unsigned int cpu)
{
	return -EOPNOTSUPP;
}

void drcache_exclusive_release(unsigned int cpu)
{
}

#endif
