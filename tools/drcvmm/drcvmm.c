// SPDX-License-Identifier: GPL-2.0
/*
 * drcvmm: a small VMM on mshv_vtl's ABI. Runs an L2 and reads its debug registers
 * at each HW_INTERRUPT exit, as OpenVMM does for its debugger.
 *
 * This file is the command line. run.c runs a vCPU, exits.c handles its exits, regs.c
 * reads the registers, expect.c compares them with what the guest wrote, and summary.c
 * prints the result.
 */
#include <argp.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "drcvmm.h"

const char *argp_program_version = "drcvmm " VERSION;

#define EXIT_USAGE	2

/*
 * OpenVMM writes this to the run page's enter_mode before each run: Fast, and IdleToVtl0
 * in the upper nibble (EnterModes::default() in openhcl/virt_mshv_vtl/src/lib.rs, openvmm
 * 6063652c; run_vp() in processor/mod.rs there, 9e564e91). On TDX the host driver takes
 * the lower nibble each time (OHCL-Linux-Kernel 00d95ddb).
 */
#define OPENVMM_ENTER_MODES	(MSHV_ENTER_FAST | MSHV_ENTER_IDLE_THREAD << 4)

const char *const method_names[] = { "mmap", "ioctl", "dr6", "mshv", "batch", "openvmm" };
const char *const guest_names[] = { "counter", "breakpoint", "exits", "hostile" };
const char *const result_names[] = {
	[TDX_DRCACHE_HIT] = "captured",
	[TDX_DRCACHE_MISS_INVALID] = "not captured",
	[TDX_DRCACHE_MISS_STALE] = "stale",
	[TDX_DRCACHE_MISS_OTHER_EXIT] = "of another exit",
	[TDX_DRCACHE_MISS_BUSY] = "being written",
};

struct options opt = {
	.nr_cpus = 1,
	.exits = 1000,
	.max_misses = UINT64_MAX,
	.enter = OPENVMM_ENTER_MODES,
	.bind_cpu = -1,
	.tick_us = 1000,
	.timeout_s = 120,
	.seed = 1,
};

int vtl_fd;
uint8_t *memory;
const struct guest_table *table;
bool use_drcache;
pthread_mutex_t print_lock = PTHREAD_MUTEX_INITIALIZER;

