// SPDX-License-Identifier: GPL-2.0
/*
 * The cost of an exit, in ticks of the time stamp counter. Reading the parameter
 * "exit_cost" makes a thousand exits of each kind, with interrupts off, and reports the
 * quickest batch, per exit. Under QEMU's -icount shift=0 a tick is an instruction.
 */
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <asm/msr.h>
#include <tdx/tdg_vp.h>

#include "mock_host.h"

#define BATCHES		10
#define BATCH		100

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

/* Ticks of BATCH calls, in the quickest of BATCHES batches. */
static u64 measure(void (*fn)(u64 rax, u64 rcx), u64 rax)
{
	u64 start, ticks, least = U64_MAX;
	unsigned long flags;
	int i, j;

	for (i = 0; i < BATCHES; i++) {
		local_irq_save(flags);
		start = rdtsc();
		for (j = 0; j < BATCH; j++) {
			OPTIMIZER_HIDE_VAR(fn);
			fn(rax, 1ULL << TDX_ENTRY_VM_SHIFT);
		}
		ticks = rdtsc() - start;
		local_irq_restore(flags);
		least = min(least, ticks);
	}
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
