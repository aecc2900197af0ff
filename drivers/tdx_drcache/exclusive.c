// SPDX-License-Identifier: GPL-2.0
/*
 * Keep a CPU's breakpoint registers from L1 while an L2 has them.
 *
 * perf counts the breakpoints that may be on a CPU at the same time, and refuses one
 * more than the CPU has registers. So four that are never enabled leave none for
 * anybody: perf, ptrace and whoever asks in the kernel get ENOSPC, and nobody writes
 * DR0-DR3 or DR7. No register is written for it. kgdb reserves its breakpoints the
 * same way.
 *
 * A breakpoint of a task counts for each CPU, wherever the task is. So this fails
 * while any task has one, and no task can get one meanwhile.
 */
#include <linux/err.h>
#include <linux/hw_breakpoint.h>
#include <linux/kgdb.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>

#include "exclusive.h"

#ifdef CONFIG_HAVE_HW_BREAKPOINT

/* A CPU's slots; NULL where not reserved. Under drcache_bind_lock. */
struct reserved {
	struct perf_event *events[HBP_NUM];
};

static DEFINE_PER_CPU(struct reserved, reserved);

/* Can this kernel have it? */
bool drcache_exclusive_possible(void)
{
	return true;
}

/* kgdb restores all debug registers of every CPU when it lets the kernel go on. */
static bool debugger_is_connected(void)
{
#ifdef CONFIG_KGDB
	return READ_ONCE(kgdb_connected);
#else
	return false;
#endif
}

/* The errno for a user of this module. */
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
 * They stay reserved while the CPU is offline. After a failure some may be reserved,
 * too: drcache_exclusive_release() gives them back in any case.
 *
 * Context: May sleep. drcache_bind_lock is held, and cpu_hotplug_lock is not: perf
 * takes locks that are outside of it.
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
	/* Not an address of the kernel's: perf would ask for capabilities again. */
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
 * drcache_exclusive_release() - give L1 a CPU's breakpoint slots back
 * @cpu: the CPU; nothing happens if none is reserved
 *
 * Context: As drcache_exclusive_reserve(); the CPU may be offline.
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

#else /* a kernel without breakpoints: x86 always has them so far */

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
