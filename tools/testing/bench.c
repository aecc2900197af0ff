// SPDX-License-Identifier: GPL-2.0
/*
 * bench: nanoseconds of a read by the reader, and of the cheapest ioctl, on the
 * machine that it runs on. Needs no device: the slot is a page of its own, and the
 * ioctl one that fails. One line each: median, least and most of RUNS runs.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <tdx_drcache_read.h>

#define RUNS	31
#define READS	100000

static struct tdx_drcache_reader reader;
static int null_fd;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void by_mmap(void)
{
	struct tdx_drcache_slot s;

	if (tdx_drcache_read(&reader, 1, 1, &s) != TDX_DRCACHE_HIT)
		exit(EXIT_FAILURE);
	__asm__ volatile("" : : "m" (s));
}

static void by_ioctl(void)
{
	ioctl(null_fd, TDX_DRCACHE_GET_REGS, NULL);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const char *what, void (*fn)(void))
{
	double runs[RUNS], start;
	int i, j;

	for (i = 0; i < RUNS; i++) {
		start = now();
		for (j = 0; j < READS; j++)
			fn();
		runs[i] = (now() - start) / READS;
	}
	qsort(runs, RUNS, sizeof(*runs), compare);
	printf("%s\t%.1f\t%.1f\t%.1f\n", what, runs[RUNS / 2], runs[0], runs[RUNS - 1]);
}

int main(void)
{
	static _Alignas(64) struct tdx_drcache_slot slot = {
		.seq = 2, .flags = TDX_DRCACHE_VALID, .exit_rax = 1, .tsc = 1,
	};

	reader.slot = &slot;
	null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null_fd < 0) {
		perror("/dev/null");
		return EXIT_FAILURE;
	}
	printf("what\tmedian\tleast\tmost\n");
	measure("a read by mmap", by_mmap);
	measure("an ioctl that does nothing", by_ioctl);
	return EXIT_SUCCESS;
}
