// SPDX-License-Identifier: GPL-2.0
/*
 * disturb KIND CPU [PID]: disturb a vCPU's CPU or the VMM that runs there, in bursts with
 * a rest after each, until SIGTERM. The last line of output is "struck N", the number of
 * strikes. If this kernel lacks support, prints the reason and exits with 4.
 */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tdx_drcache_read.h>
#include <time.h>
#include <unistd.h>

#include "disturb.h"

#define EXIT_USAGE	2
#define EXIT_SKIP	4	/* like kselftest's */
#define PAGE		4096u
#define ASK_PAUSE_US	200

static const struct kind *const rooms[] = {
	perf_kinds, ptrace_kinds, task_kinds, vmm_kinds, NULL
};

const struct kind *kind;
struct vmm vmm;
uint64_t struck, refused;
volatile sig_atomic_t stopping;
unsigned int burst_ms = 20;
uint64_t kernel_address;
bool exclusive;
const char *toggle_file;
char **toggle_values;

static unsigned int rest_ms = 20;
static char *toggle_list;
/* Used with --exclusive. */
static struct tdx_drcache_reader observer;

static void complain(const char *prefix, const char *fmt, va_list ap)
{
	fflush(stdout);
	fputs(prefix, stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

void skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain("SKIP ", fmt, ap);
	va_end(ap);
	exit(EXIT_SKIP);
}

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain("disturb: ", fmt, ap);
	va_end(ap);
	exit(EXIT_FAILURE);
}

/* Handle a failed system call: fatal, unless the VMM has merely gone. */
void failed(const char *what)
{
	if (errno != ESRCH && errno != EINTR)
		die("%s: %s", what, strerror(errno));
	if (errno == ESRCH)
		stopping = 1;
}

/* Number of exits of the vCPU, or -1 if it is no longer exclusive. */
static int64_t exits_while_exclusive(void)
{
	struct tdx_drcache_stats s = { .size = sizeof(s) };

	if (ioctl(observer.fd, TDX_DRCACHE_GET_STATS, &s))
		die("TDX_DRCACHE_GET_STATS: %s", strerror(errno));
	if (!(s.flags & TDX_DRCACHE_STATS_EXCLUSIVE))
		return -1;
	return s.published + s.filtered + s.refused + s.lost;
}

/**
 * count_refusal() - judge a request for a breakpoint, with --exclusive
 * @what: the system call
 * @refused: it failed with errno; otherwise the breakpoint is still there
 *
 * ENOSPC is a strike. Success is an error, unless the VMM has gone, so that the vCPU has
 * no more exits.
 */
void count_refusal(const char *what, bool refused)
{
	int64_t exits, before;

	if (refused) {
		int err = errno;

		if (err == ENOSPC) {
			struck++;
			return;
		}
		/* Not exclusive any more, so the kernel itself cannot place it. */
		if (err == EINVAL && exits_while_exclusive() < 0)
			skip("a breakpoint cannot be placed: %s", strerror(err));
		errno = err;
		failed(what);
		return;
	}
	before = exits_while_exclusive();
	do {
		nap_us(1000);
		exits = exits_while_exclusive();
		if (before >= 0 && exits > before)
			die("%s: a breakpoint was placed beside an exclusive vCPU", what);
	} while (exits >= 0 && !stopping);
	stopping = 1;
}

void nap_us(unsigned int us)
{
	const struct timespec ts = { us / 1000000, us % 1000000 * 1000L };

	nanosleep(&ts, NULL);
}

/* The first online CPU other than the vCPU's, or that if there is no other. */
int another_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (sched_getaffinity(1, sizeof(set), &set))
		return vmm.cpu;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && cpu != vmm.cpu)
			return cpu;
	return vmm.cpu;
}

void pin(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(tid, sizeof(set), &set))
		failed("sched_setaffinity");
}

