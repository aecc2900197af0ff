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

/* DR0 on, local; 8 bytes, reads and writes. */
#define WATCH		(1 | 0xb << 16)
#define UNUSED		0xb80

static pid_t tracee;
static bool traced;

static void prepare(void)
{
	tracee = kind->target == ON_VMM ? vmm.tid : start_helper(write_and_nap);
}

/* Wait for a stop. False if the tracee has gone, or SIGTERM came. */
static bool wait_stop(int *status)
{
	while (waitpid(tracee, status, __WALL) != tracee) {
		if (errno == ECHILD) {
			stopping = 1;
			return false;
		}
		if (errno != EINTR)
			die("waitpid failed");
		/* An interrupted stop is still to come. */
	}
	if (WIFSTOPPED(*status))
		return true;
	stopping = 1;
	traced = false;
	return false;
}

static bool poke(unsigned int n, unsigned long val)
{
	if (!ptrace(PTRACE_POKEUSER, tracee, offsetof(struct user, u_debugreg[n]), val))
		return true;
	failed("PTRACE_POKEUSER");
	return false;
}

/* The signal that a stop is for, to be passed on; 0 if ptrace itself stopped it. */
static int signal_of(int status)
{
	int sig = WSTOPSIG(status);

	return status >> 16 || sig == SIGTRAP ? 0 : sig;
}

static bool go_on(enum __ptrace_request how, int status)
{
	if (!ptrace(how, tracee, NULL, (long)signal_of(status)))
		return true;
	failed("ptrace");
	return false;
}

/* Stop the tracee. Whatever it stops for on the way is passed on. */
static bool stop(void)
{
	int status;

	if (ptrace(PTRACE_INTERRUPT, tracee, NULL, NULL)) {
		failed("PTRACE_INTERRUPT");
		return false;
	}
	while (wait_stop(&status)) {
		if (status >> 16 == PTRACE_EVENT_STOP)
			return true;
		if (!go_on(PTRACE_CONT, status))
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

static void release(void)
{
	if (kind->target == ON_TASK)
		rest_helper();
	if (traced && ptrace(PTRACE_DETACH, tracee, NULL, NULL))
		failed("PTRACE_DETACH");
	traced = false;
}

static void begin_watch(void)
{
	unsigned long addr;

	if (kind->target == ON_TASK)
		addr = kind->place == IN_USER ? (unsigned long)&shared->watched :
						(unsigned long)&tracee;
	else
		addr = vmm.run_page + (kind->place == IN_USER ?
				       offsetof(struct mshv_vtl_run, exit_info.rax) : UNUSED);
	if (!seize() || !poke(0, addr) || !poke(7, WATCH))
		return;
	if (kind->place == NOWHERE)
		struck++;
	go_on(PTRACE_CONT, 0);
}

/* Send the tracee on whenever it stops. */
static void watch(void)
{
	int status;
	pid_t pid = waitpid(tracee, &status, __WALL | WNOHANG);

	if (!pid) {
		nap_us(200);
		return;
	}
	if (pid < 0 || !WIFSTOPPED(status)) {
		traced = false;
		stopping = 1;
		return;
	}
	if (kind->place == IN_USER && WSTOPSIG(status) == SIGTRAP && !(status >> 16))
		struck++;
	go_on(PTRACE_CONT, status);
}

static void end_watch(void)
{
	if (traced && stop()) {
		poke(7, 0);
		poke(0, 0);
	}
	release();
}

static void begin_step(void)
{
	if (seize())
		go_on(PTRACE_SINGLESTEP, 0);
}

static void step(void)
{
	int status;

	if (!traced || !wait_stop(&status))
		return;
	if (WSTOPSIG(status) == SIGTRAP && !(status >> 16))
		struck++;
	go_on(PTRACE_SINGLESTEP, status);
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
