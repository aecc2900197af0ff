// SPDX-License-Identifier: GPL-2.0
/*
 * The VTL's file: its ioctls, the mapping of the run pages, the L2's memory.
 *
 * Modelled on drivers/hv/mshv_vtl_main.c of OHCL-Linux-Kernel (00d95ddb1b73):
 * mshv_vtl_ioctl(), mshv_vtl_ioctl_get_regs() and _set_regs(),
 * mshv_vtl_ioctl_tdcall(), mshv_vtl_fault(). The differences:
 *
 * - The registers are DR0 to DR3 and DR6. The real driver has the MTRRs too.
 * - MSHV_VTL_TDCALL serves TDG.VP.RD and TDG.VP.WR. The real driver serves any leaf.
 * - The run page is the only kind of page. Bits 16 and up of the page offset select
 *   the kind, and access to another kind raises SIGBUS. The real driver also maps
 *   the APIC page, and faults endlessly on a kind that it does not know.
 */
#include <linux/anon_inodes.h>
#include <linux/cpumask.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/tdx_emul.h>
#include <linux/uaccess.h>

#include "vtl.h"

/**
 * struct mshv_vtl - a VTL's file
 * @pages: the L2's memory, pinned; NULL until it is set
 * @nr_pages: number of @pages
 */
struct mshv_vtl {
	struct page **pages;
	unsigned long nr_pages;
};

/* The VTL whose pages are the L2's memory. */
static struct mshv_vtl *memory_owner;
/* Protects memory_owner and every VTL's pages. */
static DEFINE_MUTEX(memory_lock);

static int vtl_return_to_lower(struct mshv_vtl *vtl)
{
	/* Pairs with smp_store_release() in vtl_set_memory(), which sets it once. */
	if (!smp_load_acquire(&vtl->pages))
		return -ENXIO;
	return vtl_run_lower();
}

