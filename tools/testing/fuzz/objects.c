// SPDX-License-Identifier: GPL-2.0
/*
 * The files, mappings, breakpoints and memory of a process.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define REGION_FIRST	4ul
#define DESCS		64

struct file files[FILES];
struct map maps[MAPS];
struct breakpoint breakpoints[BREAKPOINTS];
uint8_t *fake_run, *l2_memory;
int mem_fd = -1;
__thread struct arena *arena;

static struct desc descs[DESCS];
static unsigned int nr_descs;
static __thread sigjmp_buf *on_signal;

struct desc *new_desc(bool foreign, int flags)
{
	struct desc *d = &descs[nr_descs++ % DESCS];

	d->binds = 0;
	d->foreign = foreign;
	d->exclusive = false;
	d->flags = flags;
	return d;
}

void forget_descs(void)
{
	nr_descs = 0;
}

void close_file(struct file *f)
{
	if (f->kind != NOTHING)
		close(f->fd);
	f->kind = NOTHING;
}

void put_file(uint64_t where, int fd, enum kind kind, struct desc *desc)
{
	struct file *f = &files[where % FILES];

	for (unsigned int i = 0; i < FILES && f->kind != NOTHING; i++)
		f = &files[(where + i) % FILES];
	close_file(f);
	*f = (struct file) { .fd = fd, .kind = kind, .desc = desc };
}

/* A file, mostly of kind @kind, or NULL. */
struct file *pick_file(uint64_t a, enum kind kind)
{
	bool any = (a >> 8) % 32 == 0;

	for (unsigned int i = 0; i < FILES; i++) {
		struct file *f = &files[(a + i) % FILES];

		if (f->kind == kind || (any && f->kind != NOTHING))
			return f;
	}
	return NULL;
}

void clear_map(struct map *m)
{
	/* Faults are for the operation under test. */
	pause_faults();
	if (mmap(m->region, REGION_PAGES * PAGE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		die("region");
	resume_faults();
	m->p = NULL;
	m->fragile = false;
	m->inherited = false;
}

/* Map @f in place of @m. */
long put_map(struct map *m, const struct file *f, uint64_t length, int prot, int flags,
	     uint64_t offset)
{
	uint8_t *p;

	clear_map(m);
	p = mmap(m->region + REGION_FIRST * PAGE, length, prot, flags | MAP_FIXED, f->fd, offset);
	if (p == MAP_FAILED)
		return -errno;
	m->p = p;
	m->kind = f->kind;
	m->desc = f->desc;
	return 0;
}

struct map *pick_map(uint64_t a, enum kind kind)
{
	for (unsigned int i = 0; i < MAPS; i++) {
		struct map *m = &maps[(a + i) % MAPS];

		if (m->p && (m->kind == kind || kind == NOTHING))
			return m;
	}
	return NULL;
}

/* Let @fn access a mapping that may be gone. False if it is. */
bool __attribute__((noinline)) guarded(void (*fn)(void *), void *data)
{
	sigjmp_buf env;

	/* A fault while the kernel writes the signal frame would be fatal. */
	pause_faults();
	on_signal = &env;
	if (sigsetjmp(env, 1)) {
		on_signal = NULL;
		return false;
	}
	fn(data);
	on_signal = NULL;
	return true;
}

static void signalled(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	if (on_signal)
		siglongjmp(*on_signal, 1);
	/* L1 can't prevent hits of a breakpoint that the L2 left in the registers. */
	if (sig == SIGTRAP)
		return;
	bad("signal %d at %p", sig, info->si_addr);
	_exit(EXIT_FAILURE);
}

/* True if this process has a breakpoint that may run on a CPU. */
bool has_breakpoint(unsigned int cpu)
{
	for (unsigned int i = 0; i < BREAKPOINTS; i++)
		if (breakpoints[i].open &&
		    (breakpoints[i].cpu < 0 || breakpoints[i].cpu == (int)cpu))
			return true;
	return false;
}

void close_breakpoint(struct breakpoint *b)
{
	if (b->open)
		close(b->fd);
	b->open = false;
}

void make_arena(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	arena = calloc(1, sizeof(*arena));
	if (!arena || fd < 0 || ftruncate(fd, ARENA))
		die("arena");
	/* Below 4 GiB, for the 32-bit entry; the last page stays unmapped. */
	arena->rw = mmap(NULL, ARENA + PAGE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	arena->ro = mmap(NULL, ARENA + PAGE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (arena->rw == MAP_FAILED || arena->ro == MAP_FAILED ||
	    mmap(arena->rw, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED ||
	    mmap(arena->ro, ARENA, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		die("arena");
	memset(arena->rw, 0, ARENA);
	close(fd);
}

void make_objects(void)
{
	struct sigaction sa = { .sa_sigaction = signalled, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	make_arena();
	for (unsigned int i = 0; i < MAPS; i++) {
		maps[i].region = mmap(NULL, REGION_PAGES * PAGE, PROT_NONE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (maps[i].region == MAP_FAILED)
			die("regions");
	}
	fake_run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	l2_memory = mmap(NULL, L2_PAGES * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fake_run == MAP_FAILED || l2_memory == MAP_FAILED)
		die("memory");
	mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}
