// SPDX-License-Identifier: GPL-2.0
/*
 * bench native: measure a read by the reader and an empty ioctl on this machine, in
 * nanoseconds: median, least and most of RUNS runs. Needs no device: the slot is a
 * page of its own, and the ioctl fails.
 *
 * bench bound N: bind to CPUs 0 to N - 1, and measure binding, an exit on CPU 0, and
 * its reads, in ticks. drcache_mock_host.ko makes the exits.
 *
 * bench loaded: bind to CPU 0, and measure there the exits of drcache_mock_host.ko, reads
 * and ioctls, in ticks: median, least and most of RUNS runs; then the ticks of a microsecond.
 *
 * bench files N: bind and map N files, one owner per CPU and observers otherwise, and
 * measure that in ticks and in memory.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <tdx_drcache_read.h>

#define RUNS		31
#define READS		1000000
#define BATCHES		10
#define BATCH		100
#define PARAMETERS	"/sys/module/drcache_mock_host/parameters/"
#define EXIT_COST	PARAMETERS "exit_cost"
#define NATIVE_COST	PARAMETERS "native_cost"
/* RAX of drcache_mock_host.ko's last exits. */
#define EXIT_RAX	0x110000000001

static struct tdx_drcache_reader *readers;
static int ioctl_fd;
static uint64_t rax;

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static void by_mmap(void)
{
	struct tdx_drcache_slot s;

	if (tdx_drcache_read(readers, 1, rax, &s) != TDX_DRCACHE_HIT)
		die("read");
	__asm__ volatile("" : : "m" (s));
}

static void by_get_regs(void)
{
	struct tdx_drcache_regs r = { .size = sizeof(r), .min_tsc = 1 };

	if (ioctl(readers->fd, TDX_DRCACHE_GET_REGS, &r) || r.exit_rax != rax)
		die("GET_REGS");
}

static void by_nothing(void)
{
	ioctl(ioctl_fd, TDX_DRCACHE_GET_REGS, NULL);
}

