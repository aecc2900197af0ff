// SPDX-License-Identifier: GPL-2.0
/*
 * The cost of an exit, in ticks of the time stamp counter. Reading the parameter
 * "exit_cost" makes a thousand exits of each kind, with interrupts off, and reports the
 * quickest batch, per exit. Under QEMU's -icount shift=0 a tick is an instruction. On a real
 * CPU batches differ: reading "native_cost" reports the median, least and most of many.
 */
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sort.h>
#include <asm/msr.h>
#include <tdx/tdg_vp.h>

#include "mock_host.h"

#define BATCHES		10
#define BATCH		100
/* Odd, so that there is a median. */
#define NATIVE_BATCHES	31

/* mock_host_exit_here() without a call site to patch. */
static noinline void no_exit(u64 rax, u64 rcx)
{
	barrier();
}

/*
 * The fprobe hook finds this by name; the owner's run page describes the exit. Only
 * hook=fprobe selects it, because tdx_drcache prefers the callout.
 */
void mshv_vtl_return_tdx(void);
noinline void mshv_vtl_return_tdx(void)
{
	barrier();
}

static noinline void fprobed_exit(u64 rax, u64 rcx)
{
	mshv_vtl_return_tdx();
	barrier();
}

/* Ticks of BATCH calls. */
static u64 measure_batch(void (*fn)(u64 rax, u64 rcx), u64 rax)
{
	unsigned long flags;
	u64 start, ticks;
	int i;

	local_irq_save(flags);
	start = rdtsc();
	for (i = 0; i < BATCH; i++) {
		OPTIMIZER_HIDE_VAR(fn);
		fn(rax, 1ULL << TDX_ENTRY_VM_SHIFT);
	}
	ticks = rdtsc() - start;
	local_irq_restore(flags);
	return ticks;
}

/* Ticks of BATCH calls, in the quickest of BATCHES batches. */
static u64 measure(void (*fn)(u64 rax, u64 rcx), u64 rax)
{
	u64 least = U64_MAX;
	int i;

	for (i = 0; i < BATCHES; i++)
		least = min(least, measure_batch(fn, rax));
	return least;
}

static int exit_cost_get(char *buf, const struct kernel_param *kp)
{
	static const struct {
		const char *name;
		u64 rax;
	} kinds[] = {
		{ "refused, class 0x1120", 0x112000000000 },
		{ "TDVMCALL, class 0x1101", 0x11010000004d },
		{ "HLT, class 0", 12 },
		{ "HW_INTERRUPT, class 0", 1 },
		/* Comes last, to leave a snapshot. */
		{ "HW_INTERRUPT, class 0x1100", 0x110000000001 },
	};
	u64 base = measure(no_exit, 0), ticks;
	int i, len = 0;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		/* Measure twice: the first run leaves the slot as the second needs it. */
		measure(mock_host_exit_here, kinds[i].rax);
		ticks = measure(mock_host_exit_here, kinds[i].rax) - base;
		len += sysfs_emit_at(buf, len, "%s\t%llu.%02llu\n", kinds[i].name,
				     ticks / BATCH, ticks % BATCH);
	}
	return len;
}

static const struct kernel_param_ops exit_cost_ops = {
	.get = exit_cost_get,
};
module_param_cb(exit_cost, &exit_cost_ops, NULL, 0400);
MODULE_PARM_DESC(exit_cost, "read: make exits, and report the cost of each kind");

static int fprobe_cost_get(char *buf, const struct kernel_param *kp)
{
	u64 ticks;

	measure(fprobed_exit, 0);
	ticks = measure(fprobed_exit, 0) - measure(no_exit, 0);
	return sysfs_emit(buf, "call\t%llu.%02llu\n", ticks / BATCH, ticks % BATCH);
}

static const struct kernel_param_ops fprobe_cost_ops = {
	.get = fprobe_cost_get,
};
module_param_cb(fprobe_cost, &fprobe_cost_ops, NULL, 0400);
MODULE_PARM_DESC(fprobe_cost, "read: call mshv_vtl_return_tdx(), and report the cost of one call");

static noinline void read_dr(u64 rax, u64 rcx)
{
	unsigned long val;

	asm volatile("mov %%db0, %0" : "=r" (val));
}

static noinline void read_tsc(u64 rax, u64 rcx)
{
	rdtsc();
}

static int compare_s64(const void *a, const void *b)
{
	s64 x = *(const s64 *)a, y = *(const s64 *)b;

	return x < y ? -1 : x > y;
}

static int native_cost_get(char *buf, const struct kernel_param *kp)
{
	static const struct {
		const char *name;
		void (*fn)(u64 rax, u64 rcx);
		u64 rax;
	} kinds[] = {
		{ "a MOV from DR0", read_dr },
		{ "RDTSC", read_tsc },
		{ "a filtered exit", mock_host_exit_here, 12 },
		/* Comes last, to leave a snapshot. */
		{ "a captured exit", mock_host_exit_here, 0x110000000001 },
	};
	const int median = NATIVE_BATCHES / 2, most = NATIVE_BATCHES - 1;
	s64 ticks[NATIVE_BATCHES];
	int i, j, len = 0;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		/* The first leaves the slot and the caches as the others need them. */
		measure_batch(kinds[i].fn, kinds[i].rax);
		for (j = 0; j < ARRAY_SIZE(ticks); j++) {
			ticks[j] = measure_batch(kinds[i].fn, kinds[i].rax);
			ticks[j] -= measure_batch(no_exit, 0);
			ticks[j] = max_t(s64, ticks[j], 0);
		}
		sort(ticks, ARRAY_SIZE(ticks), sizeof(*ticks), compare_s64, NULL);
		len += sysfs_emit_at(buf, len, "%s\t%lld.%02lld\t%lld.%02lld\t%lld.%02lld\n",
				     kinds[i].name,
				     ticks[median] / BATCH, ticks[median] % BATCH,
				     ticks[0] / BATCH, ticks[0] % BATCH,
				     ticks[most] / BATCH, ticks[most] % BATCH);
	}
	return len;
}

static const struct kernel_param_ops native_cost_ops = {
	.get = native_cost_get,
};
module_param_cb(native_cost, &native_cost_ops, NULL, 0400);
MODULE_PARM_DESC(native_cost, "read: the median, least and most ticks of exits and their parts");

/* Any ioctl succeeds; for the return hook's late captures. */
static long any_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return 0;
}

static const struct file_operations count_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= any_ioctl,
};

static struct miscdevice count_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "drcache_mock_host",
	.fops	= &count_fops,
	.mode	= 0600,
};
module_misc_device(count_misc);
