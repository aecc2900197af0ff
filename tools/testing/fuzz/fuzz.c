// SPDX-License-Identifier: GPL-2.0
/*
 * fuzz: run random programs of system calls on /dev/tdx_drcache and on the stand-in for
 * the host driver, in several processes. Each starts on a CPU of its own. A program is a
 * few calls that share files and mappings; afterwards the process closes what is left.
 * A call makes mostly valid arguments of its random numbers, one number for each
 * argument, so that flipping one bit changes one thing.
 *
 * With KCOV, and modules built with KCOV_INSTRUMENT=y, programs that reach new code are
 * kept and mutated. Without, every program is new. With fault injection
 * (/proc/thread-self/fail-nth), the n-th allocation or copy of some calls fails.
 *
 * It reports, whatever the arguments are:
 *
 *   - a result that the arguments rule out, or an errno that the UAPI header does not
 *     list for the call
 *   - a changed byte that the call may not change
 *   - a file that is bound twice, or returns data without being bound
 *   - a breakpoint that may run on the CPU of an exclusive vCPU
 *   - a mapped page that contradicts the UAPI header, a snapshot that no exit can have
 *     made, a seq that stays odd
 */
#include <argp.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <tdx_drcache_read.h>

#include "fuzz.h"

#define EXIT_USAGE	2

static time_t seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Print the results. Returns the number of wanted ones that are missing. */
static unsigned int report(time_t start)
{
	unsigned long long overlaps = sum(shared->overlaps), pcs = 0;
	unsigned int missing = 0;
	time_t took = seconds() - start;

	for (unsigned int i = 0; i < PCS; i++)
		pcs += shared->pcs[i] != 0;
	for (const struct op *op = ops; op->name; op++) {
		errset want = wanted(op);

		if (!is_target(op))
			continue;
		printf("%-20s", op->name);
		for (unsigned int e = 0; e < ERRNOS; e++) {
			unsigned long long n = shared->counts[op - ops][e];

			if (n)
				printf(" %s:%llu", e ? strerrorname_np(e) : "ok", n);
			else if (want & E(e))
				printf(" [%s:0]", e ? strerrorname_np(e) : "ok");
			missing += !n && want & E(e);
		}
		putchar('\n');
	}
	printf("%llu operations in %llu programs, %lld s", sum(shared->ops),
	       sum(shared->programs), (long long)took);
	if (pcs)
		printf("; %llu PCs covered, %llu programs kept", pcs, sum(shared->kept));
	printf("; %llu of %llu pairs of calls overlapped; %u failures\n", overlaps,
	       sum(shared->races), shared->failures);
	if (overlaps < opt.min_overlaps && !shared->failures++)
		printf("at least %u pairs had to overlap\n", opt.min_overlaps);
	return missing;
}

static void look_around(void)
{
	struct tdx_drcache_info info = { .size = sizeof(info) };
	int fd = open(TDX_DRCACHE_DEV, O_RDONLY), status;
	pid_t pid;

	if (fd < 0 || ioctl(fd, TDX_DRCACHE_GET_INFO, &info))
		die("%s", TDX_DRCACHE_DEV);
	close(fd);
	machine.hook = info.hook;
	machine.nr_cpu_ids = info.nr_cpu_ids;
	machine.has_host = info.host != TDX_DRCACHE_HOST_NONE;
	machine.features = info.features;
	machine.needs_run_page = machine.hook != TDX_DRCACHE_HOOK_CALLOUT;
	machine.online_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	machine.has_faults = !access("/proc/self/fail-nth", W_OK);
	if (opt.emul && access("/dev/mshv", F_OK))
		die("/dev/mshv");
	/* Without a 32-bit entry in the kernel, this raises SIGSEGV. */
	pid = fork();
	if (!pid) {
		struct arg arg = { .compat = true };

		do_ioctl(-1, 0, &arg);
		_exit(0);
	}
	machine.has_compat = pid > 0 && waitpid(pid, &status, 0) == pid && !status;
	machine.has_sockets = !socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, machine.sockets);
}