static void by_dr6(void)
{
	uint64_t dr6;

	if (tdx_drcache_read_dr6(readers, 1, rax, &dr6) != TDX_DRCACHE_HIT)
		die("read of DR6");
	__asm__ volatile("" : : "r" (dr6));
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void nanoseconds(const char *what, void (*fn)(void))
{
	double runs[RUNS], start;

	for (int i = 0; i < RUNS; i++) {
		start = now();
		for (int j = 0; j < READS; j++)
			fn();
		runs[i] = (now() - start) / READS;
	}
	qsort(runs, RUNS, sizeof(*runs), compare);
	printf("%s, median\t%.2f\n%s, least\t%.2f\n%s, most\t%.2f\n", what, runs[RUNS / 2],
	       what, runs[0], what, runs[RUNS - 1]);
}

static int native(void)
{
	static struct tdx_drcache_slot slot = {
		.seq = 2, .flags = TDX_DRCACHE_VALID, .exit_rax = EXIT_RAX, .tsc = 1,
	};
	static struct tdx_drcache_reader reader = { .slot = &slot };

	readers = &reader;
	rax = EXIT_RAX;
	ioctl_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (ioctl_fd < 0)
		die("/dev/null");
	nanoseconds("read by mmap", by_mmap);
	nanoseconds("ioctl that does nothing", by_nothing);
	return EXIT_SUCCESS;
}

/* Measure one of BATCH calls, in the quickest of BATCHES batches. */
static void ticks(const char *what, void (*fn)(void))
{
	uint64_t start, t, least = UINT64_MAX;

	for (int i = 0; i < BATCHES; i++) {
		start = tdx_drcache_tsc();
		for (int j = 0; j < BATCH; j++)
			fn();
		t = tdx_drcache_tsc() - start;
		least = t < least ? t : least;
	}
	printf("%s\t%.2f\n", what, (double)least / BATCH);
}

/* Print the median, least and most ticks of a call, of RUNS runs of BATCH calls. */
static void spread(const char *what, void (*fn)(void))
{
	double runs[RUNS];
	uint64_t start;

	for (int i = -1; i < RUNS; i++) {
		start = tdx_drcache_tsc();
		for (int j = 0; j < BATCH; j++)
			fn();
		/* The first one fills the caches. */
		if (i >= 0)
			runs[i] = (double)(tdx_drcache_tsc() - start) / BATCH;
	}
	qsort(runs, RUNS, sizeof(*runs), compare);
	printf("%s\t%.2f\t%.2f\t%.2f\n", what, runs[RUNS / 2], runs[0], runs[RUNS - 1]);
}

/* Bind and map one file. Returns the ticks it takes. */
static uint64_t bind_one(unsigned int i, uint32_t cpu, uint32_t flags)
{
	uint64_t start = tdx_drcache_tsc();
	int err = tdx_drcache_open(&readers[i], cpu, 0, NULL, flags);

	if (err) {
		errno = -err;
		die("bind");
	}
	return tdx_drcache_tsc() - start;
}

static void pin_to_cpu_0(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("CPU 0");
}

/* Make exits by reading a parameter of drcache_mock_host.ko, and print its report. */
static void exits(const char *parameter)
{
	char report[4096];
	ssize_t len;
	int fd;

	fd = open(parameter, O_RDONLY | O_CLOEXEC);
	len = read(fd, report, sizeof(report));
	if (len < 0)
		die(parameter);
	close(fd);
	printf("%.*s", (int)len, report);
	rax = EXIT_RAX;
}

static int loaded(void)
{
	double start;
	uint64_t t;

	pin_to_cpu_0();
	bind_one(0, 0, 0);
	exits(NATIVE_COST);
	spread("a read by mmap", by_mmap);
	spread("a read of DR6 alone", by_dr6);
	spread("a read by GET_REGS", by_get_regs);
	ioctl_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (ioctl_fd < 0)
		die("/dev/null");
	spread("an ioctl that does nothing", by_nothing);
	start = now();
	t = tdx_drcache_tsc();
	while (now() - start < 1e8)
		;
	printf("ticks of a microsecond\t%.2f\n",
	       (tdx_drcache_tsc() - t) * 1e3 / (now() - start));
	return EXIT_SUCCESS;
}

static int bound(unsigned int n)
{
	uint64_t last = 0;

	pin_to_cpu_0();
	for (unsigned int i = 0; i < n; i++)
		last = bind_one(i, i, 0);
	exits(EXIT_COST);
	ticks("read by mmap", by_mmap);
	ticks("GET_REGS", by_get_regs);
	printf("open, bind and map, the last\t%llu\n", (unsigned long long)last);
	return EXIT_SUCCESS;
}

/* Free memory from /proc/meminfo, in KiB. */
static long mem_free(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128];
	long kib = -1;

	while (f && kib < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemFree: %ld", &kib) != 1)
			kib = -1;
	if (kib < 0)
		die("/proc/meminfo");
	fclose(f);
	return kib;
}

static int files(unsigned int n)
{
	const unsigned int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const struct rlimit limit = { n + 64, n + 64 };
	double *t = calloc(n, sizeof(*t));
	double first = 0, last = 0;
	long before;

	if (!t || setrlimit(RLIMIT_NOFILE, &limit))
		die("files");
	before = mem_free();
	for (unsigned int i = 0; i < n; i++) {
		t[i] = bind_one(i, i % cpus, i < cpus ? 0 : TDX_DRCACHE_BIND_OBSERVE);
		first = i == cpus ? t[i] : first;
		last = t[i];
	}
	printf("bytes of memory a file\t%ld\n", (before - mem_free()) * 1024 / (long)n);
	qsort(t + cpus, n - cpus, sizeof(*t), compare);
	printf("open, bind and map, the first observer\t%.0f\n"
	       "open, bind and map, median\t%.0f\nopen, bind and map, the last\t%.0f\n",
	       first, t[cpus + (n - cpus) / 2], last);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	unsigned int n = argc == 3 ? atoi(argv[2]) : 0;
	bool is_loaded = argc == 2 && !strcmp(argv[1], "loaded");

	if (argc == 2 && !strcmp(argv[1], "native"))
		return native();

	if (n < 1 && !is_loaded) {
		fprintf(stderr, "usage: bench native | loaded | bound N | files N\n");
		return 2;
	}
	readers = calloc(n ?: 1, sizeof(*readers));
	if (!readers)
		die("readers");
	if (is_loaded)
		return loaded();
	if (!strcmp(argv[1], "bound"))
		return bound(n);
	return files(n);
}
