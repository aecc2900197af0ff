// SPDX-License-Identifier: GPL-2.0
/*
 * tdx_emul: TD partitioning in software, a test bed for tdx_drcache. An L1
 * kernel executes TDCALL as it would in a TDX trust domain. On any other machine
 * TDCALL raises #UD; this module catches it, serves the call, and runs the L2 of
 * TDG.VP.ENTER on AMD SVM. It gives no isolation: never run an L2 that you do
 * not trust.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kdebug.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/tdx_emul.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/trapnr.h>

#include "vp.h"

static const u8 tdcall_insn[] = { 0x66, 0x0f, 0x01, 0xcc };

/* TDG.VP.ENTER entered the L2 and ended in an exit, not in an error. */
static bool is_exit(u64 rax)
{
	u32 class = rax >> TDX_CLASS_SHIFT;

	return class == TDX_CLASS_L2_VM_ENTRY_FAILED ||
	       (class < TDX_CLASS_ERROR && class != TDX_CLASS_PENDING_INTERRUPT);
}

/* Serve a TDCALL that raised #UD in the kernel. */
static int on_die(struct notifier_block *nb, unsigned long why, void *data)
{
	const struct die_args *args = data;
	struct pt_regs *pt = args->regs;
	u8 insn[sizeof(tdcall_insn)];
	struct tdx_vp_enter_regs regs;
	u64 leaf = pt->ax;

	if (why != DIE_TRAP || args->trapnr != X86_TRAP_UD || user_mode(pt))
		return NOTIFY_DONE;
	if (copy_from_kernel_nofault(insn, (void *)pt->ip, sizeof(insn)) ||
	    memcmp(insn, tdcall_insn, sizeof(insn)))
		return NOTIFY_DONE;

	regs = (struct tdx_vp_enter_regs) {
		.rax = pt->ax, .rcx = pt->cx, .rdx = pt->dx,
		.rsi = pt->si, .rdi = pt->di,
		.r8 = pt->r8, .r9 = pt->r9, .r10 = pt->r10, .r11 = pt->r11,
		.r12 = pt->r12, .r13 = pt->r13,
	};
	tdx_emul_tdcall(&regs);
	pt->ax = regs.rax;
	pt->cx = regs.rcx;
	pt->dx = regs.rdx;
	pt->si = regs.rsi;
	pt->di = regs.rdi;
	pt->r8 = regs.r8;
	pt->r9 = regs.r9;
	pt->r10 = regs.r10;
	pt->r11 = regs.r11;
	pt->r12 = regs.r12;
	pt->r13 = regs.r13;
	if (leaf == TDX_LEAF_VP_ENTER && is_exit(regs.rax)) {
		pt->bx = 0;
		pt->r14 = 0;
		pt->r15 = 0;
	}
	pt->ip += sizeof(tdcall_insn);
	return NOTIFY_STOP;
}

static struct notifier_block die_nb = {
	.notifier_call = on_die,
	.priority = INT_MAX,
};

static int __init tdx_emul_init(void)
{
	int ret;

	if (boot_cpu_has(X86_FEATURE_TDX_GUEST)) {
		pr_err("this is a TDX trust domain: it has the real thing\n");
		return -EPERM;
	}
	ret = svm_check();
	if (ret)
		return ret;
	tdx_emul_vp_init();
	ret = svm_init();
	if (ret)
		return ret;
	ret = register_die_notifier(&die_nb);
	if (ret) {
		svm_fini();
		return ret;
	}
	pr_info("emulates TD partitioning on AMD SVM; nothing here is TDX\n");
	return 0;
}

static void __exit tdx_emul_exit(void)
{
	unregister_die_notifier(&die_nb);
	svm_fini();
}

module_init(tdx_emul_init);
module_exit(tdx_emul_exit);

MODULE_DESCRIPTION("TD partitioning in software (TDCALL on AMD SVM), a test ground for tdx_drcache");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
