// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupt offload: if the VMM asks for it in the run page, the kernel handles some
 * exits itself and enters the L2 again.
 *
 * Modelled on drivers/hv/mshv_vtl_main.c of OHCL-Linux-Kernel (00d95ddb1b73):
 * mshv_tdx_try_handle_exit(), mshv_tdx_is_intr(), mshv_tdx_next_intr_exists(),
 * mshv_tdx_handle_hlt_idle().
 *
 * There is no virtual APIC and so nothing to inject: proxy_irr is ignored, and the
 * halted state ends only for user space or when the VMM clears it. Writes to the
 * x2APIC's ICR always exit to user space.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/irqflags.h>
#include <linux/printk.h>
#include <linux/tdx_emul.h>
#include <asm/vmx.h>

#include "vtl.h"

#define HV_MSR_GUEST_IDLE	0x400000F0

/* 32-bit GUEST_INTERRUPTIBILITY_INFO of L2 VM 1, the only VM the real driver writes. */
#define MD_INTERRUPTIBILITY	(TDX_MD_CLASS_L2_VMCS(1) | TDX_MD_CONTEXT_VP | \
				 2ULL << TDX_MD_FIELD_SIZE_SHIFT | GUEST_INTERRUPTIBILITY_INFO)

/* Step over a HLT or a read of the idle MSR, and enter the halted state. */
static void handle_halt(struct mshv_vtl_run *run, u8 why)
{
	struct tdx_vp_enter_regs regs = {
		.rax = TDX_LEAF_VP_WR,
		.rdx = MD_INTERRUPTIBILITY,
		.r9 = 1,
	};
	unsigned long flags;

	local_irq_save(flags);
	tdx_emul_tdcall(&regs);
	local_irq_restore(flags);
	/* The real driver panics. */
	if (regs.rax)
		pr_warn_once("TDG.VP.WR of the interrupt shadow: %#llx\n", regs.rax);

	run->l2_enter_guest_state.rip += run->exit_info.r11 >> 32;
	run->exit_info.rax = (u64)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT;
	run->flags |= MSHV_VTL_RUN_FLAG_HALTED;
	run->offload_flags |= why;
}

/**
 * vtl_offload() - handle an exit in the kernel, if the VMM allows it
 * @run: this CPU's run page
 *
 * Context: Preemption off.
 * Return: true if the exit was handled and the L2 is to be entered again.
 */
bool vtl_offload(struct mshv_vtl_run *run)
{
	u64 rax = READ_ONCE(run->exit_info.rax);
	u32 class = rax >> TDX_CLASS_SHIFT;

	if ((u32)rax == EXIT_REASON_PREEMPTION_TIMER) {
		vtl_deadline_expired(run);
		return false;
	}
	/* R10 bit 63: the exit interrupted the delivery of an event to the L2. */
	if (!(READ_ONCE(run->offload_flags) & MSHV_VTL_OFFLOAD_FLAG_INTR_INJECT) ||
	    READ_ONCE(run->exit_info.r10) >> 63)
		return false;
	if (class == TDX_CLASS_L2_EXIT_PENDING_INTERRUPT || class == TDX_CLASS_PENDING_INTERRUPT)
		return true;
	if ((u32)rax == EXIT_REASON_HLT) {
		handle_halt(run, MSHV_VTL_OFFLOAD_FLAG_HALT_HLT);
		return true;
	}
	if ((u32)rax == EXIT_REASON_MSR_READ &&
	    (u32)READ_ONCE(run->l2_enter_guest_state.rcx) == HV_MSR_GUEST_IDLE) {
		handle_halt(run, MSHV_VTL_OFFLOAD_FLAG_HALT_IDLE);
		return true;
	}
	return false;
}
