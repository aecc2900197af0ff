// SPDX-License-Identifier: GPL-2.0
/*
 * On demand, change the debug registers as an L1 may between an exit and the VMM's
 * return to user space. A hook that captures late must not report the result as
 * the L2's registers.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/hw_breakpoint.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#include "l1.h"

enum {
	L1_NOTHING,
	L1_SLEEP,	/* another task runs, with its own breakpoints */
	L1_BREAKPOINT,	/* another CPU sets a breakpoint here and removes it */
	L1_DEBUG,	/* the same, but it is hit: L1 handles a #DB */
	L1_TOGGLE,	/* set a breakpoint, or remove it, with no other trace */
	L1_HIT,		/* hit a breakpoint that stays */
};

static unsigned int after_exit;
module_param(after_exit, uint, 0644);
MODULE_PARM_DESC(after_exit,
		 "action of L1 after each exit to user space: 0 none, 1 sleep, 2 set and remove a breakpoint, 3 the same and hit it, 4 set or remove a breakpoint with no other trace, 5 hit a breakpoint that stays");

/* The variable that the breakpoint watches. */
static unsigned long watched;

/**
 * struct request - one CPU's request to another, and its progress
 * @work: runs on the other CPU
 * @cpu: the requesting CPU
 * @placed: the breakpoint is set, or could not be
 * @done: the breakpoint may be removed
 * @gone: the breakpoint is removed
 * @own: the requesting CPU's own breakpoint; see toggle_breakpoint()
 */
struct request {
	struct work_struct work;
	unsigned int cpu;
	bool placed;
	bool done;
	bool gone;
	struct perf_event *own;
};

static DEFINE_PER_CPU(struct request, requests);

/* Allows one request at a time: two VMMs may share a CPU. */
static DEFINE_MUTEX(request_lock);

static void on_hit(struct perf_event *event, struct perf_sample_data *data,
		   struct pt_regs *regs)
{
}

static struct perf_event *create_breakpoint(unsigned int cpu)
{
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_addr = (unsigned long)&watched;
	attr.bp_len = HW_BREAKPOINT_LEN_8;
	attr.bp_type = HW_BREAKPOINT_W;
	return perf_event_create_kernel_counter(&attr, cpu, NULL, on_hit, NULL);
}

static void come_and_go(struct work_struct *work)
{
	struct request *req = container_of(work, struct request, work);
	struct perf_event *event;

	event = create_breakpoint(req->cpu);
	WRITE_ONCE(req->placed, true);
	if (!IS_ERR(event)) {
		while (!READ_ONCE(req->done))
			cpu_relax();
		perf_event_release_kernel(event);
	}
	WRITE_ONCE(req->gone, true);
}

/*
 * The VMM is bound to its CPU and keeps running here unless preempted. Preemption
 * stays enabled because setting a breakpoint waits for RCU.
 */
static void breakpoint_from_another_cpu(bool hit)
{
	unsigned int cpu = raw_smp_processor_id();
	unsigned int other = cpumask_any_but(cpu_online_mask, cpu);
	struct request *req = per_cpu_ptr(&requests, cpu);

	if (other >= nr_cpu_ids)
		return;
	WRITE_ONCE(req->placed, false);
	WRITE_ONCE(req->done, false);
	WRITE_ONCE(req->gone, false);
	schedule_work_on(other, &req->work);
	while (!READ_ONCE(req->placed))
		cpu_relax();
	if (hit)
		WRITE_ONCE(watched, 1);
	WRITE_ONCE(req->done, true);
	while (!READ_ONCE(req->gone))
		cpu_relax();
}

/*
 * Mimic perf, which removes a breakpoint that reached its hit limit: on the CPU
 * itself, without a counted interrupt and without another task. The first call
 * creates the breakpoint.
 */
static void toggle_breakpoint(struct request *req)
{
	struct perf_event *event;

	if (!req->own) {
		event = create_breakpoint(req->cpu);
		WRITE_ONCE(req->own, IS_ERR(event) ? NULL : event);
	} else if (req->own->state == PERF_EVENT_STATE_ACTIVE) {
		perf_event_disable(req->own);
	} else {
		perf_event_enable(req->own);
	}
}

/*
 * Mimic an L1 that debugs itself: a #DB resets DR6 and leaves no other trace. The
 * L2 has overwritten the breakpoint's address register, so set it again.
 */
static void hit_breakpoint(struct request *req)
{
	if (req->own && req->own->state == PERF_EVENT_STATE_ACTIVE)
		toggle_breakpoint(req);
	toggle_breakpoint(req);
	WRITE_ONCE(watched, 1);
}

/* Runs in the ioctl, between the exit and the return to user space. */
void l1_after_exit(void)
{
	struct request *req = per_cpu_ptr(&requests, raw_smp_processor_id());
	unsigned int what = READ_ONCE(after_exit);
	unsigned long switches = current->nvcsw;

	if (what > L1_SLEEP || READ_ONCE(req->own)) {
		mutex_lock(&request_lock);
		if (req->own && what != L1_TOGGLE && what != L1_HIT) {
			perf_event_release_kernel(req->own);
			WRITE_ONCE(req->own, NULL);
		}
		if (what == L1_BREAKPOINT || what == L1_DEBUG)
			breakpoint_from_another_cpu(what == L1_DEBUG);
		else if (what == L1_TOGGLE)
			toggle_breakpoint(req);
		else if (what == L1_HIT)
			hit_breakpoint(req);
		mutex_unlock(&request_lock);
	}
	/* A quick timer may end the sleep before the task is switched out. */
	while (what == L1_SLEEP && current->nvcsw == switches)
		msleep(1);
}

void __init l1_init(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		per_cpu(requests, cpu).cpu = cpu;
		INIT_WORK(&per_cpu(requests, cpu).work, come_and_go);
	}
}

void l1_fini(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		flush_work(&per_cpu(requests, cpu).work);
		if (per_cpu(requests, cpu).own)
			perf_event_release_kernel(per_cpu(requests, cpu).own);
	}
}
