// SPDX-License-Identifier: GPL-2.0
/*
 * The /dev/tdx_drcache device. include/uapi/linux/tdx_drcache.h documents its interface.
 */
#include <linux/build_bug.h>
#include <linux/capability.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <uapi/linux/tdx_drcache.h>

#include "capture.h"
#include "compat.h"
#include "dev.h"
#include "l2_exit.h"
#include "hook.h"
#include "host_driver.h"
#include "slot.h"
#include "vcpu.h"

/**
 * struct drcache_file - an open file
 * @lock: serializes BIND
 * @cpu: the CPU of the vCPU that the file is bound to
 * @owner: true if the file owns the vCPU
 * @page: the vCPU's page; NULL until the file is bound. Set once, with release
 *	semantics, after @cpu and @owner; read with acquire semantics.
 */
struct drcache_file {
	struct mutex lock;	/* see above */
	unsigned int cpu;
	bool owner;
	struct page *page;
};

/* The struct of any ioctl; each starts with its size. */
union drcache_arg {
	__u32 size;
	struct tdx_drcache_info info;
	struct tdx_drcache_bind bind;
	struct tdx_drcache_regs regs;
	struct tdx_drcache_stats stats;
};

static struct page *file_page(struct drcache_file *f)
{
	/* pairs with smp_store_release() in ioctl_bind() */
	return smp_load_acquire(&f->page);
}

static int ioctl_get_info(struct drcache_file *f, union drcache_arg *arg)
{
	struct tdx_drcache_info *info = &arg->info;

	if (info->reserved)
		return -EINVAL;
	info->hook = drcache_hook_which();
	info->features = drcache_vcpu_features();
	info->nr_cpu_ids = nr_cpu_ids;
	info->map_size = PAGE_SIZE;
	info->host = drcache_host_driver_kind(info->hook);
	return 0;
}

#define BIND_FLAGS	(TDX_DRCACHE_BIND_OBSERVE | TDX_DRCACHE_BIND_EXCLUSIVE)

static int ioctl_bind(struct drcache_file *f, union drcache_arg *arg)
{
	const struct tdx_drcache_bind *bind = &arg->bind;
	bool owner = !(bind->flags & TDX_DRCACHE_BIND_OBSERVE);
	struct page *page;
	unsigned int cpu;
	int ret = -EBUSY;

	if (bind->flags & ~BIND_FLAGS || bind->reserved)
		return -EINVAL;
	if (!PAGE_ALIGNED(bind->run_page))
		return -EINVAL;
	if (!owner && (bind->exit_reasons || bind->run_page ||
		       bind->flags & TDX_DRCACHE_BIND_EXCLUSIVE))
		return -EINVAL;
	if (bind->exit_reasons & DRCACHE_REASONS_NO_L2)
		return -EOPNOTSUPP;
	if (bind->cpu >= nr_cpu_ids)
		return -ENXIO;
	cpu = array_index_nospec(bind->cpu, nr_cpu_ids);

	/* Killable, because another BIND may hold the lock while it faults in its run page. */
	if (mutex_lock_killable(&f->lock))
		return -EINTR;
	if (f->page)
		goto out;
	page = drcache_vcpu_bind(bind, cpu);
	ret = PTR_ERR_OR_ZERO(page);
	if (ret)
		goto out;
	f->cpu = cpu;
	f->owner = owner;
	/* pairs with smp_load_acquire() in file_page() */
	smp_store_release(&f->page, page);
out:
	mutex_unlock(&f->lock);
	return ret;
}

static int ioctl_get_regs(struct drcache_file *f, union drcache_arg *arg)
{
	struct tdx_drcache_regs *regs = &arg->regs;
	struct page *page = file_page(f);
	struct tdx_drcache_slot snap;
	int ret;

	if (!page)
		return -ENOTCONN;
	ret = drcache_slot_read(drcache_page_slot(page), regs->min_tsc, &snap);
	if (ret)
		return ret;
	regs->flags = snap.flags;
	regs->exit_rax = snap.exit_rax;
	memcpy(regs->db, snap.db, sizeof(regs->db));
	regs->dr6 = snap.dr6;
	regs->tsc = snap.tsc;
	return 0;
}

static int ioctl_get_stats(struct drcache_file *f, union drcache_arg *arg)
{
	struct tdx_drcache_stats *stats = &arg->stats;

	if (!file_page(f))
		return -ENOTCONN;
	drcache_vcpu_stats(f->cpu, stats);
	return 0;
}

/**
 * struct drcache_ioctl_op - an ioctl
 * @size: current size of its struct
 * @min_size: size of its struct in the first version
 * @out: copy the struct back to the caller
 * @execute: handler; @arg holds the caller's struct, zero-extended
 */
struct drcache_ioctl_op {
	unsigned int size;
	unsigned int min_size;
	bool out;
	int (*execute)(struct drcache_file *f, union drcache_arg *arg);
};

