// SPDX-License-Identifier: GPL-2.0
/*
 * l1count CPU: test L1's own hardware breakpoints on a CPU, set by perf. Each hit counts
 * once, breakpoints that are not hit do not count, and once removed none is hit. Values
 * that an L2 leaves in the debug registers must not matter.
 */
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BREAKPOINTS	4
#define HITS		100

static volatile long variables[BREAKPOINTS];

static int place(volatile long *variable)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_W,
		.bp_addr = (unsigned long)variable,
		.bp_len = HW_BREAKPOINT_LEN_8,
	};

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static void trapped(int sig)
{
	static const char text[] = "unexpected SIGTRAP\n";

	(void)sig;
	if (write(STDOUT_FILENO, text, sizeof(text) - 1))
		_exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	int fds[BREAKPOINTS], i, j, bad = 0;
	uint64_t count;
	cpu_set_t set;

	if (argc != 2)
		return 2;
	CPU_ZERO(&set);
	CPU_SET(atoi(argv[1]), &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("l1count");
		return EXIT_FAILURE;
	}
	signal(SIGTRAP, trapped);
	for (i = 0; i < BREAKPOINTS; i++) {
		fds[i] = place(&variables[i]);
		if (fds[i] < 0) {
			perror("l1count");
			return EXIT_FAILURE;
		}
	}
	/* Hit only one: QEMU 10.0 counts others again that were hit before. */
	for (j = 0; j < HITS; j++)
		variables[0] = j;
	for (i = 0; i < BREAKPOINTS; i++) {
		uint64_t want = i ? 0 : HITS;

		if (read(fds[i], &count, sizeof(count)) != sizeof(count) || count != want) {
			printf("breakpoint %d: %llu hits, want %llu\n", i,
			       (unsigned long long)count, (unsigned long long)want);
			bad = 1;
		}
		close(fds[i]);
	}
	for (i = 0; i < BREAKPOINTS; i++)
		variables[i] = 0;
	return bad;
}
