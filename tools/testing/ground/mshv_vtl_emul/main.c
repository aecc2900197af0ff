// SPDX-License-Identifier: GPL-2.0
/*
 * mshv_vtl_emul: a stand-in for mshv_vtl, the host driver of OpenHCL's kernel, to
 * test tdx_drcache. It provides /dev/mshv with the part of the ABI that runs an L2
 * on TDX, over tdx_emul.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/cpuhotplug.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <asm/hypervisor.h>
#include <mshv/mshv_vtl.h>

#include "l1.h"
#include "vtl.h"

/*
 * Answers as mshv_ioctl_check_extension() in drivers/hv/mshv_vtl_main.c
 * (00d95ddb1b73) does in a trust domain without a register page or return actions.
 * An L2 has no timer here.
 */
static int check_extension(u32 cap)
{
	switch (cap) {
	case MSHV_CAP_DR6_SHARED:
		return 1;
	case MSHV_CAP_CORE_API_STABLE:
	case MSHV_CAP_REGISTER_PAGE:
	case MSHV_CAP_VTL_RETURN_ACTION:
	case MSHV_CAP_LOWER_VTL_TIMER_VIRT:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static long mshv_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	u32 cap;

	switch (cmd) {
	case MSHV_CHECK_EXTENSION:
		if (get_user(cap, (u32 __user *)arg))
			return -EFAULT;
		return check_extension(cap);
	case MSHV_CREATE_VTL:
		return vtl_create();
	default:
		return -ENOTTY;
	}
}

/* Only for root, because the L2 runs the caller's code. */
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

/* Dynamic hotplug state. */
static int cpuhp_state;

static int vtl_online(unsigned int cpu)
{
	vtl_halt_online();
	return 0;
}

static int vtl_offline(unsigned int cpu)
{
	vtl_notifier_offline();
	return 0;
}

static int __init mshv_vtl_emul_init(void)
{
	int ret;

	if (hypervisor_is_type(X86_HYPER_MS_HYPERV)) {
		pr_err("this machine runs on Hyper-V: it has the real driver\n");
		return -EPERM;
	}
	ret = vtl_run_init();
	if (ret)
		return ret;
	l1_init();
	vtl_halt_init();
	/* Comes after tdx_emul's, which has a new L2 by then. */
	ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "mshv_vtl_emul:online",
				vtl_online, vtl_offline);
	if (ret < 0)
		goto err_run;
	cpuhp_state = ret;
	/* -EEXIST if /dev/mshv already exists. */
	ret = misc_register(&mshv_misc);
	if (ret) {
		pr_err("cannot create /dev/mshv: %d\n", ret);
		goto err_cpuhp;
	}
	/* As in the real driver, the idle routine comes last. */
	vtl_idle_init();
	pr_info("stand-in for mshv_vtl; the L2s are emulated\n");
	return 0;

err_cpuhp:
	cpuhp_remove_state(cpuhp_state);
err_run:
	l1_fini();
	vtl_run_fini();
	return ret;
}

static void __exit mshv_vtl_emul_exit(void)
{
	misc_deregister(&mshv_misc);
	vtl_idle_fini();
	/* This runs vtl_offline() on every CPU. */
	cpuhp_remove_state(cpuhp_state);
	l1_fini();
	vtl_run_fini();
}

module_init(mshv_vtl_emul_init);
module_exit(mshv_vtl_emul_exit);

MODULE_DESCRIPTION("Stand-in for mshv_vtl over emulated TD partitioning, to test tdx_drcache");
MODULE_AUTHOR("The tdx-drcache maintainers");
MODULE_LICENSE("GPL");