#define DRCACHE_IOCTL(nr, type, last, _out, fn)				\
	[_IOC_NR(nr)] = {						\
		.size = sizeof(struct type),				\
		.min_size = offsetofend(struct type, last),		\
		.out = _out,						\
		.execute = fn,						\
	}

static const struct drcache_ioctl_op ioctls[] = {
	DRCACHE_IOCTL(TDX_DRCACHE_GET_INFO, tdx_drcache_info, reserved, true,
		      ioctl_get_info),
	DRCACHE_IOCTL(TDX_DRCACHE_BIND, tdx_drcache_bind, reserved, false,
		      ioctl_bind),
	DRCACHE_IOCTL(TDX_DRCACHE_GET_REGS, tdx_drcache_regs, tsc, true,
		      ioctl_get_regs),
	DRCACHE_IOCTL(TDX_DRCACHE_GET_STATS, tdx_drcache_stats, lost, true,
		      ioctl_get_stats),
};

static long drcache_ioctl(struct file *file, unsigned int cmd, unsigned long argp)
{
	void __user *uarg = (void __user *)argp;
	const struct drcache_ioctl_op *op;
	union drcache_arg arg;
	unsigned int nr = _IOC_NR(cmd);
	u32 size;
	int ret;

	if (nr >= ARRAY_SIZE(ioctls) || cmd != _IO(TDX_DRCACHE_IOC_MAGIC, nr))
		return -ENOTTY;
	op = &ioctls[array_index_nospec(nr, ARRAY_SIZE(ioctls))];

	if (get_user(size, (u32 __user *)uarg))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&arg, op->size, uarg, size);
	if (ret)
		return ret;
	arg.size = size;

	ret = op->execute(file->private_data, &arg);
	if (ret || !op->out)
		return ret;
	return copy_to_user(uarg, &arg, min(size, op->size)) ? -EFAULT : 0;
}

static int drcache_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct page *page = file_page(file->private_data);

	if (!page)
		return -ENOTCONN;
	/* Don't test VM_SHARED: it is clear for a file opened read-only. */
	if (vma->vm_pgoff || vma->vm_end - vma->vm_start != PAGE_SIZE ||
	    !(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EPERM;
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTDUMP | VM_DONTEXPAND,
		     VM_MAYWRITE | VM_MAYEXEC);
	return vm_insert_page(vma, vma->vm_start, page);
}

static int drcache_open(struct inode *inode, struct file *file)
{
	struct drcache_file *f;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	mutex_init(&f->lock);
	file->private_data = f;
	return 0;
}

/* A mapping holds the file, so this also runs after the last munmap(). */
static int drcache_release(struct inode *inode, struct file *file)
{
	struct drcache_file *f = file->private_data;

	if (f->page)
		drcache_vcpu_unbind(f->cpu, f->owner);
	kfree(f);
	return 0;
}

static const struct file_operations drcache_fops = {
	.owner		= THIS_MODULE,
	.open		= drcache_open,
	.release	= drcache_release,
	.unlocked_ioctl	= drcache_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.mmap		= drcache_mmap,
	.llseek		= noop_llseek,
};

static struct miscdevice drcache_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "tdx_drcache",
	.fops	= &drcache_fops,
	.mode	= 0600,
};

/* The layouts are ABI: without padding, they are the same for 32-bit and 64-bit callers. */
static void build_check_abi(void)
{
#define CHECK_LAST(type, last, bytes)					\
	BUILD_BUG_ON(sizeof(struct type) != (bytes) ||			\
		     offsetofend(struct type, last) != (bytes))
	CHECK_LAST(tdx_drcache_header, reserved, 64);
	CHECK_LAST(tdx_drcache_slot, tsc, 64);
	CHECK_LAST(tdx_drcache_info, reserved, 32);
	CHECK_LAST(tdx_drcache_bind, reserved, 32);
	CHECK_LAST(tdx_drcache_regs, tsc, 72);
	CHECK_LAST(tdx_drcache_stats, lost, 56);
#undef CHECK_LAST
	/* drcache_vcpu_stats() treats the counts as an array. */
	BUILD_BUG_ON(offsetofend(struct tdx_drcache_stats, lost) -
		     offsetof(struct tdx_drcache_stats, published) !=
		     DRCACHE_NR_COUNTS * sizeof(u64));
	BUILD_BUG_ON(DRCACHE_SLOT_OFFSET < sizeof(struct tdx_drcache_header));
	BUILD_BUG_ON(DRCACHE_SLOT_OFFSET % sizeof(struct tdx_drcache_slot));
	BUILD_BUG_ON(DRCACHE_SLOT_OFFSET + sizeof(struct tdx_drcache_slot) > PAGE_SIZE);
}

int __init drcache_dev_register(void)
{
	build_check_abi();
	drcache_host_driver_init(&drcache_misc);
	return misc_register(&drcache_misc);
}

void drcache_dev_unregister(void)
{
	misc_deregister(&drcache_misc);
}
