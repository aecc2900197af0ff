/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The call that callout.cocci adds to a host driver. Copy this file and
 * mshv_vtl_exit_hook.c to the driver; see Documentation/host-driver-callout.rst.
 */
#ifndef _MSHV_VTL_EXIT_HOOK_H
#define _MSHV_VTL_EXIT_HOOK_H

#include <linux/static_call.h>
#include <linux/types.h>

/* Never defined: gives the static call its type. */
void mshv_vtl_exit_hook_fn(u64 exit_rax, u64 entry_rcx);
DECLARE_STATIC_CALL(mshv_vtl_exit_hook, mshv_vtl_exit_hook_fn);

int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx));

#endif /* _MSHV_VTL_EXIT_HOOK_H */
