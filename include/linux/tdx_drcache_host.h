/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The callout: what a host driver, the driver that enters L2 VMs with
 * TDG.VP.ENTER, gives tdx_drcache so that it sees each exit at once.
 *
 * Both symbols are the host driver's, exported with EXPORT_SYMBOL_GPL().
 * tdx_drcache finds them with symbol_get(), so that it loads without them; it
 * holds the host driver for as long as its hook is set.
 */
#ifndef _LINUX_TDX_DRCACHE_HOST_H
#define _LINUX_TDX_DRCACHE_HOST_H

#include <linux/types.h>

/**
 * mshv_vtl_set_exit_hook() - have @fn called at each exit, on each CPU
 * @fn: what to call; NULL to have nothing called
 *
 * The host driver calls @fn right after each TDG.VP.ENTER, whatever it returned
 * with, and before anything that may touch DR0-DR3 or DR6. Interrupts and
 * preemption are off; RCU may not be watching.
 *
 * @fn gets RAX as the instruction left it and the RCX that the instruction was
 * given. Neither may be read back from memory that user space can write, such as
 * the run page: they decide whether the exit is captured, and RAX is published.
 *
 * Context: May sleep. The caller serialises its calls. When a call with NULL
 * returns, no CPU is in the old function any more.
 * Return: 0, or -EBUSY if a function is set already.
 */
int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx));

/*
 * Only in a host driver whose L2 VMs are emulated: each snapshot says so. The
 * value is not looked at.
 */
extern const u8 mshv_vtl_emulated;

#endif /* _LINUX_TDX_DRCACHE_HOST_H */
