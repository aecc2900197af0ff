// SPDX-License-Identifier: GPL-2.0
/*
 * failnth MINIMUM OPERATION [MODULE [LAST]]: run OPERATION with its first fault injected,
 * then with its second, and so on until it finishes without one; or only with the LAST
 * ones. Each time it must succeed, or fail with ENOMEM or EFAULT, and leave nothing
 * behind, since the next attempt starts over. Needs a kernel with fault injection, and
 * the failslab and fail_page_alloc settings of vm/jobs/faults.
 *
 * Exits with 1 on any other errno, if fewer than MINIMUM faults were injected, or if none
 * of them reached the caller.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <mshv/mshv_vtl.h>
#include <tdx_drcache_read.h>

#define PAGE	4096

/* State of an operation, set by each attempt's setup(). */
static int fd = -1;
static void *run_page, *mapping;
static const char *module;

static void setup_nothing(void)
{
}

static void setup_open(void)
{
	fd = open(TDX_DRCACHE_DEV, O_RDONLY);
	if (fd < 0) {
		perror(TDX_DRCACHE_DEV);
		exit(EXIT_FAILURE);
	}
}

static int bind_cpu0(uint32_t flags)
{
	struct tdx_drcache_bind bind = { .size = sizeof(bind), .flags = flags };

	if (!(flags & TDX_DRCACHE_BIND_OBSERVE))
		bind.run_page = (uintptr_t)run_page;
	return ioctl(fd, TDX_DRCACHE_BIND, &bind);
}

static void setup_bound(void)
{
	setup_open();
	if (bind_cpu0(0)) {
		perror("BIND");
		exit(EXIT_FAILURE);
	}
}

static int do_open(void)
{
	fd = open(TDX_DRCACHE_DEV, O_RDONLY);
	return fd < 0 ? -1 : 0;
}

static int do_info(void)
{
	struct tdx_drcache_info info = { .size = sizeof(info) };

	return ioctl(fd, TDX_DRCACHE_GET_INFO, &info);
}

static int do_bind(void)
{
	return bind_cpu0(0);
}

static int do_exclusive(void)
{
	return bind_cpu0(TDX_DRCACHE_BIND_EXCLUSIVE);
}

static int do_observe(void)
{
	return bind_cpu0(TDX_DRCACHE_BIND_OBSERVE);
}

static int do_mmap(void)
{
	mapping = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	return mapping == MAP_FAILED ? -1 : 0;
}

static int do_regs(void)
{
	struct tdx_drcache_regs regs = { .size = sizeof(regs) };

	/* Without an exit there is no snapshot, so ENODATA is success. */
	return ioctl(fd, TDX_DRCACHE_GET_REGS, &regs) && errno != ENODATA ? -1 : 0;
}

/* For use beside a VMM that runs an L2 on CPU 0. */
static void setup_observing(void)
{
	setup_open();
	if (bind_cpu0(TDX_DRCACHE_BIND_OBSERVE)) {
		perror("BIND");
		exit(EXIT_FAILURE);
	}
}

static int do_snapshot(void)
{
	struct tdx_drcache_regs regs = { .size = sizeof(regs) };

	return ioctl(fd, TDX_DRCACHE_GET_REGS, &regs);
}

static int do_stats(void)
{
	struct tdx_drcache_stats stats = { .size = sizeof(stats) };

	return ioctl(fd, TDX_DRCACHE_GET_STATS, &stats);
}

static int module_fd;

static void setup_load(void)
{
	module_fd = open(module, O_RDONLY | O_CLOEXEC);
	if (module_fd < 0) {
		perror(module);
		exit(EXIT_FAILURE);
	}
}

static int do_load(void)
{
	return syscall(SYS_finit_module, module_fd, "", 0);
}

static void undo_load(bool done)
{
	close(module_fd);
	if (done && syscall(SYS_delete_module, "tdx_drcache", O_NONBLOCK)) {
		perror("delete_module");
		exit(EXIT_FAILURE);
	}
}

