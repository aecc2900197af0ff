// SPDX-License-Identifier: GPL-2.0
/*
 * drcstat: monitor tdx_drcache. Shows the host and the hook, the debug registers at
 * the last exits, and the counts. It binds as an observer, which no VMM notices.
 */
#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "drcstat.h"

#define EXIT_USAGE	2
#define EXIT_NOTHING	3

#define NSEC		1000000000ll
/* Shortest time over which to calibrate the time stamp counter. */
#define CALIBRATION	(NSEC / 100)

const char *argp_program_version = "drcstat " VERSION;

struct command {
	const char *name;
	bool vcpus;		/* shows vCPUs, takes --cpu */
	bool repeats;		/* takes --interval and --count */
	bool counts;		/* shows no registers */
	void (*table)(const struct report *r);
	void (*json)(const struct report *r);
};

static const struct command commands[] = {
	{ "info", false, false, false, table_info, json_info },
	{ "regs", true, false, false, table_regs, json_regs },
	{ "stats", true, false, true, table_stats, json_stats },
	{ "watch", true, true, false, table_watch, json_watch },
};

/* The command line. */
static struct {
	const struct command *command;
	bool json;
	const char *cpus;	/* NULL: all online CPUs */
	double interval;	/* 0: not given */
	uint64_t count;		/* 0: no limit */
} opt;

static volatile sig_atomic_t stopped;