void die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("drcvmm: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

void fail(struct vcpu *v, const char *fmt, ...)
{
	va_list ap;

	/* Print the first few, and count all. */
	if (v->failures++ >= 10)
		return;
	pthread_mutex_lock(&print_lock);
	printf("vCPU %u: ", v->index);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	pthread_mutex_unlock(&print_lock);
}

void add_cost(struct cost *c, uint64_t ticks)
{
	if (!c->n++ || ticks < c->least)
		c->least = ticks;
	c->sum += ticks;
}

static void open_vtl(void)
{
	uint32_t cap = MSHV_CAP_DR6_SHARED;
	int fd = open("/dev/mshv", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("/dev/mshv: %s (load tdx_emul and mshv_vtl_emul, or run inside OpenHCL)",
		    strerror(errno));
	if (ioctl(fd, MSHV_CHECK_EXTENSION, &cap) != 1)
		die("/dev/mshv: DR6 is not shared between L1 and L2 here");
	vtl_fd = ioctl(fd, MSHV_CREATE_VTL, NULL);
	if (vtl_fd < 0)
		die("MSHV_CREATE_VTL: %s", strerror(errno));
	close(fd);
}

static uint64_t parse_number(const char *arg, uint64_t min, uint64_t max,
			     struct argp_state *state)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(arg, &end, 0);
	if (errno || end == arg || *end || *arg == '-' || n < min || n > max)
		argp_error(state, "'%s' is not a number from %" PRIu64 " to %" PRIu64,
			   arg, min, max);
	return n;
}

static unsigned int parse_name(const char *arg, const char *const *names, unsigned int n,
			       struct argp_state *state)
{
	for (unsigned int i = 0; i < n; i++)
		if (!strcmp(arg, names[i]))
			return i;
	argp_error(state, "there is no '%s'; see --help", arg);
	return 0;
}

static void parse_cpus(char *arg, struct argp_state *state)
{
	char *save, *tok;

	opt.nr_cpus = 0;
	for (tok = strtok_r(arg, ",", &save); tok; tok = strtok_r(NULL, ",", &save)) {
		if (opt.nr_cpus == GUEST_VCPUS_MAX)
			argp_error(state, "more than %d CPUs", GUEST_VCPUS_MAX);
		opt.cpus[opt.nr_cpus++] = parse_number(tok, 0, CPU_SETSIZE - 1, state);
	}
	if (!opt.nr_cpus)
		argp_error(state, "no CPU");
}

enum {
	KEY_GUEST = 0x100, KEY_SHOW, KEY_TICK, KEY_TIMEOUT, KEY_MIN_MISSES, KEY_MAX_MISSES,
	KEY_ENTER, KEY_BIND, KEY_SYSCALL, KEY_SEED, KEY_COST, KEY_REENTERED, KEY_ALLOW_MOVE,
	KEY_SIGNALS, KEY_HITS, KEY_EXCLUSIVE,
};

static const struct argp_option options[] = {
	{ "cpus", 'c', "LIST", 0, "run a vCPU on each of these CPUs, e.g. 0,1 (default 0)", 0 },
	{ "exits", 'n', "N", 0, "stop after N HW_INTERRUPT exits (default 1000)", 0 },
	{ "hits", KEY_HITS, "N", 0,
	  "stop after N snapshots instead of N exits, no matter how many reads miss", 0 },
	{ "guest", KEY_GUEST, "NAME", 0,
	  "the L2's program: counter (default) loads DR0-DR3 and DR6 in a loop; "
	  "breakpoint sets a hardware breakpoint on itself and hits it; "
	  "exits makes every kind of exit; hostile tries to do harm", 0 },
	{ "read", 'r', "METHOD", 0,
	  "how to read the registers: mmap (default), ioctl, dr6 (DR6 by mmap, and all "
	  "by mmap plus DR7 by TDCALL only if DR6 reports a breakpoint), mshv (the host "
	  "driver's five ioctls), openvmm (the same plus DR7 by TDCALL, and all again if DR6 "
	  "reports a breakpoint), or batch (a single ioctl of the stand-in)", 0 },
	{ "verify", 'v', "WHAT", OPTION_ARG_OPTIONAL,
	  "compare each snapshot with the five ioctls and with the guest's writes (all, "
	  "default), or only with the guest's writes (guest), for an L1 that writes the "
	  "registers", 0 },
	{ "reentered", KEY_REENTERED, NULL, 0,
	  "for a host driver that enters the L2 again before it returns: compare only "
	  "registers that were written too recently for another entry", 0 },
	{ "enter", KEY_ENTER, "MODE", 0,
	  "the run page's enter mode. On TDX only the lower nibble counts: 0 fast, "
	  "1 play idle, 2 idle thread. Default 0x20, as in OpenVMM", 0 },
	{ "bind", KEY_BIND, "CPU", 0,
	  "bind to this CPU instead of the vCPU's: every exit is a miss", 0 },
	{ "exclusive", KEY_EXCLUSIVE, "try", OPTION_ARG_OPTIONAL,
	  "reserve the breakpoint registers of each CPU, so that L1 can't use them, or "
	  "fail; with try, run without where that is not possible", 0 },
	{ "seed", KEY_SEED, "N", 0, "random seed of the hostile L2 (default 1)", 0 },
	{ "syscall", KEY_SYSCALL, NULL, 0,
	  "make another system call between an exit and the read", 0 },
	{ "min-misses", KEY_MIN_MISSES, "N", 0, "fail if there are fewer than N misses", 0 },
	{ "cost", KEY_COST, NULL, 0,
	  "print the time stamp counter ticks of a read, and of handling an exit", 0 },
	{ "show", KEY_SHOW, "N", 0,
	  "show the first N exits in the guest's loop, with each way to read them", 0 },
	{ "tick", KEY_TICK, "USEC", 0,
	  "interrupt the CPU every USEC microseconds (default 1000; 0: never)", 0 },
	{ "max-misses", KEY_MAX_MISSES, "N", 0, "fail if there are more than N misses", 0 },
	{ "signals", KEY_SIGNALS, "HZ", 0,
	  "send each vCPU's thread HZ signals per second, which it handles (default 0)", 0 },
	{ "allow-move", KEY_ALLOW_MOVE, NULL, 0,
	  "allow a move of the thread to another CPU, where no exit happens. Without "
	  "this, a move is a failure", 0 },
	{ "timeout", KEY_TIMEOUT, "SEC", 0, "give up after SEC seconds (default 120)", 0 },
	{ 0 },
};

/* Reject options that do not go together. */
static void check_options(struct argp_state *state)
{
	bool all = opt.verify && !opt.guest_only;

	if ((opt.reentered || opt.allow_move) &&
	    (opt.guest != GUEST_COUNTER || opt.method >= READ_MSHV))
		argp_error(state, "--reentered and --allow-move want --guest=counter and "
			   "--read=mmap, ioctl or dr6");
	if (opt.hits && opt.method >= READ_MSHV)
		argp_error(state, "--hits wants --read=mmap, ioctl or dr6");
	/* The ioctls read whichever CPU the thread is on. */
	if (opt.allow_move && (all || opt.show))
		argp_error(state, "--allow-move excludes --verify=all and --show");
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'c':
		parse_cpus(arg, state);
		break;
	case 'n':
		opt.exits = parse_number(arg, 1, UINT32_MAX, state);
		break;
	case KEY_HITS:
		opt.hits = parse_number(arg, 1, UINT32_MAX, state);
		break;
	case 'r':
		opt.method = parse_name(arg, method_names, ARRAY_SIZE(method_names), state);
		break;
	case 'v':
		opt.verify = true;
		if (arg && strcmp(arg, "all") && strcmp(arg, "guest"))
			argp_error(state, "'%s' is neither all nor guest", arg);
		opt.guest_only = arg && !strcmp(arg, "guest");
		break;
	case KEY_ENTER:
		opt.enter = parse_number(arg, 0, 0xff, state);
		break;
	case KEY_BIND:
		opt.bind_cpu = parse_number(arg, 0, CPU_SETSIZE - 1, state);
		break;
	case KEY_EXCLUSIVE:
		if (arg && strcmp(arg, "try"))
			argp_error(state, "'%s' is not try", arg);
		opt.exclusive = arg ? TDX_DRCACHE_OPEN_TRY_EXCLUSIVE : TDX_DRCACHE_BIND_EXCLUSIVE;
		break;
	case KEY_SEED:
		opt.seed = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_COST:
		opt.cost = true;
		break;
	case KEY_SYSCALL:
		opt.syscall = true;
		break;
	case KEY_MIN_MISSES:
		opt.min_misses = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_GUEST:
		opt.guest = parse_name(arg, guest_names, ARRAY_SIZE(guest_names), state);
		break;
	case KEY_SHOW:
		opt.show = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_TICK:
		opt.tick_us = parse_number(arg, 0, 999999, state);
		break;
	case KEY_MAX_MISSES:
		opt.max_misses = parse_number(arg, 0, UINT32_MAX, state);
		break;
	case KEY_REENTERED:
		opt.reentered = true;
		break;
	case KEY_ALLOW_MOVE:
		opt.allow_move = true;
		break;
	case KEY_SIGNALS:
		opt.signal_hz = parse_number(arg, 0, 1000000, state);
		break;
	case ARGP_KEY_END:
		check_options(state);
		break;
	case KEY_TIMEOUT:
		opt.timeout_s = parse_number(arg, 1, 86400, state);
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
		.doc = "Run an L2 VM on mshv_vtl's ABI and read its debug registers at its "
		       "HW_INTERRUPT exits.\vExit status: 0 on success, 1 on a failure, "
		       "2 for a wrong command line.",
	};
	struct vcpu *vcpus;
	uint64_t failures = 0;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	use_drcache = opt.method < READ_MSHV || opt.exclusive ||
		      ((opt.show || opt.verify) && !access(TDX_DRCACHE_DEV, F_OK));

	open_vtl();
	setup_memory();
	if (opt.allow_move)
		map_run_pages();
	vcpus = calloc(opt.nr_cpus, sizeof(*vcpus));
	if (!vcpus)
		die("out of memory");
	for (unsigned int i = 0; i < opt.nr_cpus; i++) {
		vcpus[i].index = i;
		vcpus[i].cpu = opt.cpus[i];
		vcpus[i].reader.fd = -1;
		if (pthread_create(&vcpus[i].thread, NULL, vcpu_main, &vcpus[i]))
			die("cannot create a thread");
	}
	for (unsigned int i = 0; i < opt.nr_cpus; i++)
		pthread_join(vcpus[i].thread, NULL);
	release_run_pages();
	for (unsigned int i = 0; i < opt.nr_cpus; i++) {
		failures += summarize(&vcpus[i]);
		if (use_drcache)
			tdx_drcache_close(&vcpus[i].reader);
	}
	free(vcpus);
	if (failures)
		printf("drcvmm: %" PRIu64 " failures\n", failures);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