/* Own a vCPU throughout, which keeps the hook in place. */
static void keep_hook(void)
{
	struct tdx_drcache_reader r;
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err = tdx_drcache_open(&r, opt.keep, 0, page, 0);

	if (err) {
		errno = -err;
		die("--keep");
	}
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 's':
		opt.seed = strtoull(arg, NULL, 0);
		break;
	case 'n':
		opt.ops = strtoull(arg, NULL, 0);
		break;
	case 'p':
		opt.procs = strtoul(arg, NULL, 0);
		if (!opt.procs || opt.procs > PROCS_MAX)
			argp_error(state, "from 1 to %d processes", PROCS_MAX);
		break;
	case 't':
		opt.drcache = strcmp(arg, "emul");
		opt.emul = strcmp(arg, "drcache");
		if (opt.drcache && opt.emul && strcmp(arg, "all"))
			argp_error(state, "'%s' is not drcache, emul or all", arg);
		break;
	case 'l':
		opt.time_limit = strtoul(arg, NULL, 0);
		break;
	case 'c':
		opt.complete = true;
		break;
	case 'k':
		opt.keep = atoi(arg);
		break;
	case 'o':
		opt.min_overlaps = strtoul(arg, NULL, 0);
		break;
	case 'I':
		opt.no_idle = true;
		break;
	case 'K':
		opt.no_kcov = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option options[] = {
	{ "seed", 's', "N", 0, "seed of the random programs (default 1)", 0 },
	{ "ops", 'n', "N", 0, "run N operations in all (default 10000)", 0 },
	{ "procs", 'p', "N", 0, "processes (default 2)", 0 },
	{ "target", 't', "NAME", 0, "drcache, emul or all (default all)", 0 },
	{ "time-limit", 'l', "SEC", 0, "stop after SEC seconds", 0 },
	{ "complete", 'c', NULL, 0, "fail if a listed errno never occurs", 0 },
	{ "keep", 'k', "CPU", 0, "own this vCPU throughout, which keeps the hook in place", 0 },
	{ "min-overlaps", 'o', "N", 0,
	  "run on until N pairs of calls overlap, up to 50 times the operations", 0 },
	{ "no-idle", 'I', NULL, 0, "enter the L2 in the fast mode only", 0 },
	{ "no-kcov", 'K', NULL, 0, "ignore coverage", 0 },
	{ 0 },
};

/* Wait for the processes, and report progress. */
static void supervise(time_t start)
{
	time_t moved = start, told = start;
	unsigned int left = opt.procs;
	unsigned long long last = 0, done;
	int status;

	while (left) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0) {
			left--;
			if (status && !shared->failures++)
				printf("a process ended with status %#x\n", status);
			if (status)
				shared->stop = true;
			continue;
		}
		usleep(100000);
		done = sum(shared->ops);
		if (done != last)
			moved = seconds();
		last = done;
		if (seconds() - told >= 60) {
			told = seconds();
			fprintf(stderr, "fuzz: %llu of %" PRIu64 " operations, %lld s\n", done,
				opt.ops, (long long)(told - start));
		}
		if (opt.time_limit && seconds() - start >= (time_t)opt.time_limit)
			shared->stop = true;
		if (seconds() - moved > 120) {
			printf("no operation in 120 seconds\n");
			for (unsigned int i = 0; i < opt.procs; i++)
				print_program(&shared->now[i]);
			shared->failures++;
			break;
		}
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_opt,
		.doc = "Fuzz /dev/tdx_drcache and the stand-in's /dev/mshv.\vExit status: 0 if "
		       "no check failed, 1 if one did, 2 for a wrong command line.",
	};
	unsigned int missing;
	time_t start;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (shared == MAP_FAILED)
		die("memory");
	look_around();
	if (opt.keep >= 0)
		keep_hook();
	start = seconds();
	fflush(stdout);
	for (unsigned int i = 0; i < opt.procs; i++) {
		me = i;
		if (!fork())
			run_process();
	}
	supervise(start);
	missing = report(start);
	if (missing)
		printf("%u expected results did not occur%s\n", missing,
		       opt.complete ? "" : " (a longer run might)");
	return shared->failures || (missing && opt.complete) ? EXIT_FAILURE : EXIT_SUCCESS;
}