static void __attribute__((format(printf, 2, 3), noreturn))
die(int err, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("drcstat: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (err)
		fprintf(stderr, ": %s", strerror(err));
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

/* Advice on failure to open the device; "" if there is none. */
static const char *open_advice(int err)
{
	switch (err) {
	case ENOENT:
		return " (load tdx_drcache)";
	case ENODEV:
	case ENXIO:
		return " (its module is gone: load tdx_drcache)";
	case EPERM:
	case EACCES:
		return " (this needs CAP_SYS_ADMIN: be root)";
	default:
		return "";
	}
}

/* Advice on failure to bind a vCPU; "" if there is none. */
static const char *bind_advice(int err)
{
	switch (err) {
	case ENXIO:
		return " (there is no such CPU, or it is offline)";
	case ENODEV:
		return " (no host driver: load mshv_vtl_emul or run inside OpenHCL)";
	case EMFILE:
	case ENFILE:
		return " (each vCPU takes a file: name fewer with --cpu, or raise ulimit -n)";
	case EINVAL:
	case ENOTTY:
	case EPROTO:
		return " (drcstat and the loaded module are incompatible versions)";
	default:
		return open_advice(err);
	}
}

static void __attribute__((noreturn)) die_of_bind(unsigned int cpu, int err)
{
	die(0, "CPU %u: %s%s", cpu, strerror(err), bind_advice(err));
}

static void get_info(struct tdx_drcache_info *info)
{
	int fd = open(TDX_DRCACHE_DEV, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(0, "%s: %s%s", TDX_DRCACHE_DEV, strerror(errno), open_advice(errno));
	info->size = sizeof(*info);
	if (ioctl(fd, TDX_DRCACHE_GET_INFO, info))
		die(0, "TDX_DRCACHE_GET_INFO: %s%s", strerror(errno), bind_advice(errno));
	close(fd);
}

/* Add a vCPU to the report. False if there is no such CPU. */
static bool add_vcpu(struct report *r, unsigned int cpu)
{
	struct vcpu *v;
	int err;

	for (unsigned int i = 0; i < r->nr_vcpus; i++)
		if (r->vcpus[i].cpu == cpu)
			return true;
	v = reallocarray(r->vcpus, r->nr_vcpus + 1, sizeof(*v));
	if (!v)
		die(ENOMEM, "CPU %u", cpu);
	r->vcpus = v;
	v += r->nr_vcpus;
	memset(v, 0, sizeof(*v));
	v->cpu = cpu;
	err = tdx_drcache_open(&v->reader, cpu, 0, NULL, TDX_DRCACHE_BIND_OBSERVE);
	if (err == -ENXIO)
		return false;
	if (err)
		die_of_bind(cpu, -err);
	r->nr_vcpus++;
	return true;
}

/* Parse a CPU number at *@p and move *@p past it. False if there is none. */
static bool next_cpu(const char **p, unsigned int *cpu)
{
	unsigned long n;
	char *end;

	if (**p < '0' || **p > '9')
		return false;
	errno = 0;
	n = strtoul(*p, &end, 10);
	if (errno || n > INT32_MAX)
		return false;
	*p = end;
	*cpu = n;
	return true;
}

/*
 * Parse a list such as 0-3,5, and add each CPU in it to @r unless that is NULL.
 * False if it is not a list.
 */
static bool for_list(const char *list, struct report *r)
{
	const char *p = list;
	unsigned int first, last;

	do {
		if (!next_cpu(&p, &first))
			return false;
		last = first;
		if (*p == '-' && (p++, !next_cpu(&p, &last) || last < first))
			return false;
		for (unsigned int cpu = first; r && cpu <= last; cpu++)
			if (!add_vcpu(r, cpu))
				die_of_bind(cpu, ENXIO);
	} while (*p++ == ',');
	return !p[-1];
}

static void add_vcpus(struct report *r)
{
	if (opt.cpus) {
		for_list(opt.cpus, r);
		return;
	}
	for (unsigned int cpu = 0; cpu < r->info.nr_cpu_ids; cpu++)
		add_vcpu(r, cpu);
	if (!r->nr_vcpus)
		die(0, "no CPU is online");
}

static int64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

/* Sleep until the time @ns, or until a signal. */
static void sleep_until(int64_t ns)
{
	const struct timespec ts = { ns / NSEC, ns % NSEC };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* Time stamp counter ticks per nanosecond, measured since the first call. */
static double ticks_per_ns(void)
{
	static uint64_t tsc;
	static int64_t start;
	int64_t ns;

	if (!start) {
		start = clock_ns();
		tsc = tdx_drcache_tsc();
	}
	for (ns = clock_ns(); ns < start + CALIBRATION; ns = clock_ns())
		sleep_until(start + CALIBRATION);
	return (double)(tdx_drcache_tsc() - tsc) / (ns - start);
}

static void take_sample(struct vcpu *v)
{
	struct tdx_drcache_stats s = { .size = sizeof(s) };
	uint64_t tsc, ticks;

	v->before = v->now;
	v->now.res = tdx_drcache_observe(&v->reader, 0, &v->now.slot);
	tsc = tdx_drcache_tsc();
	/* Another CPU's counter may be ahead of ours. */
	ticks = tsc > v->now.slot.tsc ? tsc - v->now.slot.tsc : 0;
	v->now.age_ns = ticks / ticks_per_ns();
	if (ioctl(v->reader.fd, TDX_DRCACHE_GET_STATS, &s))
		die(errno, "TDX_DRCACHE_GET_STATS of CPU %u", v->cpu);
	v->now.stats[0] = s.published;
	v->now.stats[1] = s.filtered;
	v->now.stats[2] = s.refused;
	v->now.stats[3] = s.late;
	v->now.stats[4] = s.l1_hwbp;
	v->now.stats[5] = s.lost;
	v->now.exclusive = s.flags & TDX_DRCACHE_STATS_EXCLUSIVE;
	v->samples++;
	v->none += v->now.res == TDX_DRCACHE_MISS_INVALID;
	v->busy += v->now.res == TDX_DRCACHE_MISS_BUSY;
}

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

static void catch_signals(void)
{
	/* The signal restarts a write, but ends the sleep. */
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static void print(const struct report *r)
{
	(opt.json ? opt.command->json : opt.command->table)(r);
	if (fflush(stdout) || ferror(stdout))
		die(errno, "standard output");
}

/* Sample and print as often as asked. True if there was a snapshot. */
static bool look(struct report *r)
{
	int64_t next = clock_ns();
	bool found = false;

	for (uint64_t n = 1; !stopped; n++) {
		for (unsigned int i = 0; i < r->nr_vcpus; i++) {
			struct vcpu *v = &r->vcpus[i];

			take_sample(v);
			found |= opt.command->counts ? v->now.stats[0] > 0 :
				 v->now.res != TDX_DRCACHE_MISS_INVALID;
		}
		print(r);
		if (!opt.command->repeats || n == opt.count)
			break;
		next += r->interval * NSEC;
		if (next < clock_ns())	/* the process was stopped: do not catch up */
			next = clock_ns();
		sleep_until(next);
	}
	return found;
}

static void say_nothing_published(const struct report *r)
{
	uint64_t published = 0;

	for (unsigned int i = 0; i < r->nr_vcpus; i++)
		published += r->vcpus[i].now.stats[0];
	fprintf(stderr, "drcstat: nothing is published: %s\n",
		r->info.host == TDX_DRCACHE_HOST_NONE ?
		"no host driver (load mshv_vtl_emul or run inside OpenHCL)" :
		published ? "the last exit was not one to capture, or the VMM has left" :
		"no VMM has bound, or its L2 had no exit to capture yet");
}

static const struct argp_option options[] = {
	{ "cpu", 'c', "LIST", 0, "show these CPUs, e.g. 0-3,5 (default: all online CPUs)", 0 },
	{ "json", 'j', NULL, 0, "print JSON", 0 },
	{ "interval", 'i', "SEC", 0, "watch: time between samples (default 1; 0.001 to 86400)", 0 },
	{ "count", 'n', "N", 0, "watch: stop after N samples", 0 },
	{ 0 },
};

static void parse_interval(const char *arg, struct argp_state *state)
{
	char *end;

	opt.interval = strtod(arg, &end);
	if (end == arg || *end || !(opt.interval >= 0.001 && opt.interval <= 86400))
		argp_error(state, "'%s' is not a number of seconds from 0.001 to 86400", arg);
}

static void parse_count(const char *arg, struct argp_state *state)
{
	char *end;

	errno = 0;
	opt.count = strtoull(arg, &end, 10);
	if (errno || *arg < '0' || *arg > '9' || *end || !opt.count)
		argp_error(state, "'%s' is not a number from 1", arg);
}

static void parse_command(const char *arg, struct argp_state *state)
{
	if (opt.command)
		argp_error(state, "more than one command");
	for (unsigned int i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(arg, commands[i].name))
			opt.command = &commands[i];
	if (!opt.command)
		argp_error(state, "no such command: %s", arg);
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'c':
		if (!for_list(arg, NULL))
			argp_error(state, "'%s' is not a list of CPUs", arg);
		opt.cpus = arg;
		break;
	case 'j':
		opt.json = true;
		break;
	case 'i':
		parse_interval(arg, state);
		break;
	case 'n':
		parse_count(arg, state);
		break;
	case ARGP_KEY_ARG:
		parse_command(arg, state);
		break;
	case ARGP_KEY_END:
		if (!opt.command)
			argp_error(state, "no command");
		if (opt.cpus && !opt.command->vcpus)
			argp_error(state, "%s takes no --cpu", opt.command->name);
		if ((opt.interval || opt.count) && !opt.command->repeats)
			argp_error(state, "%s takes no --interval and no --count",
				   opt.command->name);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_opt,
		.args_doc = "info|regs|stats|watch",
		.doc = "Monitor tdx_drcache: the debug registers of L2 VMs at their exits."
		       "\vinfo: the host, the hook and the limits; regs: the registers at the last "
		       "captured exit; stats: the counts since the VMM bound; watch: regs and "
		       "stats, repeatedly.\n\nExit status: 0 on success, 1 on an error, "
		       "2 for a wrong command line, 3 if nothing is published.",
	};
	struct report r = { 0 };
	bool found = true;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	r.interval = opt.interval ?: 1;

	get_info(&r.info);
	table_init();
	if (opt.command->repeats)
		catch_signals();
	if (opt.command->vcpus) {
		add_vcpus(&r);
		ticks_per_ns();
		found = look(&r);
	} else {
		print(&r);
	}
	if (!found)
		say_nothing_published(&r);
	for (unsigned int i = 0; i < r.nr_vcpus; i++)
		tdx_drcache_close(&r.vcpus[i].reader);
	free(r.vcpus);
	return found ? EXIT_SUCCESS : EXIT_NOTHING;
}
