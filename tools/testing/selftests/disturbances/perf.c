// SPDX-License-Identifier: GPL-2.0
/*
 * Breakpoints by perf.
 */
#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <mshv/mshv_vtl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disturb.h"

/* The CPU's breakpoint registers. */
#define SLOTS		4
/* An unused offset in the run page. */
#define UNUSED		0xb80

static struct perf_event_attr attr = {
	.type = PERF_TYPE_BREAKPOINT,
	.size = sizeof(attr),
	.bp_len = HW_BREAKPOINT_LEN_8,
};

static int event = -1;
static pid_t task;
static uint64_t hits_before;

static uint64_t kernel_symbol(const char *name)
{
	char line[256], symbol[128];
	uint64_t addr, found = 0;
	FILE *f = fopen("/proc/kallsyms", "r");

	while (f && !found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx %*c %127s", &addr, symbol) == 2 &&
		    !strcmp(symbol, name))
			found = addr;
	if (f)
		fclose(f);
	if (!found)
		skip("/proc/kallsyms does not show %s", name);
	return found;
}

static void choose_address(void)
{
	attr.bp_type = HW_BREAKPOINT_RW;
	switch (kind->place) {
	case NOWHERE:
		attr.bp_addr = kind->target == ON_TASK ? (uintptr_t)&hits_before :
							 vmm.run_page + UNUSED;
		break;
	case IN_USER:
		attr.bp_addr = kind->target == ON_TASK ?
			       (uintptr_t)&shared->watched :
			       vmm.run_page + offsetof(struct mshv_vtl_run, exit_info.rax);
		break;
	case IN_KERNEL_TEXT:
		attr.bp_addr = kernel_address ?: kernel_symbol("hrtimer_interrupt");
		attr.bp_type = HW_BREAKPOINT_X;
		attr.bp_len = sizeof(long);
		break;
	case IN_KERNEL_DATA:
		attr.bp_addr = kernel_address ?: kernel_symbol("jiffies_64");
		attr.bp_type = HW_BREAKPOINT_W;
		break;
	}
}

static int try_open(enum target target)
{
	switch (target) {
	case ON_VMM:
		return syscall(SYS_perf_event_open, &attr, vmm.tid, -1, -1, 0);
	case ON_TASK:
		return syscall(SYS_perf_event_open, &attr, task, -1, -1, 0);
	default:
		return syscall(SYS_perf_event_open, &attr, -1, vmm.cpu, -1, 0);
	}
}

static int open_event(void)
{
	int fd = try_open(kind->target);

	if (fd < 0)
		failed("perf_event_open");
	return fd;
}

static void ask(void)
{
	int fd;

	if (kind->target == ON_TASK)
		wake_helper();
	fd = try_open(kind->target);
	count_refusal("perf_event_open", fd < 0);
	if (fd >= 0)
		close(fd);
}

static void prepare(void)
{
	int fd;

	if (kind->target == ON_TASK)
		task = start_helper(write_and_nap);
	choose_address();
	if (exclusive)
		return;
	fd = try_open(kind->target);
	if (fd < 0 && errno != ESRCH)
		skip("a breakpoint cannot be placed: %s", strerror(errno));
	close(fd);
}

static uint64_t hits(void)
{
	uint64_t n = 0;

	if (event >= 0 && read(event, &n, sizeof(n)) != sizeof(n))
		n = 0;
	return n;
}

static void begin(void)
{
	event = open_event();
	if (kind->target == ON_TASK)
		wake_helper();
}

static void end(void)
{
	if (kind->target == ON_TASK)
		rest_helper();
	if (event >= 0)
		close(event);
	event = -1;
}

/*
 * Keep the breakpoint for the whole burst; its presence counts as a strike, or its hits
 * do. This CPU sleeps, so that the vCPU's CPU does the timekeeping.
 */
static void stay(void)
{
	nap_us(burst_ms * 1000);
}

static void end_stay(void)
{
	struck += kind->place == NOWHERE ? event >= 0 : hits();
	end();
}

static void churn(void)
{
	int fd = open_event();

	if (fd < 0)
		return;
	close(fd);
	struck++;
}

static void modify(void)
{
	if (event < 0)
		return;
	attr.bp_addr ^= 8;
	if (ioctl(event, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attr))
		failed("PERF_EVENT_IOC_MODIFY_ATTRIBUTES");
	else
		struck++;
}

static void toggle(void)
{
	if (event < 0)
		return;
	if (ioctl(event, PERF_EVENT_IOC_DISABLE, 0) || ioctl(event, PERF_EVENT_IOC_ENABLE, 0))
		failed("PERF_EVENT_IOC_ENABLE");
	else
		struck++;
}

/* One-shot breakpoints are sampling events with a period of one. */
static void prepare_once(void)
{
	attr.sample_period = 1;
	attr.disabled = 1;
	prepare();
}

