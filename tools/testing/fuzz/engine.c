// SPDX-License-Identifier: GPL-2.0
/*
 * A process of the fuzzer: run programs with two threads, check what they leave behind,
 * and keep those that reach new code.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/futex.h>
#include <linux/kcov.h>
#include <tdx_drcache_read.h>

#include "fuzz.h"

#define KCOV_WORDS	(64u << 10)

static int kcov_fd = -1;
static uint64_t *kcov;
static struct span other_span;

static void run_call(struct call *c)
{
	long ret;

	/* The kernel warns about some faults in fork(). */
	start_faults(c->op->run != op_fork ? c->fail : 0);
	span = (struct span) { .from = tdx_drcache_tsc() };
	ret = c->op->run(c->a);
	if (!span.to)
		span.to = tdx_drcache_tsc();
	stop_faults();
	c->ret = ret;
	if (ret == SKIPPED)
		return;
	shared->counts[c->op - ops][ret >= 0 ? 0 : -ret]++;
	shared->ops[me]++;
}

/* The other thread, and the call that it runs next. */
static struct call *_Atomic other_call;
static _Atomic uint32_t other_state;
enum { IDLE, ASKED, READY, GO };

static void futex_wait(_Atomic uint32_t *word, uint32_t val)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *other_thread(void *unused)
{
	(void)unused;
	make_arena();
	for (;;) {
		while (other_state == IDLE)
			futex_wait(&other_state, IDLE);
		/* Spin, so that both threads make their calls at the same time. */
		other_state = READY;
		while (other_state != GO)
			__builtin_ia32_pause();
		run_call(other_call);
		other_span = span;
		other_state = IDLE;
		futex_wake(&other_state);
	}
	return NULL;
}

static void run_program(struct program *p)
{
	for (unsigned int i = 0; i < p->n; i++) {
		struct call *c = &p->c[i];
		bool race = c->race && c->op->races && i + 1 < p->n;

		running = i;
		if (race) {
			other_call = c;
			racing = true;
			other_state = ASKED;
			futex_wake(&other_state);
			while (other_state != READY)
				sched_yield();
			c = &p->c[++i];
			running = i;
			other_state = GO;
		}
		run_call(c);
		if (race) {
			while (other_state != IDLE)
				futex_wait(&other_state, GO);
			racing = false;
			shared->races[me]++;
			shared->overlaps[me] += span.from < other_span.to &&
						other_span.from < span.to;
		}
	}
	/* Check the mappings again after their files are closed. */
	for (unsigned int i = 0; i < FILES; i++)
		close_file(&files[i]);
	for (unsigned int i = 0; i < BREAKPOINTS; i++)
		close_breakpoint(&breakpoints[i]);
	for (unsigned int i = 0; i < MAPS; i++) {
		if (!maps[i].p)
			continue;
		if (maps[i].kind == DRCACHE)
			check_map(&maps[i]);
		clear_map(&maps[i]);
	}
	forget_descs();
	restore_knobs();
}

/* Record a PC. True if it is new to this process. */
static bool new_pc(uint64_t pc)
{
	static uint64_t seen[PCS];
	unsigned int i = pc * 0x9e3779b97f4a7c15 >> 49, j;

	for (j = i; seen[j]; j = (j + 1) % PCS)
		if (seen[j] == pc)
			return false;
	seen[j] = pc;
	for (j = i;; j = (j + 1) % PCS) {
		uint64_t old = 0;

		if (atomic_compare_exchange_strong(&shared->pcs[j], &old, pc) || old == pc)
			return true;
	}
}

static void start_kcov(void)
{
	kcov_fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	if (kcov_fd < 0 || ioctl(kcov_fd, KCOV_INIT_TRACE, KCOV_WORDS))
		return;
	kcov = mmap(NULL, KCOV_WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, kcov_fd, 0);
	if (kcov == MAP_FAILED || ioctl(kcov_fd, KCOV_ENABLE, KCOV_TRACE_PC))
		die("kcov");
}

/* True if the last program reached new code. */
static bool new_coverage(void)
{
	uint64_t n = __atomic_load_n(&kcov[0], __ATOMIC_RELAXED);
	bool new = false;

	for (uint64_t i = 0; i < n; i++)
		new |= new_pc(kcov[i + 1]);
	__atomic_store_n(&kcov[0], 0, __ATOMIC_RELAXED);
	return new;
}

static void pin(pthread_t thread, unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % machine.online_cpus, &set);
	pthread_setaffinity_np(thread, sizeof(set), &set);
}

static void setup_process(void)
{
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(pthread_self(), me);
	rng = opt.seed * 1000003 + me;
	fill_arena();
	make_objects();
	if (machine.has_faults)
		open_faults();
	if (pthread_create(&thread, NULL, other_thread, NULL))
		die("thread");
	pin(thread, me + 1);
	if (!opt.no_kcov)
		start_kcov();
}

unsigned long long sum(const atomic_ullong *counts)
{
	unsigned long long n = 0;

	for (unsigned int i = 0; i < opt.procs; i++)
		n += counts[i];
	return n;
}

/* Overlaps depend on timing: run on until there are enough, but not forever. */
static bool had_enough(void)
{
	unsigned long long share = opt.ops / opt.procs;

	return shared->ops[me] >= share &&
	       (sum(shared->overlaps) >= opt.min_overlaps || shared->ops[me] >= 50 * share);
}

#define CORPUS	512

_Noreturn void run_process(void)
{
	static struct program corpus[CORPUS];
	struct program *p = &shared->now[me];
	unsigned int kept = 0;

	setup_process();
	while (!shared->stop && !had_enough()) {
		if (kept && !one_in(3)) {
			*p = corpus[random64() % kept];
			mutate(p);
		} else {
			new_program(p);
		}
		run_program(p);
		shared->programs[me]++;
		if (!kcov || !new_coverage())
			continue;
		if (kept < CORPUS)
			corpus[kept++] = *p;
		else
			corpus[random64() % CORPUS] = *p;
		shared->kept[me]++;
	}
	exit(EXIT_SUCCESS);
}
