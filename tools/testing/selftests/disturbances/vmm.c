// SPDX-License-Identifier: GPL-2.0
/*
 * Disturbances of the VMM, and of the whole machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disturb.h"

static void stop_and_go(void)
{
	if (kill(vmm.pid, SIGSTOP)) {
		failed("SIGSTOP");
		return;
	}
	nap_us(500);
	kill(vmm.pid, SIGCONT);
	struck++;
}

/* Without a handler, the signal would kill the VMM. */
static void wait_for_handler(void)
{
	uint64_t caught = 0;
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/%d/status", vmm.pid);
	while (!stopping && !(caught & 1ull << (SIGUSR1 - 1))) {
		FILE *status = fopen(path, "r");

		if (!status) {
			stopping = 1;
			break;
		}
		while (fgets(line, sizeof(line), status))
			sscanf(line, "SigCgt: %lx", &caught);
		fclose(status);
		nap_us(1000);
	}
}

static void send_signal(void)
{
	if (syscall(SYS_tgkill, vmm.pid, vmm.tid, SIGUSR1))
		failed("tgkill");
	else
		struck++;
}

static void need_another_cpu(void)
{
	if (another_cpu() == vmm.cpu)
		skip("there is only one CPU");
}

static void move(void)
{
	pin(vmm.tid, another_cpu());
	nap_us(500);
	pin(vmm.tid, vmm.cpu);
	struck++;
}

static bool write_value(const char *value)
{
	int fd = open(toggle_file, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));
	int err = errno;

	if (fd >= 0)
		close(fd);
	errno = err;
	return n >= 0;
}

static void check_toggle(void)
{
	if (!toggle_file || !toggle_values || !toggle_values[0])
		die("toggle needs --file and --values");
	if (access(toggle_file, W_OK))
		skip("no %s: %s", toggle_file, strerror(errno));
}

/* The kernel may refuse with EBUSY, which counts as well. */
static void toggle(void)
{
	static unsigned int i;

	if (!toggle_values[++i])
		i = 0;
	if (!write_value(toggle_values[i])) {
		if (errno != EBUSY)
			failed(toggle_file);
		refused++;
	}
	struck++;
}

static void end_toggle(void)
{
	if (!write_value(toggle_values[0]) && errno != EBUSY)
		failed(toggle_file);
}

const struct kind vmm_kinds[] = {
	{ "stop", "the VMM is stopped and continued",
	  .wants_vmm = true, .pause_us = 500, .strike = stop_and_go },
	{ "signals-200", "signals to the VMM's thread, 200 per second",
	  .wants_vmm = true, .pause_us = 5000, .prepare = wait_for_handler,
	  .strike = send_signal },
	{ "signals-5000", "the same, 5,000 per second",
	  .wants_vmm = true, .pause_us = 200, .prepare = wait_for_handler,
	  .strike = send_signal },
	{ "move", "the VMM's thread is moved to another CPU and back",
	  .wants_vmm = true, .pause_us = 500, .prepare = need_another_cpu, .strike = move },
	{ "toggle", "write --values to --file in turn, from another CPU",
	  .wants_vmm = true, .pause_us = 500,
	  .prepare = check_toggle, .strike = toggle, .end = end_toggle },
	{ "toggle-here", "the same from the vCPU's CPU",
	  .here = true, .wants_vmm = true, .pause_us = 500,
	  .prepare = check_toggle, .strike = toggle, .end = end_toggle },
	{ 0 }
};