static void undo_open(bool done)
{
	if (done && mapping)
		munmap(mapping, PAGE);
	mapping = NULL;
	if (fd >= 0)
		close(fd);
	fd = -1;
}

static const struct operation {
	const char *name;
	void (*setup)(void);
	int (*run)(void);
	void (*undo)(bool done);
} operations[] = {
	{ "open", setup_nothing, do_open, undo_open },
	{ "info", setup_open, do_info, undo_open },
	{ "bind", setup_open, do_bind, undo_open },
	{ "exclusive", setup_open, do_exclusive, undo_open },
	{ "observe", setup_open, do_observe, undo_open },
	{ "mmap", setup_bound, do_mmap, undo_open },
	{ "regs", setup_bound, do_regs, undo_open },
	{ "snapshot", setup_observing, do_snapshot, undo_open },
	{ "stats", setup_bound, do_stats, undo_open },
	{ "load", setup_load, do_load, undo_load },
};

/* /proc/thread-self/fail-nth */
static int nth_file;

/* Inject the @n-th fault of this thread. */
static void arm(int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", n);
	if (pwrite(nth_file, text, strlen(text), 0) < 0) {
		perror("fail-nth");
		exit(EXIT_FAILURE);
	}
}

/*
 * Stop injecting. Returns 0 if the fault was injected, or how many chances were left. The
 * fault may hit the calls here instead; one chance was left then.
 */
static int disarm(void)
{
	char text[16] = "1";
	int left;

	(void)!pread(nth_file, text, sizeof(text) - 1, 0);
	left = atoi(text);
	while (pwrite(nth_file, "0", 1, 0) < 0 && errno == EFAULT)
		;
	return left;
}

/* Run @op with the @n-th fault injected. */
static bool attempt(const struct operation *op, int n, int *failed, int *left)
{
	int ret, err;

	op->setup();
	arm(n);
	ret = op->run();
	err = errno;
	*left = disarm();
	if (ret && (*left || (err != ENOMEM && err != EFAULT))) {
		printf("%s: fault %d%s: %s\n", op->name, n, *left ? " was not injected" : "",
		       strerror(err));
		return false;
	}
	*failed += ret != 0;
	op->undo(!ret);
	return true;
}

#define MANY	1000000

int main(int argc, char **argv)
{
	const struct operation *op = operations, *end = op + sizeof(operations) / sizeof(*op);
	int n = 1, first, left, failed = 0, injected;

	while (argc >= 3 && op < end && strcmp(op->name, argv[2]))
		op++;
	if (argc < 3 || op == end || argc > 5 || (argc >= 4 && op->run != do_load) ||
	    (argc < 4 && op->run == do_load)) {
		fputs("usage: failnth MINIMUM OPERATION, which is open, info, bind, exclusive,\n"
		      "                       observe, mmap, regs, snapshot or stats\n"
		      "       failnth MINIMUM load MODULE [LAST]\n", stderr);
		return 2;
	}
	module = argv[3];
	nth_file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth_file < 0) {
		perror("failnth: this kernel has no fault injection");
		return EXIT_FAILURE;
	}
	run_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (run_page == MAP_FAILED)
		return EXIT_FAILURE;

	if (argc == 5) {
		/* Count the faults with one that is never reached. The second run has fewer. */
		if (!attempt(op, MANY, &failed, &left) || !attempt(op, MANY, &failed, &left))
			return EXIT_FAILURE;
		n = MANY - left - atoi(argv[4]);
		if (n < 1)
			n = 1;
	}
	first = n;
	do {
		if (!attempt(op, n++, &failed, &left))
			return EXIT_FAILURE;
	} while (!left);
	injected = n - 1 - first;
	printf("%s: %d faults injected (minimum %d), %d of them reached the caller\n",
	       op->name, injected, atoi(argv[1]), failed);
	return failed && injected >= atoi(argv[1]) ? EXIT_SUCCESS : EXIT_FAILURE;
}
