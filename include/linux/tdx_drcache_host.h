/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The callout: the interface by which a host driver, which enters L2 VMs with
 * TDG.VP.ENTER, reports each exit to tdx_drcache immediately.
 *
 * The host driver defines both symbols and exports them with EXPORT_SYMBOL_GPL().
 * tdx_drcache finds them with symbol_get(), so it also loads without them. It holds a
 * reference to the host driver while its hook is set.
 */
#ifndef _LINUX_TDX_DRCACHE_HOST_H
#define _LINUX_TDX_DRCACHE_HOST_H

#include <linux/types.h>

/**
 * mshv_vtl_set_exit_hook() - set the function to call at every exit on every CPU
 * @fn: the function; NULL clears the hook
 *
 * The host driver calls @fn right after each TDG.VP.ENTER, regardless of its result, and
 * before anything that may touch DR0-DR3 or DR6. Interrupts and preemption are off; RCU
 * may not be watching.
 *
 * @fn gets RAX after the instruction and RCX before it. Neither may be read back from
 * memory that user space can write, such as the run page: they decide whether the exit
 * is captured, and RAX is published.
 *
 * Context: May sleep. The caller serializes its calls. When a call with NULL returns, no
 * CPU is still running the old function.
 * Return: 0, or -EBUSY if a function is already set.
 */
int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx));

/*
 * Defined only by a host driver whose L2 VMs are emulated; every snapshot then has
 * TDX_DRCACHE_EMULATED. The value is ignored.
 */
extern const u8 mshv_vtl_emulated;

#endif /* _LINUX_TDX_DRCACHE_HOST_H */