/* DR0-DR3 and DR6, which the CPU shares between L1 and L2. */
static int get_set_dr(struct hv_register_assoc *reg, bool set)
{
	u64 *val = &reg->value[0];

	switch (reg->name) {
#define DR(n)									\
	case HV_X64_REGISTER_DR0 + (n):						\
		if (set)							\
			asm volatile("mov %0, %%db" #n : : "r" (*val));		\
		else								\
			asm volatile("mov %%db" #n ", %0" : "=r" (*val));	\
		return 0
	DR(0);
	DR(1);
	DR(2);
	DR(3);
#undef DR
	case HV_X64_REGISTER_DR6:
		/* The upper half must be zero, or MOV to DR6 is #GP. */
		if (set && *val > U32_MAX)
			return -EINVAL;
		if (set)
			asm volatile("mov %0, %%db6" : : "r" (*val));
		else
			asm volatile("mov %%db6, %0" : "=r" (*val));
		return 0;
	default:
		/* In a trust domain the real driver asks no hypervisor for others either. */
		return -EINVAL;
	}
}

static int vtl_get_set_regs(void __user *arg, bool set)
{
	struct mshv_vp_registers regs;
	struct hv_register_assoc reg;
	int ret;

	if (copy_from_user(&regs, arg, sizeof(regs)))
		return -EFAULT;
	if (regs.count != 1)
		return -EINVAL;
	if (copy_from_user(&reg, u64_to_user_ptr(regs.regs_ptr), sizeof(reg)))
		return -EFAULT;
	ret = get_set_dr(&reg, set);
	if (ret || set)
		return ret;
	return copy_to_user(u64_to_user_ptr(regs.regs_ptr), &reg, sizeof(reg)) ?
	       -EFAULT : 0;
}

static int vtl_get_debugregs(void __user *arg)
{
	struct mshv_vtl_emul_debugregs regs = { 0 };

	asm volatile("mov %%db0, %0" : "=r" (regs.db[0]));
	asm volatile("mov %%db1, %0" : "=r" (regs.db[1]));
	asm volatile("mov %%db2, %0" : "=r" (regs.db[2]));
	asm volatile("mov %%db3, %0" : "=r" (regs.db[3]));
	asm volatile("mov %%db6, %0" : "=r" (regs.dr6));
	return copy_to_user(arg, &regs, sizeof(regs)) ? -EFAULT : 0;
}

/* Serve TDG.VP.RD and TDG.VP.WR only: TDG.VP.ENTER goes through the run page. */
static int vtl_tdcall(void __user *arg)
{
	struct mshv_tdcall call;
	struct tdx_vp_enter_regs regs;
	unsigned long flags;

	if (copy_from_user(&call, arg, sizeof(call)))
		return -EFAULT;
	if (call.rax != TDX_LEAF_VP_RD && call.rax != TDX_LEAF_VP_WR)
		return -EINVAL;
	regs = (struct tdx_vp_enter_regs) {
		.rax = call.rax, .rcx = call.rcx, .rdx = call.rdx,
		.r8 = call.r8, .r9 = call.r9,
	};
	local_irq_save(flags);
	tdx_emul_tdcall(&regs);
	local_irq_restore(flags);
	call = (struct mshv_tdcall) {
		.rax = regs.rax, .rcx = regs.rcx, .rdx = regs.rdx,
		.r8 = regs.r8, .r9 = regs.r9,
		.r10_out = regs.r10, .r11_out = regs.r11,
	};
	return copy_to_user(arg, &call, sizeof(call)) ? -EFAULT : 0;
}

static int vtl_set_memory(struct mshv_vtl *vtl, void __user *arg)
{
	struct mshv_vtl_emul_memory mem;
	unsigned long nr;
	struct page **pages;
	int ret;

	if (copy_from_user(&mem, arg, sizeof(mem)))
		return -EFAULT;
	if (!PAGE_ALIGNED(mem.addr) || !PAGE_ALIGNED(mem.length) || !mem.length ||
	    mem.length >> PAGE_SHIFT > TDX_EMUL_PAGES_MAX)
		return -EINVAL;
	nr = mem.length >> PAGE_SHIFT;

	mutex_lock(&memory_lock);
	ret = -EBUSY;
	if (memory_owner)
		goto out;
	ret = -ENOMEM;
	pages = kvcalloc(nr, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		goto out;
	ret = pin_user_pages_fast(mem.addr, nr, FOLL_WRITE | FOLL_LONGTERM, pages);
	if (ret != nr) {
		if (ret > 0)
			unpin_user_pages(pages, ret);
		ret = ret < 0 ? ret : -EFAULT;
		goto err_free;
	}
	ret = tdx_emul_set_memory(pages, nr);
	if (ret) {
		unpin_user_pages(pages, nr);
		goto err_free;
	}
	memory_owner = vtl;
	vtl->nr_pages = nr;
	/* pairs with smp_load_acquire() in vtl_return_to_lower() */
	smp_store_release(&vtl->pages, pages);
	goto out;
err_free:
	kvfree(pages);
out:
	mutex_unlock(&memory_lock);
	return ret;
}

static long vtl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct mshv_vtl *vtl = file->private_data;
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case MSHV_VTL_RETURN_TO_LOWER_VTL:
		return vtl_return_to_lower(vtl);
	case MSHV_GET_VP_REGISTERS:
		return vtl_get_set_regs(uarg, false);
	case MSHV_SET_VP_REGISTERS:
		return vtl_get_set_regs(uarg, true);
	case MSHV_VTL_TDCALL:
		return vtl_tdcall(uarg);
	case MSHV_VTL_SET_POLL_FILE:
		return vtl_set_poll_file(vtl, uarg);
	case MSHV_VTL_KICK_CPU:
		return vtl_kick_cpus(uarg);
	case MSHV_VTL_EMUL_SET_MEMORY:
		return vtl_set_memory(vtl, uarg);
	case MSHV_VTL_EMUL_GET_DEBUGREGS:
		return vtl_get_debugregs(uarg);
	default:
		return -ENOTTY;
	}
}

/* Map a CPU's run page, if it is online. The page offset is the CPU number. */
static vm_fault_t vtl_fault(struct vm_fault *vmf)
{
	unsigned long cpu = vmf->pgoff;

	if (cpu >= nr_cpu_ids)
		return VM_FAULT_SIGBUS;
	cpu = array_index_nospec(cpu, nr_cpu_ids);
	if (!cpu_online(cpu))
		return VM_FAULT_SIGBUS;
	vmf->page = virt_to_page(vtl_run_of(cpu));
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct vtl_vm_ops = {
	.fault = vtl_fault,
};

static int vtl_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &vtl_vm_ops;
	return 0;
}

/* No ioctl of this file is in progress any more. */
static int vtl_release(struct inode *inode, struct file *file)
{
	struct mshv_vtl *vtl = file->private_data;

	vtl_drop_poll_files(vtl);
	if (vtl->pages) {
		mutex_lock(&memory_lock);
		tdx_emul_set_memory(NULL, 0);
		memory_owner = NULL;
		mutex_unlock(&memory_lock);
		unpin_user_pages_dirty_lock(vtl->pages, vtl->nr_pages, true);
		kvfree(vtl->pages);
	}
	kfree(vtl);
	return 0;
}

static const struct file_operations vtl_fops = {
	.owner		= THIS_MODULE,
	.release	= vtl_release,
	.unlocked_ioctl	= vtl_ioctl,
	.mmap		= vtl_mmap,
	.llseek		= noop_llseek,
};

/* True if @file is a VTL's. */
bool vtl_is_vtl(const struct file *file)
{
	return file->f_op == &vtl_fops;
}

/* Create a VTL. Returns its file descriptor. */
int vtl_create(void)
{
	struct mshv_vtl *vtl = kzalloc(sizeof(*vtl), GFP_KERNEL_ACCOUNT);
	int fd;

	if (!vtl)
		return -ENOMEM;
	fd = anon_inode_getfd("mshv_vtl", &vtl_fops, vtl, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		kfree(vtl);
	return fd;
}
