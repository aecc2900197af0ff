// SPDX-License-Identifier: GPL-2.0
/*
 * The host driver of a kernel tree, as check-host has edited it, and the functions that
 * the edits put between it and the rest of the kernel.
 */
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/module.h>

#include "host.h"

static long host_vtl_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
static int host_vtl_release(struct inode *inode, struct file *file);

#include "mshv_vtl_main.c"

/* The offsets in mshv_tdx_asm_offsets.h, and one of the ABI that drcvmm uses. */
static_assert(offsetof(struct tdx_tdg_vp_enter_exit_info, rsi) == 24);
static_assert(offsetof(struct tdx_tdg_vp_enter_exit_info, r13) == 80);
static_assert(offsetof(struct mshv_vtl_run, tdx_context.entry_rcx) == 504);

static long host_vtl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return host_ioctl(file, cmd, arg, mshv_vtl_ioctl);
}

static int host_vtl_release(struct inode *inode, struct file *file)
{
	host_release(file);
	return mshv_vtl_release(inode, file);
}

/* There is no exit: OpenHCL's driver is built in. */
static int __init host_driver_init(void)
{
	int ret = host_init();

	return ret ? ret : mshv_vtl_init();
}
module_init(host_driver_init);
