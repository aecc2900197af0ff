// SPDX-License-Identifier: GPL-2.0
/*
 * Decode numbers to names. Pure functions: no I/O here.
 */
#include <stddef.h>
#include <mshv/mshv_vtl.h>

#include "drcstat.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/*
 * Bits 11 and 16 are active low: they were reserved, and read as one, before they had a
 * meaning.
 */
const struct dr6_bit dr6_bits[DR6_BITS] = {
	{ 0, false, "B0", "breakpoint 0" },
	{ 1, false, "B1", "breakpoint 1" },
	{ 2, false, "B2", "breakpoint 2" },
	{ 3, false, "B3", "breakpoint 3" },
	{ 11, true, "BLD", "bus lock" },
	{ 13, false, "BD", "access to a debug register" },
	{ 14, false, "BS", "single step" },
	{ 15, false, "BT", "task switch" },
	{ 16, true, "RTM", "inside a transaction" },
};

const char *const stats_names[STATS] = {
	"published", "filtered", "refused", "late", "l1_hwbp", "lost",
};

bool dr6_says(uint64_t dr6, const struct dr6_bit *bit)
{
	return (dr6 >> bit->bit & 1) != bit->active_low;
}

const char *hook_name(uint32_t hook)
{
	static const char *const names[] = { "none", "callout", "fprobe", "return" };

	return hook < ARRAY_SIZE(names) ? names[hook] : "unknown";
}

/* Name of a TDX_DRCACHE_FEATURE_* bit, or NULL if unknown. */
const char *feature_name(unsigned int bit)
{
	return 1ull << bit == TDX_DRCACHE_FEATURE_EXCLUSIVE ? "exclusive" : NULL;
}

const char *host_name(uint32_t host)
{
	static const char *const names[] = { "none", "mshv_vtl", "emulated" };

	return host < ARRAY_SIZE(names) ? names[host] : "unknown";
}

/* Name of a VMX basic exit reason of an L2, or NULL if unknown. */
const char *reason_name(unsigned int reason)
{
	static const char *const names[] = {
		[0] = "EXCEPTION",
		[1] = "HW_INTERRUPT",
		[2] = "TRIPLE_FAULT",
		[3] = "INIT",
		[4] = "SIPI",
		[7] = "INTERRUPT_WINDOW",
		[8] = "NMI_WINDOW",
		[9] = "TASK_SWITCH",
		[10] = "CPUID",
		[12] = "HLT",
		[13] = "INVD",
		[14] = "INVLPG",
		[15] = "RDPMC",
		[16] = "RDTSC",
		[18] = "VMCALL",
		[28] = "CR_ACCESS",
		[29] = "DR_ACCESS",
		[30] = "IO",
		[31] = "RDMSR",
		[32] = "WRMSR",
		[36] = "MWAIT",
		[37] = "MONITOR_TRAP",
		[39] = "MONITOR",
		[40] = "PAUSE",
		[43] = "TPR_BELOW_THRESHOLD",
		[44] = "APIC_ACCESS",
		[48] = "EPT_VIOLATION",
		[49] = "EPT_MISCONFIG",
		[52] = "PREEMPTION_TIMER",
		[54] = "WBINVD",
		[55] = "XSETBV",
		[56] = "APIC_WRITE",
	};

	return reason < ARRAY_SIZE(names) ? names[reason] : NULL;
}

unsigned int exit_class(uint64_t rax)
{
	return rax >> TDX_CLASS_SHIFT;
}

unsigned int exit_reason(uint64_t rax)
{
	return rax & TDX_BASIC_REASON_MASK;
}

unsigned int vm_index(uint32_t flags)
{
	return (flags & TDX_DRCACHE_VM_MASK) >> TDX_DRCACHE_VM_SHIFT;
}

/* True if there is a snapshot that the last sample did not have, or that @differs. */
static bool changed(const struct vcpu *v, bool differs)
{
	return v->samples > 1 && v->now.res == TDX_DRCACHE_HIT &&
	       (v->before.res != TDX_DRCACHE_HIT || differs);
}

bool db_changed(const struct vcpu *v, unsigned int i)
{
	return changed(v, v->now.slot.db[i] != v->before.slot.db[i]);
}

bool dr6_changed(const struct vcpu *v)
{
	return changed(v, v->now.slot.dr6 != v->before.slot.dr6);
}

bool stat_changed(const struct vcpu *v, unsigned int i)
{
	return v->samples > 1 && v->now.stats[i] != v->before.stats[i];
}

bool exclusive_changed(const struct vcpu *v)
{
	return v->samples > 1 && v->now.exclusive != v->before.exclusive;
}
