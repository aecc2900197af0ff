// SPDX-License-Identifier: GPL-2.0
/*
 * The VTL's file: the run pages, entering the L2, registers, the L2's memory.
 */
#include <linux/anon_inodes.h>
#include <linux/context_tracking.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/static_call.h>
#include <linux/tdx_drcache.h>
#include <linux/tdx_emul.h>
#include <linux/uaccess.h>
#include <asm/fpu/api.h>
#include <mshv/mshv_vtl.h>

#include "l1.h"
#include "vtl.h"

/*
 * A knob: as the real driver's interrupt offload does, handle so many exits in
 * the kernel, by entering again, before one goes to user space.
 */
static unsigned int reenter;
module_param(reenter, uint, 0644);
MODULE_PARM_DESC(reenter, "exits to enter again after, before one goes to user space");

/**
 * struct mshv_vtl - a VTL's file
 * @pages: the L2's memory, pinned; NULL until it is given
 * @nr_pages: how many
 */
struct mshv_vtl {
	struct page **pages;
	unsigned long nr_pages;
};

/* Each CPU's run page, from load to unload; user space writes it at any time. */
static DEFINE_PER_CPU(struct mshv_vtl_run *, vtl_run);

/* The L2's x87 and SSE state of this CPU while it is not in the run page. */
struct vtl_fx {
	u8 state[512];
} __aligned(16);
static DEFINE_PER_CPU(struct vtl_fx, vtl_fx);

#define FX_MXCSR	24
#define FX_MXCSR_MASK	0xffff

/* Whose pages are the L2's memory. */
static struct mshv_vtl *memory_owner;
/* Protects memory_owner and every VTL's pages. */
static DEFINE_MUTEX(memory_lock);

/* Present in a stand-in; see linux/tdx_drcache.h. */
const u8 mshv_vtl_emulated = 1;
EXPORT_SYMBOL_GPL(mshv_vtl_emulated);

/* The names of the host driver's functions are its own: hooks go by them. */
struct mshv_vtl_run *mshv_vtl_this_run(void);
noinline void mshv_vtl_return_tdx(void);

typedef void (exit_hook_fn)(u64 exit_rax, u64 entry_rcx);
DEFINE_STATIC_CALL_NULL(mshv_vtl_exit_hook, exit_hook_fn);
/* Whether it is set; under exit_hook_lock. */
static bool exit_hook_set;
static DEFINE_MUTEX(exit_hook_lock);

static void wait_one_cpu(void *unused)
{
}

