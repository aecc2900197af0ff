// SPDX-License-Identifier: GPL-2.0
/*
 * The emulated machine below the host driver, and the knobs by which the tests disturb
 * it. The module has the stand-in's name and parameters, so the jobs of the virtual
 * machine run over the driver as they do over the stand-in.
 */
#include <linux/cpuidle.h>
#include <linux/cpumask.h>
#include <linux/entry-kvm.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/tdx_emul.h>
#include <linux/uaccess.h>
#include <mshv/mshv_vtl.h>
#include <trace/events/ipi.h>
#include <asm/apic.h>
#include <asm/debugreg.h>
#include <asm/shared/tdx.h>
#include <asm/smp.h>

#include "host.h"
#include "l1.h"

static unsigned int reenter;
module_param(reenter, uint, 0644);
static bool plant;
module_param(plant, bool, 0644);
static bool idle_thread;
module_param(idle_thread, bool, 0444);

#define PLANTED_DR1	0x00000badc0ffee00UL

/* APIC IDs by CPU. The kernel's own table is not exported. */
u32 host_apicids[NR_CPUS];

/* Entries and halts so far: fast, play idle, idle thread. */
static DEFINE_PER_CPU(unsigned long [3], entries);
/* Exits of the ioctl in progress that went back to the L2 because of reenter. */
static DEFINE_PER_CPU(unsigned int, reentered);

static int get_entries(char *buffer, const struct kernel_param *kp)
{
	unsigned long sum[3] = { 0 };
	unsigned int cpu, mode;

	for_each_possible_cpu(cpu)
		for (mode = 0; mode < 3; mode++)
			sum[mode] += READ_ONCE(per_cpu(entries, cpu)[mode]);
	return sysfs_emit(buffer, "%lu %lu %lu\n", sum[0], sum[1], sum[2]);
}

static const struct kernel_param_ops entries_ops = {
	.get = get_entries,
};
module_param_cb(entries, &entries_ops, NULL, 0444);

static void count_entry(void)
{
	unsigned int mode = MSHV_ENTER_FAST;

	if (is_idle_task(current))
		mode = current->pid ? MSHV_ENTER_PLAY_IDLE : MSHV_ENTER_IDLE_THREAD;
	this_cpu_inc(entries[mode]);
}

/* In the place of the driver's function, which it calls. */
u64 __tdg_vp_enter(u64 rcx, u64 rdx, struct tdx_tdg_vp_enter_exit_info *info)
{
	u64 rax;

	count_entry();
	rax = host_driver_vp_enter(rcx, rdx, info);
	if (READ_ONCE(plant))
		asm volatile("mov %0, %%db1" : : "r" (PLANTED_DR1));
	return rax;
}

/* TDG.VP.RD and TDG.VP.WR. */
u64 host_tdcall(u64 leaf, struct tdx_module_args *args)
{
	struct tdx_vp_enter_regs regs = {
		.rax = leaf, .rcx = args->rcx, .rdx = args->rdx,
		.r8 = args->r8, .r9 = args->r9,
	};
	unsigned long flags;

	if (leaf != TDX_LEAF_VP_RD && leaf != TDX_LEAF_VP_WR)
		return TDX_STATUS_OPERAND_INVALID | TDX_OPERAND_RAX;
	local_irq_save(flags);
	tdx_emul_tdcall(&regs);
	local_irq_restore(flags);
	args->rcx = regs.rcx;
	args->rdx = regs.rdx;
	args->r8 = regs.r8;
	args->r9 = regs.r9;
	args->r10 = regs.r10;
	args->r11 = regs.r11;
	return regs.rax;
}

/*
 * Halt with interrupts off until an interrupt, and take it. In a trust domain the
 * hypervisor ends the halt, and the interrupt is taken later.
 */
void host_idle(void)
{
	raw_safe_halt();
	raw_local_irq_disable();
}

void host_halt(void)
{
	count_entry();
	host_idle();
}

/* True if the exit is one after which the L2 is to be entered again. */
bool host_reenter(void)
{
	if (this_cpu_read(reentered) >= READ_ONCE(reenter))
		return false;
	this_cpu_inc(reentered);
	return true;
}

/* DR0-DR3 and DR6; -EINVAL for any other register. */
int host_get_set_dr(u32 name, u64 *val, bool set)
{
	int n = name == HV_X64_REGISTER_DR6 ? 6 : name - HV_X64_REGISTER_DR0;

	if (name != HV_X64_REGISTER_DR6 &&
	    (name < HV_X64_REGISTER_DR0 || name > HV_X64_REGISTER_DR3))
		return -EINVAL;
	/* The upper half must be zero, or MOV to DR6 is #GP. */
	if (set && n == 6 && *val > U32_MAX)
		return -EINVAL;
	if (set)
		native_set_debugreg(n, *val);
	else
		*val = native_get_debugreg(n);
	return 0;
}

