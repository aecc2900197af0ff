// SPDX-License-Identifier: GPL-2.0
/*
 * tdcall_raw: one TDCALL with any register values, for tests of calls that no host
 * driver makes. It works over tdx_emul only. In a trust domain it would let user space
 * run an L2 without its host driver, so it refuses to load there.
 *
 * Write "RAX RCX RDX R8 R9" in hexadecimal to the parameter `regs` to make the call. Read
 * it for RAX, RCX, RDX, RBX, RSI, RDI and R8 to R15 after the call, in this order. The
 * call starts with TDCALL_RAW_MARK in every other register. For TDG.VP.ENTER, RDX is an
 * offset from the address of a page, both in the call and in the result.
 *
 * The parameter `svme` is EFER.SVME of the CPU that reads or writes it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/tdx_emul.h>
#include <asm/cpufeature.h>

#include "vp.h"

#define TDCALL_RAW_MARK	0x5a5aull

enum { RAX, RCX, RDX, RBX, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, REGS };

static u64 results[REGS];
static void *page;

/*
 * Load the registers from results[], execute TDCALL, and store them there. They are passed
 * by address: an asm statement can't have that many operands.
 */
static void tdcall(void)
{
	unsigned long flags;

	local_irq_save(flags);
	asm volatile("mov 0x00+%0, %%rax\n\t"
		     "mov 0x08+%0, %%rcx\n\t"
		     "mov 0x10+%0, %%rdx\n\t"
		     "mov 0x18+%0, %%rbx\n\t"
		     "mov 0x20+%0, %%rsi\n\t"
		     "mov 0x28+%0, %%rdi\n\t"
		     "mov 0x30+%0, %%r8\n\t"
		     "mov 0x38+%0, %%r9\n\t"
		     "mov 0x40+%0, %%r10\n\t"
		     "mov 0x48+%0, %%r11\n\t"
		     "mov 0x50+%0, %%r12\n\t"
		     "mov 0x58+%0, %%r13\n\t"
		     "mov 0x60+%0, %%r14\n\t"
		     "mov 0x68+%0, %%r15\n\t"
		     ".byte 0x66, 0x0f, 0x01, 0xcc\n\t"
		     "mov %%rax, 0x00+%0\n\t"
		     "mov %%rcx, 0x08+%0\n\t"
		     "mov %%rdx, 0x10+%0\n\t"
		     "mov %%rbx, 0x18+%0\n\t"
		     "mov %%rsi, 0x20+%0\n\t"
		     "mov %%rdi, 0x28+%0\n\t"
		     "mov %%r8, 0x30+%0\n\t"
		     "mov %%r9, 0x38+%0\n\t"
		     "mov %%r10, 0x40+%0\n\t"
		     "mov %%r11, 0x48+%0\n\t"
		     "mov %%r12, 0x50+%0\n\t"
		     "mov %%r13, 0x58+%0\n\t"
		     "mov %%r14, 0x60+%0\n\t"
		     "mov %%r15, 0x68+%0\n\t"
		     : "+m" (results)
		     : : "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11",
		       "r12", "r13", "r14", "r15", "memory", "cc");
	local_irq_restore(flags);
}

/* The lock of the module's parameters is held here and in get_regs(). */
static int set_regs(const char *val, const struct kernel_param *kp)
{
	u64 regs[REGS], base = 0;
	unsigned int i;

	for (i = 0; i < REGS; i++)
		regs[i] = TDCALL_RAW_MARK;
	if (sscanf(val, "%llx %llx %llx %llx %llx", &regs[RAX], &regs[RCX], &regs[RDX],
		   &regs[R8], &regs[R9]) != 5)
		return -EINVAL;
	if ((regs[RAX] & TDX_LEAF_MASK) == TDX_LEAF_VP_ENTER)
		base = virt_to_phys(page);
	regs[RDX] += base;
	memcpy(results, regs, sizeof(results));
	tdcall();
	if (results[RDX] >= base)
		results[RDX] -= base;
	return 0;
}

static int get_regs(char *buffer, const struct kernel_param *kp)
{
	int len = 0;
	unsigned int i;

	for (i = 0; i < REGS; i++)
		len += scnprintf(buffer + len, PAGE_SIZE - len, "%llx%c", results[i],
				 i + 1 < REGS ? ' ' : '\n');
	return len;
}

static const struct kernel_param_ops regs_ops = {
	.set = set_regs,
	.get = get_regs,
};
module_param_cb(regs, &regs_ops, NULL, 0600);
MODULE_PARM_DESC(regs, "write: make a TDCALL with RAX RCX RDX R8 R9; read: all registers after it");

static int set_svme(const char *val, const struct kernel_param *kp)
{
	unsigned long flags;
	bool on;
	u64 efer;
	int ret = kstrtobool(val, &on);

	if (ret)
		return ret;
	local_irq_save(flags);
	efer = read_msr(MSR_EFER) & ~(u64)EFER_SVME;
	write_msr(MSR_EFER, on ? efer | EFER_SVME : efer);
	local_irq_restore(flags);
	return 0;
}

static int get_svme(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%d\n", !!(read_msr(MSR_EFER) & EFER_SVME));
}

static const struct kernel_param_ops svme_ops = {
	.set = set_svme,
	.get = get_svme,
};
module_param_cb(svme, &svme_ops, NULL, 0600);
MODULE_PARM_DESC(svme, "EFER.SVME of this CPU; set it to play another user of SVM");

static int __init tdcall_raw_init(void)
{
	if (boot_cpu_has(X86_FEATURE_TDX_GUEST)) {
		pr_err("this is a TDX trust domain; tdcall_raw is for tests of tdx_emul only\n");
		return -EPERM;
	}
	page = (void *)get_zeroed_page(GFP_KERNEL);
	return page ? 0 : -ENOMEM;
}

static void __exit tdcall_raw_exit(void)
{
	free_page((unsigned long)page);
}

module_init(tdcall_raw_init);
module_exit(tdcall_raw_exit);

MODULE_DESCRIPTION("TDCALL with any register values, for tests of tdx_emul");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
