// SPDX-License-Identifier: GPL-2.0
/*
 * Random numbers, messages and injected faults.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

struct shared *shared;
struct options opt = {
	.seed = 1, .ops = 10000, .procs = 2, .drcache = true, .emul = true, .keep = -1,
};

struct machine machine;
unsigned int me, running;
atomic_bool racing;
uint64_t rng;
__thread bool failing;

static __thread int fail_fd = -1;
static __thread unsigned int fail_nth;

uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t random64(void)
{
	return next_random(&rng);
}

bool one_in(unsigned int n)
{
	return random64() % n == 0;
}

/* A value that is wrong in most places, or any number. */
uint64_t edge(uint64_t v)
{
	static const uint64_t edges[] = {
		0, 1, 2, 3, 7, 8, 0x7f, 0xff, 0xfff, 0x1000, 0x1001, 0x7fff, 0xffff,
		INT32_MAX, 1ull << 31, UINT32_MAX, 1ull << 32, 1ull << 47,
		0x7ffffffff000, 0x800000000000, INT64_MAX, 1ull << 63,
		0xffff800000000000, 0xfffffffffffff000, UINT64_MAX,
	};

	if (v & 1)
		return edges[(v >> 8) % ARRAY_SIZE(edges)];
	return v & 2 ? v >> 8 : 1ull << ((v >> 8) & 63);
}

/* A CPU: mostly the one where this process started. */
unsigned int some_cpu(uint64_t v)
{
	return v % 4 ? me % machine.online_cpus : (v >> 2) % machine.online_cpus;
}

void print_program(const struct program *p)
{
	for (unsigned int i = 0; i < p->n; i++) {
		printf("  %u: %s%s", i, p->c[i].op->name, p->c[i].race ? " |" : "");
		if (p->c[i].fail)
			printf(" fail-nth %u", p->c[i].fail);
		for (unsigned int j = 0; j < ARRAY_SIZE(p->c[i].a); j++)
			printf(" %" PRIx64, p->c[i].a[j]);
		if (i < running)
			printf(" = %ld", p->c[i].ret);
		putchar('\n');
	}
}

void die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fputs("fuzz: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(err));
	if (shared)
		shared->stop = true;
	exit(EXIT_FAILURE);
}

/* Report a failure and stop. Only the first one counts: others may follow from it. */
void bad(const char *fmt, ...)
{
	va_list ap;

	if (shared->failures++)
		return;
	shared->stop = true;
	flockfile(stdout);
	printf("process %u, program %llu, call %u: ", me,
	       (unsigned long long)shared->programs[me], running);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	print_program(&shared->now[me]);
	fflush(stdout);
	funlockfile(stdout);
}

static void set_fail_nth(unsigned int n)
{
	char text[16];
	int length = sprintf(text, "%u", n);

	/* The fault may hit this write. */
	while (pwrite(fail_fd, text, length, 0) != length)
		;
}

void open_faults(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", getpid());
	fail_fd = open(path, O_RDWR | O_CLOEXEC);
}

/* Inject the @nth fault of this thread's next operation; 0: none. */
void start_faults(unsigned int nth)
{
	failing = nth && fail_fd >= 0;
	fail_nth = nth;
	resume_faults();
}

void pause_faults(void)
{
	if (failing)
		set_fail_nth(0);
}

void resume_faults(void)
{
	if (failing)
		set_fail_nth(fail_nth);
}

void stop_faults(void)
{
	pause_faults();
	failing = false;
}
