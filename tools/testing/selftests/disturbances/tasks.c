// SPDX-License-Identifier: GPL-2.0
/*
 * Disturbances by other tasks on the vCPU's CPU.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "disturb.h"

#define TRAP_FLAG	(1l << 8)

volatile struct shared *shared;

static pid_t helper;

static void futex(int op, int val)
{
	syscall(SYS_futex, &shared->awake, op, val, NULL, NULL, 0);
}

void wake_helper(void)
{
	shared->awake = 1;
	futex(FUTEX_WAKE, 1);
}

void rest_helper(void)
{
	shared->awake = 0;
}

/**
 * start_helper() - start another task on the vCPU's CPU
 * @turn: called repeatedly while the task is awake
 *
 * It sleeps until wake_helper(), and dies with its parent.
 *
 * Return: its process ID.
 */
pid_t start_helper(void (*turn)(void))
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("out of memory");
	helper = fork();
	if (helper < 0)
		die("fork failed");
	if (helper)
		return helper;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(0, vmm.cpu);
	for (;;) {
		if (!shared->awake)
			futex(FUTEX_WAIT, 0);
		else
			turn();
	}
}

void write_and_nap(void)
{
	shared->watched++;
	shared->count++;
	nap_us(200);
}

/* A #DB in user mode without a breakpoint. L1 resets DR6. */
static void on_trap(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *uc = ucontext;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	struck++;
}

static void handle_traps(void)
{
	struct sigaction trap = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };

	sigaction(SIGTRAP, &trap, NULL);
}

static void int1(void)
{
	__asm__ volatile(".byte 0xf1" : : : "memory");
}

static void trap_flag(void)
{
	/* Skip the red zone. */
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
		     "pushfq\n\t"
		     "orq %0, (%%rsp)\n\t"
		     "popfq\n\t"
		     "nop\n\t"
		     "lea 128(%%rsp), %%rsp"
		     : : "i" (TRAP_FLAG) : "memory", "cc");
}

/* Strikes are switches away from this task, which let the VMM run. */
static void spin(void)
{
	struct timespec ts;
	struct rusage usage;
	long start;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	start = ts.tv_nsec;
	while (ts.tv_nsec >= start && ts.tv_nsec < start + 1000000)
		clock_gettime(CLOCK_MONOTONIC, &ts);
	getrusage(RUSAGE_SELF, &usage);
	struck = usage.ru_nivcsw;
}

static int ping[2], pong[2];

static void answer(void)
{
	char c;

	if (read(ping[0], &c, 1) != 1 || write(pong[1], &c, 1) != 1)
		exit(EXIT_SUCCESS);
}

static void prepare_pipes(void)
{
	if (pipe(ping) || pipe(pong))
		die("pipe failed");
	start_helper(answer);
	wake_helper();
}

/* A byte there and back takes two switches. */
static void ping_pong(void)
{
	char c = 0;

	if (write(ping[1], &c, 1) == 1 && read(pong[0], &c, 1) == 1)
		struck += 2;
}

const struct kind task_kinds[] = {
	{ "int1", "a task on the CPU executes INT1 and naps 300 microseconds",
	  .here = true, .pause_us = 300, .prepare = handle_traps, .strike = int1 },
	{ "trap-flag", "a task on the CPU sets TF and naps 300 microseconds",
	  .here = true, .pause_us = 300, .prepare = handle_traps, .strike = trap_flag },
	{ "busy", "a task on the CPU computes; counts switches away from it",
	  .here = true, .strike = spin },
	{ "pipe", "two tasks on the CPU play ping-pong through pipes; counts switches",
	  .here = true, .prepare = prepare_pipes, .strike = ping_pong },
	{ 0 }
};
