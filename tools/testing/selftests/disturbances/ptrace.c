// SPDX-License-Identifier: GPL-2.0
/*
 * Watchpoints and single-stepping by ptrace.
 */
#include <errno.h>
#include <mshv/mshv_vtl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "disturb.h"

/* DR7: DR0 enabled locally; 8 bytes, reads and writes. */
#define WATCH		(1 | 0xb << 16)
#define UNUSED		0xb80

static pid_t tracee;
static bool traced;
/* Watched but never accessed. */
static uint64_t unused;
/* The tracee's last status. */
static int last;

static void prepare(void)
{
	tracee = kind->target == ON_VMM ? vmm.tid : start_helper(write_and_nap);
}

/* Wait for a stop. False if the tracee has gone. */
static bool wait_stop(void)
{
	pid_t pid;

	/* Retry after SIGTERM too: the stop is still pending. */
	do
		pid = waitpid(tracee, &last, __WALL);
	while (pid < 0 && errno == EINTR);
	if (pid == tracee && WIFSTOPPED(last))
		return true;
	stopping = 1;
	traced = false;
	return false;
}

/* True if the tracee stopped at a watchpoint or a step. */
static bool trapped(void)
{
	return WSTOPSIG(last) == SIGTRAP && !(last >> 16);
}

static bool poke(unsigned int n, unsigned long val)
{
	if (!ptrace(PTRACE_POKEUSER, tracee, offsetof(struct user, u_debugreg[n]), val))
		return true;
	failed("PTRACE_POKEUSER");
	return false;
}

/* Continue the tracee or detach from it, passing on the signal that it stopped for. */
static bool go_on(enum __ptrace_request how)
{
	long sig = last >> 16 || trapped() ? 0 : WSTOPSIG(last);

	if (!ptrace(how, tracee, NULL, sig))
		return true;
	failed("ptrace");
	return false;
}

/* Stop the tracee, passing on any signal that stops it first. */
static bool stop(void)
{
	if (ptrace(PTRACE_INTERRUPT, tracee, NULL, NULL)) {
		failed("PTRACE_INTERRUPT");
		return false;
	}
	while (wait_stop()) {
		if (last >> 16 == PTRACE_EVENT_STOP)
			return true;
		if (!go_on(PTRACE_CONT))
			return false;
	}
	return false;
}

static bool seize(void)
{
	traced = !ptrace(PTRACE_SEIZE, tracee, NULL, NULL);
	if (!traced)
		failed("PTRACE_SEIZE");
	if (kind->target == ON_TASK)
		wake_helper();
	return traced && stop();
}

/*
 * Detach from the stopped tracee. First drain a pending SIGTRAP of a hit just before the
 * stop: without a tracer it would be fatal.
 */
static void release(void)
{
	struct __ptrace_peeksiginfo_args args = { .nr = 1 };
	siginfo_t info;

	if (kind->target == ON_TASK)
		rest_helper();
	while (traced && ptrace(PTRACE_PEEKSIGINFO, tracee, &args, &info) > 0)
		if (!go_on(PTRACE_CONT) || !wait_stop())
			break;
	if (traced)
		go_on(PTRACE_DETACH);
	traced = false;
}

/*
 * Request a watchpoint in the stopped tracee, by DR0 and then by DR7. Judge the result
 * after the tracee continues: the VMM has no exits while it is stopped.
 */
static void ask(unsigned long addr)
{
	unsigned int n = 0;
	bool refused;
	int err;

	do {
		refused = ptrace(PTRACE_POKEUSER, tracee,
				 offsetof(struct user, u_debugreg[n]), n ? WATCH : addr);
		err = errno;
		if (!refused) {
			poke(7, 0);
			break;
		}
		n += 7;
	} while (n <= 7);
	if (!go_on(PTRACE_CONT))
		return;
	errno = err;
	count_refusal("PTRACE_POKEUSER", refused);
}

static void begin_watch(void)
{
	unsigned long addr;

	if (kind->target == ON_TASK)
		addr = kind->place == IN_USER ? (unsigned long)&shared->watched :
						(unsigned long)&unused;
	else
		addr = vmm.run_page + (kind->place == IN_USER ?
				       offsetof(struct mshv_vtl_run, exit_info.rax) : UNUSED);
	if (!seize())
		return;
	if (exclusive) {
		ask(addr);
		return;
	}
	if (!poke(0, addr) || !poke(7, WATCH))
		return;
	if (kind->place == NOWHERE)
		struck++;
	go_on(PTRACE_CONT);
}

/* Continue the tracee whenever it stops. */
static void watch(void)
{
	pid_t pid = waitpid(tracee, &last, __WALL | WNOHANG);

	if (!pid) {
		nap_us(200);
		return;
	}
	if (pid < 0 || !WIFSTOPPED(last)) {
		traced = false;
		stopping = 1;
		return;
	}
	struck += kind->place == IN_USER && trapped();
	go_on(PTRACE_CONT);
}

static void end_watch(void)
{
	if (traced && stop() && !exclusive) {
		poke(7, 0);
		poke(0, 0);
	}
	release();
}

static void begin_step(void)
{
	if (seize())
		go_on(PTRACE_SINGLESTEP);
}

static void step(void)
{
	if (!traced || !wait_stop())
		return;
	struck += trapped();
	go_on(PTRACE_SINGLESTEP);
}

static void end_step(void)
{
	if (traced)
		stop();
	release();
}

const struct kind ptrace_kinds[] = {
	{ "ptrace-vmm", "a watchpoint on the VMM, never hit",
	  .wants_vmm = true, .target = ON_VMM,
	  .prepare = prepare, .begin = begin_watch, .strike = watch, .end = end_watch },
	{ "ptrace-vmm-hit", "the same, hit at each exit",
	  .wants_vmm = true, .target = ON_VMM, .place = IN_USER,
	  .prepare = prepare, .begin = begin_watch, .strike = watch, .end = end_watch },
	{ "ptrace-task", "a watchpoint on another task on the CPU, never hit",
	  .target = ON_TASK,
	  .prepare = prepare, .begin = begin_watch, .strike = watch, .end = end_watch },
	{ "ptrace-task-hit", "the same, hit",
	  .target = ON_TASK, .place = IN_USER,
	  .prepare = prepare, .begin = begin_watch, .strike = watch, .end = end_watch },
	{ "singlestep", "another task on the CPU is single-stepped",
	  .target = ON_TASK,
	  .prepare = prepare, .begin = begin_step, .strike = step, .end = end_step },
	{ 0 }
};
