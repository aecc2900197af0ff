// SPDX-License-Identifier: GPL-2.0
/*
 * Make a CPU leave its L2: MSHV_VTL_KICK_CPU and wake-ups of a polled file set the
 * run page's cancel and send an interrupt.
 *
 * Modelled on drivers/hv/mshv_vtl_main.c of OHCL-Linux-Kernel (00d95ddb1b73):
 * mshv_vtl_cancel(), mshv_vtl_poll_file_wake(), mshv_vtl_ioctl_set_poll_file(),
 * ack_kick(), mshv_vtl_ioctl_kick_cpu(). The VMM clears cancel, never the driver.
 *
 * The real driver polls a file until another replaces it. Here it is also released
 * when the VTL's file that set it is closed. Only the first wait queue of a file is
 * polled. A kick skips offline CPUs.
 */
#include <linux/cpumask.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/percpu.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <trace/events/ipi.h>

#include "vtl.h"

/**
 * struct poll_file - a file whose wake-ups cancel a CPU's run
 * @file: the file, with a reference; NULL if none is set
 * @owner: the VTL that set it
 * @wait: our entry in @wqh
 * @wqh: the file's wait queue; NULL if it has none or the queue is gone
 * @pt: for vfs_poll()
 * @cpu: the CPU
 */
struct poll_file {
	struct file *file;
	const void *owner;
	wait_queue_entry_t wait;
	wait_queue_head_t *wqh;
	poll_table pt;
	unsigned int cpu;
};

static DEFINE_PER_CPU(struct poll_file, poll_files);
/* Protects poll_files, except fields under the wait queue's lock. */
static DEFINE_MUTEX(poll_file_lock);

static void cancel_run(unsigned int cpu)
{
	unsigned int here = get_cpu();

	if (cpu == here)
		WRITE_ONCE(vtl_run_of(cpu)->cancel, 1);
	else if (!xchg_relaxed(&vtl_run_of(cpu)->cancel, 1) && cpu_online(cpu))
		smp_send_reschedule(cpu);
	put_cpu();
}

/* Called with the wait queue's lock held. */
static int on_wake(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct poll_file *p = container_of(wait, struct poll_file, wait);

	cancel_run(p->cpu);
	if (key_to_poll(key) & POLLFREE) {
		list_del_init(&wait->entry);
		/* pairs with smp_load_acquire() in drop() */
		smp_store_release(&p->wqh, NULL);
	}
	return 0;
}

static void on_poll(struct file *file, wait_queue_head_t *wqh, poll_table *pt)
{
	struct poll_file *p = container_of(pt, struct poll_file, pt);

	if (p->wqh)
		return;
	p->wqh = wqh;
	add_wait_queue(wqh, &p->wait);
}

/* Stop polling. The caller drops the reference to the file returned. */
static struct file *drop(struct poll_file *p)
{
	struct file *file = p->file;
	wait_queue_head_t *wqh;

	/* RCU frees a queue that goes away (POLLFREE). */
	rcu_read_lock();
	/* pairs with smp_store_release() in on_wake() */
	wqh = smp_load_acquire(&p->wqh);
	if (wqh)
		remove_wait_queue(wqh, &p->wait);
	rcu_read_unlock();
	p->wqh = NULL;
	p->file = NULL;
	p->owner = NULL;
	return file;
}

/* MSHV_VTL_SET_POLL_FILE of the VTL @owner. */
int vtl_set_poll_file(const void *owner, const void __user *arg)
{
	struct mshv_vtl_set_poll_file input;
	struct poll_file *p;
	struct file *file, *old;

	if (copy_from_user(&input, arg, sizeof(input)))
		return -EFAULT;
	if (input.cpu >= nr_cpu_ids)
		return -EINVAL;
	input.cpu = array_index_nospec(input.cpu, nr_cpu_ids);
	if (!cpu_online(input.cpu))
		return -EINVAL;
	file = fget(input.fd);
	if (!file)
		return -EBADFD;
	/* The VTL would hold a reference to itself. */
	if (vtl_is_vtl(file)) {
		fput(file);
		return -EINVAL;
	}

	mutex_lock(&poll_file_lock);
	p = per_cpu_ptr(&poll_files, input.cpu);
	old = drop(p);
	p->file = file;
	p->owner = owner;
	p->cpu = input.cpu;
	init_waitqueue_func_entry(&p->wait, on_wake);
	init_poll_funcptr(&p->pt, on_poll);
	vfs_poll(file, &p->pt);
	mutex_unlock(&poll_file_lock);
	if (old)
		fput(old);
	return 0;
}

/* Release the files that the VTL @owner set, when it is closed. */
void vtl_drop_poll_files(const void *owner)
{
	unsigned int cpu;
	struct file *file;

	mutex_lock(&poll_file_lock);
	for_each_possible_cpu(cpu) {
		if (per_cpu(poll_files, cpu).owner != owner)
			continue;
		file = drop(per_cpu_ptr(&poll_files, cpu));
		if (file)
			fput(file);
	}
	mutex_unlock(&poll_file_lock);
}

/* Runs on a kicked CPU, in its function-call interrupt. */
static void on_kick(void *cancel)
{
	if (cancel)
		WRITE_ONCE(mshv_vtl_this_run()->cancel, 1);
}

static int read_mask(struct cpumask *mask, const struct mshv_kick_cpus *args)
{
	size_t len = min_t(u64, args->len, cpumask_size());

	cpumask_clear(mask);
	return copy_from_user(mask, u64_to_user_ptr(args->cpu_mask_ptr), len) ? -EFAULT : 0;
}

/* The caller's own CPU is not in @mask. Preemption is off. */
static void kick(const struct cpumask *mask, u64 flags)
{
	bool cancel = flags & MSHV_KICK_CPUS_FLAG_CANCEL_CPU_RUN;
	unsigned int cpu;

	if (flags & MSHV_KICK_CPUS_FLAG_WAIT_FOR_CPUS) {
		smp_call_function_many(mask, on_kick, (void *)cancel, true);
		return;
	}
	for_each_cpu(cpu, mask) {
		if (cancel) {
			/* pairs with the interrupt that the CPU takes */
			smp_store_release(&vtl_run_of(cpu)->cancel, 1);
		}
		smp_send_reschedule(cpu);
	}
}

/* MSHV_VTL_KICK_CPU */
int vtl_kick_cpus(const void __user *arg)
{
	struct mshv_kick_cpus args;
	cpumask_var_t mask;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (!alloc_cpumask_var(&mask, GFP_KERNEL))
		return -ENOMEM;
	ret = read_mask(mask, &args);
	if (!ret) {
		cpumask_and(mask, mask, cpu_online_mask);
		cpumask_clear_cpu(get_cpu(), mask);
		kick(mask, args.flags);
		put_cpu();
	}
	free_cpumask_var(mask);
	return ret;
}
