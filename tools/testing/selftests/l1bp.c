// SPDX-License-Identifier: GPL-2.0
/*
 * l1bp CPU: keep a hardware breakpoint of L1 on a CPU by perf, until killed.
 */
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static long variable;

int main(int argc, char **argv)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_W,
		.bp_addr = (unsigned long)&variable,
		.bp_len = HW_BREAKPOINT_LEN_8,
	};

	if (argc != 2)
		return 2;
	if (syscall(SYS_perf_event_open, &attr, -1, atoi(argv[1]), -1, 0) < 0) {
		perror("l1bp");
		return EXIT_FAILURE;
	}
	puts("placed");
	fflush(stdout);
	pause();
	return EXIT_SUCCESS;
}