/* The vCPU's thread is the one with affinity to only its CPU. */
static pid_t find_thread(void)
{
	char path[64];
	struct dirent *entry;
	pid_t found = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", vmm.pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name);
		cpu_set_t set;

		if (tid > 0 && tid != vmm.pid && !sched_getaffinity(tid, sizeof(set), &set) &&
		    CPU_COUNT(&set) == 1 && CPU_ISSET(vmm.cpu, &set))
			found = tid;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* Find the run page, and the cache's page, which the VMM maps when it binds. */
static bool find_pages(void)
{
	unsigned long start, offset;
	char path[64], line[256];
	bool bound = false;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", vmm.pid);
	maps = fopen(path, "r");
	while (maps && fgets(line, sizeof(line), maps)) {
		bound |= !!strstr(line, "/dev/tdx_drcache");
		if (strstr(line, "mshv_vtl") &&
		    sscanf(line, "%lx-%*x %*s %lx", &start, &offset) == 2 &&
		    offset == (uint64_t)vmm.cpu * PAGE)
			vmm.run_page = start;
	}
	if (maps)
		fclose(maps);
	return vmm.run_page && bound;
}

/* Wait until the VMM has started: kinds may take resources that it needs to start. */
static void wait_for_vmm(void)
{
	for (unsigned int i = 0; i < 10000 && !stopping; i++) {
		if (kill(vmm.pid, 0)) {
			stopping = 1;
			return;
		}
		vmm.tid = find_thread();
		if (vmm.tid && find_pages())
			return;
		nap_us(1000);
	}
	if (!stopping)
		die("process %d has no vCPU on CPU %d", vmm.pid, vmm.cpu);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static void burst(void)
{
	uint64_t until = now_us() + burst_ms * 1000ull;

	if (exclusive && kind->ask) {
		do {
			kind->ask();
			nap_us(ASK_PAUSE_US);
		} while (!stopping && now_us() < until);
		if (kind->target == ON_TASK)
			rest_helper();
		return;
	}
	if (kind->begin)
		kind->begin();
	do {
		kind->strike();
		if (kind->pause_us)
			nap_us(kind->pause_us);
	} while (!stopping && now_us() < until);
	if (kind->end)
		kind->end();
}

static void on_term(int sig)
{
	(void)sig;
	stopping = 1;
}

static void list_kinds(void)
{
	for (const struct kind *const *room = rooms; *room; room++)
		for (const struct kind *k = *room; k->name; k++)
			printf("%-18s %s%s\n", k->name, k->doc, k->wants_vmm ? " (PID)" : "");
}

static const struct kind *find_kind(const char *name)
{
	for (const struct kind *const *room = rooms; *room; room++)
		for (const struct kind *k = *room; k->name; k++)
			if (!strcmp(k->name, name))
				return k;
	return NULL;
}

static unsigned int parse_number(const char *arg, unsigned int max, struct argp_state *state)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(arg, &end, 0);
	if (errno || end == arg || *end || *arg == '-' || n > max)
		argp_error(state, "'%s' is not a number from 0 to %u", arg, max);
	return n;
}

enum {
	KEY_LIST = 0x100, KEY_BURST, KEY_REST, KEY_ADDRESS, KEY_FILE, KEY_VALUES, KEY_EXCLUSIVE,
};

static const struct argp_option options[] = {
	{ "list", KEY_LIST, NULL, 0, "list the kinds and exit", 0 },
	{ "burst", KEY_BURST, "MS", 0, "length of a burst (default 20)", 0 },
	{ "rest", KEY_REST, "MS", 0, "length of the rest after it (default 20)", 0 },
	{ "address", KEY_ADDRESS, "HEX", 0,
	  "address of the kernel symbol that KIND needs (default: from /proc/kallsyms)", 0 },
	{ "exclusive", KEY_EXCLUSIVE, NULL, 0,
	  "the vCPU is exclusive: request breakpoints, and count refusals as strikes", 0 },
	{ "file", KEY_FILE, "FILE", 0, "for toggle: write to FILE", 0 },
	{ "values", KEY_VALUES, "A,B...", 0, "for toggle: write these in turn, and A last", 0 },
	{ 0 },
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case KEY_LIST:
		list_kinds();
		exit(EXIT_SUCCESS);
	case KEY_BURST:
		burst_ms = parse_number(arg, 60000, state);
		break;
	case KEY_REST:
		rest_ms = parse_number(arg, 60000, state);
		break;
	case KEY_ADDRESS:
		kernel_address = strtoull(arg, NULL, 16);
		break;
	case KEY_EXCLUSIVE:
		exclusive = true;
		break;
	case KEY_FILE:
		toggle_file = arg;
		break;
	case KEY_VALUES:
		toggle_list = arg;
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0) {
			kind = find_kind(arg);
			if (!kind)
				argp_error(state, "unknown kind '%s'; see --list", arg);
		} else if (state->arg_num == 1) {
			vmm.cpu = parse_number(arg, CPU_SETSIZE - 1, state);
		} else if (state->arg_num == 2) {
			vmm.pid = parse_number(arg, INT32_MAX, state);
		} else {
			argp_usage(state);
		}
		break;
	case ARGP_KEY_END:
		if (state->arg_num < 2)
			argp_usage(state);
		if ((kind->wants_vmm || exclusive) && !vmm.pid)
			argp_error(state, "%s needs the VMM's process ID", kind->name);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* Until the VMM is bound, breakpoints may be placed. */
static void start_observer(void)
{
	int err;

	wait_for_vmm();
	if (stopping)
		return;
	err = tdx_drcache_open(&observer, vmm.cpu, 0, NULL, TDX_DRCACHE_BIND_OBSERVE);
	if (err)
		die("cannot observe CPU %d: %s", vmm.cpu, strerror(-err));
	if (exits_while_exclusive() < 0)
		stopping = 1;
}

/* Split --values at the commas. */
static void split_values(void)
{
	char *save, *tok;
	unsigned int n = 0;

	toggle_values = calloc(strlen(toggle_list) + 2, sizeof(*toggle_values));
	if (!toggle_values)
		die("out of memory");
	for (tok = strtok_r(toggle_list, ",", &save); tok; tok = strtok_r(NULL, ",", &save))
		toggle_values[n++] = tok;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_opt,
		.args_doc = "KIND CPU [PID]",
		.doc = "Disturb a vCPU's CPU, or the VMM with process ID PID that runs it, in "
		       "bursts until SIGTERM.\vPrints \"struck N\" at the end. Exit status: 0 "
		       "for success, 1 for failure, 2 for a wrong command line, 4 if this "
		       "kernel lacks support.",
	};
	struct sigaction term = { .sa_handler = on_term };

	/* Without SA_RESTART, a waiting system call ends. */
	sigaction(SIGTERM, &term, NULL);
	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (toggle_list)
		split_values();

	if (exclusive)
		start_observer();
	else if (kind->wants_vmm)
		wait_for_vmm();
	pin(0, kind->here ? vmm.cpu : another_cpu());
	if (kind->prepare && !stopping)
		kind->prepare();
	while (!stopping) {
		burst();
		if (!stopping)
			nap_us(rest_ms * 1000);
	}
	if (refused)
		printf("refused %" PRIu64 "\n", refused);
	printf("struck %" PRIu64 "\n", struck);
	return EXIT_SUCCESS;
}
