// SPDX-License-Identifier: GPL-2.0
/*
 * mshv_vtl_emul: a stand-in for mshv_vtl, the host driver of OpenHCL's kernel,
 * as test ground for tdx_drcache: /dev/mshv with the part of its ABI that has
 * to do with running an L2 on TDX, over tdx_emul.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <asm/hypervisor.h>
#include <mshv/mshv_vtl.h>

#include "vtl.h"

static long mshv_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	u32 cap;

	switch (cmd) {
	case MSHV_CHECK_EXTENSION:
		if (get_user(cap, (u32 __user *)arg))
			return -EFAULT;
		return cap == MSHV_CAP_DR6_SHARED ? 1 : -EOPNOTSUPP;
	case MSHV_CREATE_VTL:
		return vtl_create();
	default:
		return -ENOTTY;
	}
}

/* As root runs it: it runs code of the caller's in an L2. */
static int mshv_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static const struct file_operations mshv_fops = {
	.owner		= THIS_MODULE,
	.open		= mshv_open,
	.unlocked_ioctl	= mshv_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice mshv_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "mshv",
	.fops	= &mshv_fops,
	.mode	= 0600,
};

static int __init mshv_vtl_emul_init(void)
{
	int ret;

	if (hypervisor_is_type(X86_HYPER_MS_HYPERV)) {
		pr_err("this machine runs on Hyper-V: it has the real driver\n");
		return -EPERM;
	}
	ret = vtl_init();
	if (ret)
		return ret;
	/* -EEXIST if there is a /dev/mshv already. */
	ret = misc_register(&mshv_misc);
	if (ret) {
		pr_err("cannot make /dev/mshv: %d\n", ret);
		vtl_fini();
		return ret;
	}
	pr_info("stand-in for mshv_vtl; the L2s are emulated\n");
	return 0;
}

static void __exit mshv_vtl_emul_exit(void)
{
	misc_deregister(&mshv_misc);
	vtl_fini();
}

module_init(mshv_vtl_emul_init);
module_exit(mshv_vtl_emul_exit);

MODULE_DESCRIPTION("Stand-in for mshv_vtl over emulated TD partitioning, a test ground for tdx_drcache");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