int mshv_vtl_set_exit_hook(void (*fn)(u64 exit_rax, u64 entry_rcx))
{
	int ret = 0;

	mutex_lock(&exit_hook_lock);
	if (fn && exit_hook_set) {
		ret = -EBUSY;
	} else {
		static_call_update(mshv_vtl_exit_hook, fn);
		exit_hook_set = fn;
		/*
		 * The hook runs with interrupts off, so a CPU that answers has
		 * left it. Waiting for RCU would not do: it need not be
		 * watching there.
		 */
		if (!fn)
			on_each_cpu(wait_one_cpu, NULL, 1);
	}
	mutex_unlock(&exit_hook_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(mshv_vtl_set_exit_hook);

struct mshv_vtl_run *mshv_vtl_this_run(void)
{
	return this_cpu_read(vtl_run);
}

/* TDG.VP.ENTER, as the instruction. */
static __always_inline void tdg_vp_enter(u64 entry_rcx, u64 state_pa,
					 struct tdx_vp_enter_regs *out)
{
	register u64 r8 asm("r8") = 0;
	register u64 r9 asm("r9") = 0;
	register u64 r10 asm("r10") = 0;
	register u64 r11 asm("r11") = 0;
	register u64 r12 asm("r12") = 0;
	register u64 r13 asm("r13") = 0;
	u64 rax = TDX_LEAF_VP_ENTER, rcx = entry_rcx, rdx = state_pa, rsi = 0, rdi = 0;

	/* The handling of #UD needs RCU. On real hardware there is none. */
	if (!rcu_is_watching()) {
		*out = (struct tdx_vp_enter_regs) {
			.rax = rax, .rcx = rcx, .rdx = rdx,
		};
		tdx_emul_tdcall(out);
		static_call_cond(mshv_vtl_exit_hook)(out->rax, entry_rcx);
		return;
	}
	asm volatile(".byte 0x66, 0x0f, 0x01, 0xcc"
		     : "+a" (rax), "+c" (rcx), "+d" (rdx), "+S" (rsi), "+D" (rdi),
		       "+r" (r8), "+r" (r9), "+r" (r10), "+r" (r11), "+r" (r12),
		       "+r" (r13)
		     : : "rbx", "r14", "r15", "memory", "cc");
	/* Before the call, which does not keep these registers. */
	*out = (struct tdx_vp_enter_regs) {
		.rax = rax, .rcx = rcx, .rdx = rdx, .rsi = rsi, .rdi = rdi,
		.r8 = r8, .r9 = r9, .r10 = r10, .r11 = r11, .r12 = r12, .r13 = r13,
	};
	static_call_cond(mshv_vtl_exit_hook)(rax, entry_rcx);
}

/* Enter the L2 of this CPU's run page. Interrupts and preemption are off. */
void mshv_vtl_return_tdx(void)
{
	struct mshv_vtl_run *run = mshv_vtl_this_run();
	struct vtl_fx *fx = this_cpu_ptr(&vtl_fx);

	/* A copy: user space may make an MXCSR that FXRSTOR faults at. */
	memcpy(fx->state, run->fx_state, sizeof(fx->state));
	*(u32 *)(fx->state + FX_MXCSR) &= FX_MXCSR_MASK;

	kernel_fpu_begin_mask(0);
	asm volatile("fxrstor64 %0" : : "m" (*fx));
	tdg_vp_enter(READ_ONCE(run->entry_rcx),
		     virt_to_phys(&run->l2_enter_guest_state), &run->exit_info);
	asm volatile("fxsave64 %0" : "=m" (*fx));
	kernel_fpu_end();

	memcpy(run->fx_state, fx->state, sizeof(fx->state));
}

/*
 * Enter the L2 once. False if there is something to do instead; @run is this
 * CPU's. Preemption is off.
 */
static bool enter_once(struct mshv_vtl_run *run, unsigned int mode)
{
	unsigned long flags;
	bool enter;

	local_irq_save(flags);
	enter = !signal_pending(current) && !READ_ONCE(run->cancel);
	if (enter) {
		/* An exit that user space does nothing at. */
		run->exit_info.rax = (u64)TDX_CLASS_PENDING_INTERRUPT << TDX_CLASS_SHIFT;
		if (mode == MSHV_ENTER_FAST) {
			mshv_vtl_return_tdx();
		} else {
			ct_idle_enter();
			mshv_vtl_return_tdx();
			ct_idle_exit();
		}
	}
	local_irq_restore(flags);
	return enter;
}

static int vtl_return_to_lower(struct mshv_vtl *vtl)
{
	u64 entries = (u64)READ_ONCE(reenter) + 1, i;
	unsigned int mode;
	struct mshv_vtl_run *run;
	int ret = 0;

	/* Set once, before: see vtl_set_memory(). */
	if (!smp_load_acquire(&vtl->pages))
		return -ENXIO;
	cond_resched();

	preempt_disable();
	run = mshv_vtl_this_run();
	mode = READ_ONCE(run->enter_mode);
	for (i = 0; i < entries; i++) {
		if (!enter_once(run, i ? mode >> 4 : mode & 0xf)) {
			ret = -EINTR;
			break;
		}
	}
	preempt_enable();
	if (!ret)
		l1_after_exit();
	return ret;
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
		/* The real driver asks the hypervisor for any other. */
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

/* TDG.VP.RD and TDG.VP.WR alone: TDG.VP.ENTER is for the run page's path. */
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
	case MSHV_VTL_EMUL_SET_MEMORY:
		return vtl_set_memory(vtl, uarg);
	case MSHV_VTL_EMUL_GET_DEBUGREGS:
		return vtl_get_debugregs(uarg);
	default:
		return -ENOTTY;
	}
}

/* One run page, at page offset = cpu. */
static int vtl_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long cpu = vma->vm_pgoff;

	if (cpu >= nr_cpu_ids || vma->vm_end - vma->vm_start != PAGE_SIZE ||
	    !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	cpu = array_index_nospec(cpu, nr_cpu_ids);
	if (!cpu_possible(cpu))
		return -EINVAL;
	return vm_insert_page(vma, vma->vm_start,
			      virt_to_page(per_cpu(vtl_run, cpu)));
}

/* Nobody is in an ioctl of this file any more. */
static int vtl_release(struct inode *inode, struct file *file)
{
	struct mshv_vtl *vtl = file->private_data;

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

/* A new VTL's file descriptor. */
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

int __init vtl_init(void)
{
	unsigned int cpu;

	BUILD_BUG_ON(sizeof(struct mshv_vtl_run) > PAGE_SIZE);
	l1_init();
	for_each_possible_cpu(cpu) {
		per_cpu(vtl_run, cpu) = (void *)get_zeroed_page(GFP_KERNEL);
		if (!per_cpu(vtl_run, cpu)) {
			vtl_fini();
			return -ENOMEM;
		}
	}
	return 0;
}

void vtl_fini(void)
{
	unsigned int cpu;

	l1_fini();
	for_each_possible_cpu(cpu)
		free_page((unsigned long)per_cpu(vtl_run, cpu));
}