static void begin_once(void)
{
	hits_before = 0;
	begin();
}

static void once(void)
{
	uint64_t n = hits();

	if (event < 0)
		return;
	struck += n - hits_before;
	hits_before = n;
	if (ioctl(event, PERF_EVENT_IOC_REFRESH, 1))
		failed("PERF_EVENT_IOC_REFRESH");
}

static void end_once(void)
{
	struck += hits() - hits_before;
	end();
}

/* Take all slots of the CPU, then request one more for the CPU and for the VMM. */
static void take_all(void)
{
	int fds[SLOTS + 1];
	unsigned int n = 0;

	while (n <= SLOTS && (fds[n] = try_open(ON_CPU)) >= 0)
		n++;
	if (n > SLOTS)
		die("the CPU has more than %d breakpoints", SLOTS);
	if (errno != ENOSPC)
		die("perf_event_open with all slots taken: %s", strerror(errno));
	fds[n] = try_open(ON_VMM);
	if (fds[n] >= 0)
		close(fds[n]);
	else if (errno == ENOSPC)
		struck++;
	else
		failed("perf_event_open with all slots taken");
	nap_us(500);
	while (n > 0)
		close(fds[--n]);
}

const struct kind perf_kinds[] = {
	{ "perf-vmm", "a breakpoint of the VMM's task, never hit",
	  .wants_vmm = true, .target = ON_VMM,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-vmm-hit", "the same, hit in user mode at each exit",
	  .wants_vmm = true, .target = ON_VMM, .place = IN_USER,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-task", "a breakpoint of another task on the CPU, never hit",
	  .target = ON_TASK,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-task-hit", "the same, hit in user mode",
	  .target = ON_TASK, .place = IN_USER,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-cpu", "a breakpoint of the CPU, never hit",
	  .wants_vmm = true, .target = ON_CPU,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-cpu-hit", "the same, hit by the VMM in user mode at each exit",
	  .wants_vmm = true, .target = ON_CPU, .place = IN_USER,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-kernel-text", "a breakpoint of the CPU on code of the timer interrupt",
	  .target = ON_CPU, .place = IN_KERNEL_TEXT,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-kernel-data", "a breakpoint of the CPU on data that the timer interrupt writes",
	  .target = ON_CPU, .place = IN_KERNEL_DATA,
	  .prepare = prepare, .begin = begin, .strike = stay, .end = end_stay, .ask = ask },
	{ "perf-churn-vmm", "breakpoints of the VMM's task come and go at a high rate",
	  .wants_vmm = true, .target = ON_VMM, .prepare = prepare, .strike = churn, .ask = ask },
	{ "perf-churn-cpu", "breakpoints of the CPU come and go at a high rate",
	  .wants_vmm = true, .target = ON_CPU, .prepare = prepare, .strike = churn, .ask = ask },
	{ "perf-churn-kernel", "the same, on code of the timer interrupt",
	  .target = ON_CPU, .place = IN_KERNEL_TEXT, .prepare = prepare, .strike = churn,
	  .ask = ask },
	{ "perf-modify-vmm", "a breakpoint of the VMM's task changes its address",
	  .wants_vmm = true, .target = ON_VMM,
	  .prepare = prepare, .begin = begin, .strike = modify, .end = end, .ask = ask },
	{ "perf-modify-cpu", "a breakpoint of the CPU changes its address",
	  .wants_vmm = true, .target = ON_CPU,
	  .prepare = prepare, .begin = begin, .strike = modify, .end = end, .ask = ask },
	{ "perf-enable-vmm", "another CPU disables and enables one of the VMM's task",
	  .wants_vmm = true, .target = ON_VMM,
	  .prepare = prepare, .begin = begin, .strike = toggle, .end = end, .ask = ask },
	{ "perf-enable-cpu", "another CPU disables and enables one of the CPU",
	  .wants_vmm = true, .target = ON_CPU,
	  .prepare = prepare, .begin = begin, .strike = toggle, .end = end, .ask = ask },
	{ "perf-once-vmm", "one-shot breakpoints of the VMM's task, hit in user mode",
	  .wants_vmm = true, .target = ON_VMM, .place = IN_USER, .pause_us = 500,
	  .prepare = prepare_once, .begin = begin_once, .strike = once, .end = end_once,
	  .ask = ask },
	{ "perf-once-kernel", "one-shot breakpoints of the CPU, hit in the timer interrupt",
	  .target = ON_CPU, .place = IN_KERNEL_TEXT, .pause_us = 500,
	  .prepare = prepare_once, .begin = begin_once, .strike = once, .end = end_once,
	  .ask = ask },
	{ "perf-slots", "all slots of the CPU are taken, and more are requested",
	  .wants_vmm = true, .target = ON_CPU, .prepare = prepare, .strike = take_all,
	  .ask = ask },
	{ 0 }
};