/*
 * The kernel's own handling of pending work. In 6.12 it is KVM's, and says in a vCPU that
 * it met a signal.
 */
int host_handle_work(void)
{
	static struct kvm_run run;
	static struct kvm_vcpu vcpu = { .run = &run };

	return xfer_to_guest_mode_handle_work(&vcpu);
}

void host_reschedule(const struct cpumask *cpus)
{
	unsigned int cpu;

	for_each_cpu_and(cpu, cpus, cpu_online_mask)
		smp_send_reschedule(cpu);
}

/* The driver's idle routine, which OpenHCL's kernel calls as x86_idle. */
static void (*idle_routine)(void);
static struct cpumask idle_cpus;

/* Like x86_idle: RCU does not watch, and the routine may leave interrupts on. */
static int enter_idle(struct cpuidle_device *dev, struct cpuidle_driver *drv, int index)
{
	idle_routine();
	raw_local_irq_disable();
	return index;
}

static struct cpuidle_driver idle_driver = {
	.name = "mshv_vtl",
	.states = {
		{
			.name = "VTL",
			.desc = "the driver's idle routine",
			.enter = enter_idle,
		},
	},
	.state_count = 1,
	.cpumask = &idle_cpus,
};

void host_set_idle(void (*idle)(void))
{
	idle_routine = idle;
	cpumask_copy(&idle_cpus, cpu_present_mask);
	idle_thread = !cpuidle_get_driver() && !cpuidle_register(&idle_driver, NULL);
}

/* The L2's memory, pinned, and the VTL's file that it belongs to. */
static struct page **pages;
static unsigned long nr_pages;
static struct file *memory_owner;
static DEFINE_MUTEX(memory_lock);

static void drop_memory(void)
{
	tdx_emul_set_memory(NULL, 0);
	unpin_user_pages_dirty_lock(pages, nr_pages, true);
	kvfree(pages);
	pages = NULL;
	memory_owner = NULL;
}

static int set_memory(struct file *file, void __user *arg)
{
	struct mshv_vtl_emul_memory mem;
	int ret;

	if (copy_from_user(&mem, arg, sizeof(mem)))
		return -EFAULT;
	if (!PAGE_ALIGNED(mem.addr) || !PAGE_ALIGNED(mem.length) || !mem.length ||
	    mem.length >> PAGE_SHIFT > TDX_EMUL_PAGES_MAX)
		return -EINVAL;

	mutex_lock(&memory_lock);
	ret = -EBUSY;
	if (memory_owner)
		goto out;
	nr_pages = mem.length >> PAGE_SHIFT;
	pages = kvcalloc(nr_pages, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	ret = -ENOMEM;
	if (!pages)
		goto out;
	ret = pin_user_pages_fast(mem.addr, nr_pages, FOLL_WRITE | FOLL_LONGTERM, pages);
	if (ret != nr_pages) {
		if (ret > 0)
			unpin_user_pages(pages, ret);
		kvfree(pages);
		ret = -EFAULT;
		goto out;
	}
	ret = tdx_emul_set_memory(pages, nr_pages);
	if (ret)
		drop_memory();
	else
		WRITE_ONCE(memory_owner, file);
out:
	mutex_unlock(&memory_lock);
	return ret;
}

/* An ioctl of a VTL's file. Those of the stand-in are ours, all others the driver's. */
long host_ioctl(struct file *file, unsigned int cmd, unsigned long arg,
		host_ioctl_fn driver_ioctl)
{
	long ret;

	if (cmd == MSHV_VTL_EMUL_SET_MEMORY)
		return set_memory(file, (void __user *)arg);
	if (cmd != MSHV_VTL_RETURN_TO_LOWER_VTL)
		return driver_ioctl(file, cmd, arg);
	/* The emulated L2 cannot be entered without memory. */
	if (READ_ONCE(memory_owner) != file)
		return -ENXIO;
	this_cpu_write(reentered, 0);
	ret = driver_ioctl(file, cmd, arg);
	if (!ret)
		l1_after_exit();
	return ret;
}

void host_release(struct file *file)
{
	mutex_lock(&memory_lock);
	if (memory_owner == file)
		drop_memory();
	mutex_unlock(&memory_lock);
}

int __init host_init(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		host_apicids[cpu] = per_cpu(x86_cpu_to_apicid, cpu);
	l1_init();
	return 0;
}
