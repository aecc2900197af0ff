// SPDX-License-Identifier: GPL-2.0
/*
 * fuzz: random programs of system calls on /dev/tdx_drcache and on the stand-in
 * for the host driver, in several processes, each on a CPU of its own to begin
 * with. A program is a few calls that share files and mappings; what it leaves is
 * closed after it. Each argument of a call is a random number that the call makes
 * something mostly valid of, so that a change of one bit changes one thing.
 *
 * With KCOV, and modules that were built for it (KCOV_INSTRUMENT=y), programs that
 * reach new code are kept, and others are made of them. Without, all are new.
 * With fault injection (/proc/thread-self/fail-nth), some calls have their n-th
 * allocation or copy fail.
 *
 * Wrong, whatever the arguments:
 *
 *   - a result that the arguments cannot have, or an errno that the UAPI header
 *     does not list for the call
 *   - a byte changed that is not the call's to change
 *   - a file that is bound twice, or gives data without being bound
 *   - a vCPU that is exclusive, and a breakpoint that may run on its CPU
 *   - a mapped page that is not as the UAPI header says, a snapshot that no exit
 *     can have made, a seq that stays odd
 */
#include <argp.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <linux/futex.h>
#include <linux/hw_breakpoint.h>
#include <linux/kcov.h>
#include <linux/perf_event.h>
#include <mshv/mshv_vtl.h>
#include <tdx_drcache_read.h>

#define PAGE		4096ul
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define EXIT_USAGE	2

/* A set of errno values; 0 is success. */
typedef unsigned __int128 errset;
#define E(e)		((errset)1 << (e))
#define OK		E(0)
#define ERRNOS		128

/* A call: what, and random numbers to make its arguments of. */
struct call {
	uint8_t op;
	uint8_t fail;		/* the n-th chance to fail does; 0: none */
	bool race;		/* while the next one runs */
	uint64_t a[6];
	long ret;		/* for print_program() */
};

#define PROGRAM_MAX	24
struct program {
	unsigned int n;
	struct call c[PROGRAM_MAX];
};

enum kind { NOTHING, DRCACHE, MSHV, VTL };

/* The known state of an open file description. */
struct desc {
	atomic_int binds;
	atomic_bool foreign;	/* another process may have bound it */
	atomic_bool exclusive;
	unsigned int cpu;
	int flags;
};

struct file {
	int fd;
	enum kind kind;
	struct desc *desc;
};

/* A mapping, in a region of its own with nothing else in it. */
#define REGION_PAGES	16ul
#define REGION_FIRST	4ul
struct map {
	uint8_t *region;
	uint8_t *p;		/* NULL: none */
	enum kind kind;
	struct desc *desc;
	bool fragile;		/* may be gone, or not readable */
	bool inherited;		/* MADV_DOFORK was asked for */
};

/* A breakpoint of L1's, that is never enabled: it has a slot, and no register. */
struct breakpoint {
	bool open;
	int fd;
	int cpu;		/* -1: of this task */
};

#define BREAKPOINTS	3
#define FILES		8
#define MAPS		4
#define DESCS		64

/*
 * Memory for a call's struct: the same pages writable, with nothing behind, and
 * read-only, with nothing behind; and what was in them before the call.
 */
#define ARENA_PAGES	2ul
#define ARENA		(ARENA_PAGES * PAGE)
struct arena {
	uint8_t *rw;
	uint8_t *ro;
	uint8_t before[ARENA];
};

#define L2_PAGES	4ul
#define L2_START	0x1000

/* Shared by all processes. */
#define PROCS_MAX	8
#define OPS_MAX		48
#define PCS		(1u << 15)
struct shared {
	atomic_bool stop;
	atomic_uint failures;
	atomic_ullong programs[PROCS_MAX];
	atomic_ullong kept[PROCS_MAX];
	atomic_ullong ops[PROCS_MAX];
	atomic_ullong races[PROCS_MAX];
	atomic_ullong overlaps[PROCS_MAX];
	atomic_ullong counts[OPS_MAX][ERRNOS];
	_Atomic uint64_t pcs[PCS];
	struct program now[PROCS_MAX];
	uint8_t scribbled[PAGE];	/* a call's struct that others write to */
};

static struct {
	uint64_t seed, ops;
	unsigned int procs, time_limit;
	bool drcache, emul, complete, no_kcov, no_idle;
	int keep;
	unsigned int min_overlaps;
} opt = { .seed = 1, .ops = 10000, .procs = 2, .drcache = true, .emul = true, .keep = -1 };

static struct shared *shared;
/* Capabilities of this machine. */
static uint64_t features;
static struct breakpoint breakpoints[BREAKPOINTS];
static bool have_host, have_faults, have_compat, have_sockets, needs_run_page;
static uint32_t hook;
static unsigned int nr_cpus, online_cpus;
static int pass_sockets[2];

/* This process's. */
static unsigned int me;
static unsigned int running;	/* the call of its program */
static struct file files[FILES];
static struct map maps[MAPS];
static struct desc descs[DESCS];
static unsigned int nr_descs;
static uint8_t *fake_run, *l2_memory;
static int mem_fd = -1;
static uint64_t rng;
static int kcov_fd = -1;
static uint64_t *kcov;
static bool knobs_changed;
/* Another thread runs a call: what is known may be wrong at any time. */
static atomic_bool racing;

/* This thread's. */
static __thread struct arena *arena;
static __thread int fail_fd = -1;
static __thread bool failing;
static __thread unsigned int fail_nth;
static __thread sigjmp_buf *on_signal;

/* When a call was in the kernel: its last ioctl, or else all of it. */
struct span {
	uint64_t from, to;
};

static __thread struct span span;
static struct span other_span;

#define KCOV_WORDS	(64u << 10)

static uint64_t random64(void)
{
	uint64_t z = rng += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static bool one_in(unsigned int n)
{
	return random64() % n == 0;
}

static const char *op_name(unsigned int op);

static void print_program(const struct program *p)
{
	for (unsigned int i = 0; i < p->n; i++) {
		printf("  %u: %s%s", i, op_name(p->c[i].op), p->c[i].race ? " |" : "");
		if (p->c[i].fail)
			printf(" fail-nth %u", p->c[i].fail);
		for (unsigned int j = 0; j < ARRAY_SIZE(p->c[i].a); j++)
			printf(" %" PRIx64, p->c[i].a[j]);
		if (i < running)
			printf(" = %ld", p->c[i].ret);
		putchar('\n');
	}
}

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
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

/* Something is wrong. One is enough: what comes after may be of no interest. */
static void __attribute__((format(printf, 1, 2))) bad(const char *fmt, ...)
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

/* Of a value: what is wrong in most places, or any number. */
static uint64_t edge(uint64_t v)
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

/* A CPU: mostly the one where this process began. */
static unsigned int some_cpu(uint64_t v)
{
	return v % 4 ? me % online_cpus : (v >> 2) % online_cpus;
}

/*
 * Files and mappings
 */

static struct desc *new_desc(bool foreign, int flags)
{
	struct desc *d = &descs[nr_descs++ % DESCS];

	d->binds = 0;
	d->foreign = foreign;
	d->exclusive = false;
	d->flags = flags;
	return d;
}

static void close_file(struct file *f)
{
	if (f->kind != NOTHING)
		close(f->fd);
	f->kind = NOTHING;
}

static void put_file(uint64_t where, int fd, enum kind kind, struct desc *desc)
{
	struct file *f = &files[where % FILES];

	for (unsigned int i = 0; i < FILES && f->kind != NOTHING; i++)
		f = &files[(where + i) % FILES];
	close_file(f);
	*f = (struct file) { .fd = fd, .kind = kind, .desc = desc };
}

/* A file, mostly of the kind that is wanted; NULL if there is none. */
static struct file *pick_file(uint64_t a, enum kind kind)
{
	bool any = (a >> 8) % 32 == 0;

	for (unsigned int i = 0; i < FILES; i++) {
		struct file *f = &files[(a + i) % FILES];

		if (f->kind == kind || (any && f->kind != NOTHING))
			return f;
	}
	return NULL;
}

static void set_fail_nth(unsigned int n)
{
	char text[8];
	int length = sprintf(text, "%u", n);

	/* This may be what fails. */
	while (pwrite(fail_fd, text, length, 0) != length)
		;
}

static void clear_map(struct map *m)
{
	/* Not what is to fail. */
	if (failing)
		set_fail_nth(0);
	if (mmap(m->region, REGION_PAGES * PAGE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		die("region");
	if (failing)
		set_fail_nth(fail_nth);
	m->p = NULL;
	m->fragile = false;
	m->inherited = false;
}

static struct map *pick_map(uint64_t a, enum kind kind)
{
	for (unsigned int i = 0; i < MAPS; i++) {
		struct map *m = &maps[(a + i) % MAPS];

		if (m->p && (m->kind == kind || kind == NOTHING))
			return m;
	}
	return NULL;
}

/* Have @fn look at a mapping that may be gone. False if it was. */
static bool __attribute__((noinline)) guarded(void (*fn)(void *), void *data)
{
	sigjmp_buf env;

	/* A signal whose frame cannot be written kills. */
	if (failing)
		set_fail_nth(0);
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
	/* A breakpoint that the L2 left behind is L1's to suffer. */
	if (sig == SIGTRAP)
		return;
	bad("signal %d at %p", sig, info->si_addr);
	_exit(EXIT_FAILURE);
}

/*
 * Oracles
 */

static void check_snapshot(const struct tdx_drcache_slot *s, uint64_t now)
{
	const uint32_t known = TDX_DRCACHE_VALID | TDX_DRCACHE_LATE | TDX_DRCACHE_L1_HWBP |
			       TDX_DRCACHE_EMULATED | TDX_DRCACHE_VM_MASK;
	uint64_t class = s->exit_rax >> TDX_CLASS_SHIFT;

	if (s->seq & 1)
		bad("a snapshot with an odd seq");
	if (!(s->flags & TDX_DRCACHE_VALID) || !(s->flags & TDX_DRCACHE_EMULATED) ||
	    !(s->flags & TDX_DRCACHE_VM_MASK) || s->flags & ~known)
		bad("a snapshot with flags %#x", s->flags);
	if (!!(s->flags & TDX_DRCACHE_LATE) != (hook == TDX_DRCACHE_HOOK_RETURN))
		bad("a snapshot with flags %#x by hook %u", s->flags, hook);
	if ((class != TDX_CLASS_SUCCESS && class != TDX_CLASS_L2_EXIT_HOST_ROUTED_ASYNC &&
	     class != TDX_CLASS_L2_EXIT_PENDING_INTERRUPT) ||
	    s->exit_rax & TDX_ENTRY_FAILURE || (s->exit_rax & TDX_BASIC_REASON_MASK) > 63)
		bad("a snapshot with RAX %#" PRIx64, (uint64_t)s->exit_rax);
	if (s->dr6 >> 32)
		bad("a snapshot with DR6 %#" PRIx64, (uint64_t)s->dr6);
	if (s->tsc > now)
		bad("a snapshot of the future");
	if (!have_host)
		bad("a snapshot and no host driver");
}

/* A mapped page, as it was copied, and what the reader's contract makes of it. */
struct look {
	const uint8_t *from;
	uint8_t page[PAGE] __attribute__((aligned(8)));
	struct tdx_drcache_reader reader;
	enum tdx_drcache_result res;
	struct tdx_drcache_slot slot;
};

static void look_at(void *data)
{
	struct look *l = data;

	for (unsigned int i = 0; i < PAGE; i += 8)
		*(uint64_t *)(l->page + i) = *(const volatile uint64_t *)(l->from + i);
	/* No exit has this RAX: a snapshot is one of another exit. */
	for (unsigned int i = 0; i < 1000; i++) {
		l->res = tdx_drcache_read(&l->reader, 0, UINT64_MAX, &l->slot);
		if (l->res != TDX_DRCACHE_MISS_BUSY)
			break;
		sched_yield();
	}
}

static void check_map(struct map *m)
{
	struct tdx_drcache_header want = {
		.magic = TDX_DRCACHE_MAGIC, .header_size = 24, .slot_size = 64,
		.slot_offset = 64, .cpu = m->desc->cpu, .features = features,
	};
	struct look l = {
		.from = m->p,
		.reader = { .fd = -1, .slot = (void *)(m->p + sizeof(want)) },
	};
	const struct tdx_drcache_header *h = (void *)l.page;

	if (!guarded(look_at, &l)) {
		if (!m->fragile && !racing)
			bad("the mapping cannot be read");
		return;
	}
	if (m->desc->foreign || racing)
		want.cpu = h->cpu;
	if (memcmp(h, &want, sizeof(want)))
		bad("the mapped header has changed");
	for (unsigned int i = sizeof(*h) + sizeof(l.slot); i < PAGE; i++)
		if (l.page[i])
			bad("byte %u of the mapped page is not zero", i);
	switch (l.res) {
	case TDX_DRCACHE_MISS_BUSY:
		bad("the slot's seq stays odd");
		break;
	case TDX_DRCACHE_MISS_OTHER_EXIT:
		check_snapshot(&l.slot, tdx_drcache_tsc());
		break;
	case TDX_DRCACHE_MISS_INVALID:
		break;
	default:
		bad("the reader says %d", l.res);
	}
}

/*
 * Structs for ioctls
 */

/**
 * struct arg - a struct as it is given to an ioctl
 * @p: where
 * @size: the size that it claims
 * @readable: bytes that can be read from @p
 * @writable: bytes that can be written
 * @ours: in the arena; nobody else writes it
 * @compat: by the 32-bit entry
 */
struct arg {
	uint8_t *p;
	uint32_t size;
	unsigned long readable, writable;
	bool ours;
	bool compat;
};

/* Filler of the arena around the struct: never zero. */
static uint8_t filling[ARENA];

static uint32_t pick_size(uint64_t a, uint32_t known)
{
	switch (a % 32) {
	case 0:
		return known - 1 - (a >> 8) % 8;
	case 1:
		return (a >> 8) % known;
	case 2:
		return known + 1 + (a >> 8) % 64;
	case 3:
		return PAGE - (a >> 8) % 2 * ((a >> 9) % (PAGE - known));
	case 4:
		return PAGE + 1 + (a >> 8) % PAGE;
	case 5:
		return edge(a >> 8);
	default:
		return known;
	}
}

/*
 * Put a struct somewhere. @buf has @known bytes, which begin with the size if
 * @sized.
 */
static struct arg place(uint64_t a, const void *buf, uint32_t known, bool sized)
{
	uint32_t size = sized ? pick_size(a, known) : known;
	/* As much of it as the arena takes. */
	unsigned long length = size < ARENA - 8 ? size : ARENA - 8, offset;
	struct arg arg = { .size = size, .ours = true };
	struct map *m;

	arg.compat = have_compat && (a >> 40) % 32 == 0;
	memcpy(arena->before, filling, ARENA);
	/* At its end, somewhere, or odd. */
	switch ((a >> 16) % 4) {
	case 0:
		offset = ARENA - length;
		break;
	case 1:
		offset = (a >> 20) % (ARENA - length);
		break;
	default:
		offset = (a >> 20) % (ARENA - length) & ~7ul;
	}
	if (length < 4)
		offset = ARENA - 8;
	memset(arena->before + offset, 0, length);
	memcpy(arena->before + offset, buf, known < length ? known : length);
	if (sized)
		memcpy(arena->before + offset, &size, sizeof(size));
	/* Bytes beyond the known struct: zero, or not. */
	if (length > known && (a >> 32) & 1)
		arena->before[offset + known + (a >> 33) % (length - known)] = 1;
	memcpy(arena->rw, arena->before, ARENA);
	arg.p = arena->rw + offset;
	arg.readable = ARENA - offset;
	arg.writable = ARENA - offset;

	switch ((a >> 48) % 32) {
	case 0:
		arg.p = arena->ro + offset;
		arg.writable = 0;
		break;
	case 1:
		/* Its end is not there. */
		offset = ARENA - 1 - (a >> 20) % (length ? length : 1);
		memmove(arena->before + offset, buf, ARENA - offset < known ?
			ARENA - offset : known);
		if (sized)
			memcpy(arena->before + offset, &size, ARENA - offset < 4 ?
			       ARENA - offset : 4);
		memcpy(arena->rw, arena->before, ARENA);
		arg.p = arena->rw + offset;
		arg.readable = ARENA - offset;
		arg.writable = ARENA - offset;
		break;
	case 2:
		arg.p = (void *)edge(a >> 20);
		arg.ours = false;
		break;
	case 3:
		arg.p = arena->rw + ARENA;
		arg.readable = 0;
		arg.writable = 0;
		break;
	case 4:
		/* The page that the module itself writes. */
		m = pick_map(a, NOTHING);
		if (m) {
			arg.p = m->p + (a >> 20) % PAGE;
			arg.ours = false;
		}
		break;
	case 5:
		arg.p = shared->scribbled + (a >> 20) % (PAGE - known);
		arg.ours = false;
		memcpy(arg.p, buf, known);
		if (sized)
			memcpy(arg.p, &size, sizeof(size));
		break;
	}
	return arg;
}

/* An ioctl: 0 or more, or a negative errno. */
static long do_ioctl(int fd, unsigned int cmd, const struct arg *arg)
{
	long ret;

	span.from = tdx_drcache_tsc();
	if (!arg->compat) {
		ret = ioctl(fd, cmd, arg->p);
		span.to = tdx_drcache_tsc();
		return ret < 0 ? -errno : ret;
	}
	ret = 54;
	__asm__ volatile("int $0x80"
		     : "+a" (ret)
		     : "b" ((long)fd), "c" ((long)cmd), "d" (arg->p)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	span.to = tdx_drcache_tsc();
	return (int)ret;
}

/* Only the first @out bytes of the struct may have changed. */
static void check_memory(const struct arg *arg, unsigned long out)
{
	unsigned long offset = ARENA, i;

	if (!memcmp(arena->rw, arena->before, ARENA))
		return;
	if (arg->ours && arg->p >= arena->rw && arg->p < arena->rw + ARENA)
		offset = arg->p - arena->rw;
	for (i = 0; i < ARENA; i++)
		if (arena->rw[i] != arena->before[i] && (i < offset || i >= offset + out)) {
			bad("byte %ld of the struct was changed; its size is %u",
			    (long)(i - offset), arg->size);
			return;
		}
}

/* @ret must be in @may; errors have names only where there are many. */
static void check_result(long ret, errset may)
{
	errset got = ret >= 0 ? OK : -ret < ERRNOS ? E(-ret) : 0;

	/* ENODEV: what fprobe says is not told apart. */
	if (failing)
		may |= E(ENOMEM) | E(EFAULT) | (hook == TDX_DRCACHE_HOOK_FPROBE ? E(ENODEV) : 0);
	/* The other thread may have closed the file, and another be there. */
	if (racing)
		may |= E(EBADF) | E(ENOTTY);
	if (!(got & may))
		bad("returns %s", ret >= 0 ? "success" : strerrorname_np(-ret));
}

/*
 * One whose struct begins with its size. @may are the errnos that it may fail with;
 * if there are any in @must, it must fail with one of these, or with what is wrong
 * with the struct itself. @where is where the struct was.
 */
static long sized_ioctl(struct file *f, unsigned int cmd, uint64_t a, const void *buf,
			uint32_t known, bool out, errset may, errset must, struct arg *where)
{
	struct arg arg = place(a, buf, known, true);
	uint32_t length = arg.size < known ? arg.size : known;
	long ret = do_ioctl(f->fd, cmd, &arg);

	*where = arg;
	if (f->kind != DRCACHE) {
		check_result(ret, E(ENOTTY));
		check_memory(&arg, 0);
		return ret;
	}
	check_memory(&arg, out && (!ret || ret == -EFAULT) ? length : 0);
	if (!arg.ours) {
		/* Whatever the UAPI header lists. */
		if (cmd == TDX_DRCACHE_BIND)
			may |= E(ENXIO) | E(EBUSY) | E(ENODEV) | E(EOPNOTSUPP) | E(ENOMEM) |
			       E(ENOSPC);
		else if (cmd == TDX_DRCACHE_GET_REGS)
			may |= E(ESTALE);
		check_result(ret, may | must | E(EFAULT) | E(EINVAL) | E(E2BIG) | OK);
		return ret;
	}
	if (arg.readable < 4) {
		must = E(EFAULT);
	} else if (arg.size < known) {
		must = E(EINVAL);
	} else if (arg.size > PAGE) {
		must = E(E2BIG);
	} else if (arg.readable < arg.size) {
		must = E(EFAULT) | E(E2BIG);
	} else {
		for (uint32_t i = known; i < arg.size; i++)
			if (arena->before[ARENA - arg.readable + i]) {
				must = E(E2BIG);
				break;
			}
	}
	if (out && arg.writable < length && !must)
		must = E(EFAULT) | may;
	check_result(ret, must ? must : may | OK);
	return ret;
}

/*
 * Calls
 */

/* There is nothing that the call could be made on. */
#define SKIPPED		(-ERRNOS)

static long op_open(const uint64_t *a)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_WRONLY, O_RDONLY | O_NONBLOCK };
	int flag = a[0] % 8 < 6 ? O_RDONLY : flags[(a[0] >> 8) % ARRAY_SIZE(flags)];
	int fd = open(TDX_DRCACHE_DEV, flag | O_CLOEXEC);

	if (fd < 0) {
		check_result(-errno, 0);
		return -errno;
	}
	put_file(a[1], fd, DRCACHE, new_desc(false, flag));
	return 0;
}

static long op_close(const uint64_t *a)
{
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? DRCACHE : VTL);

	if (!f)
		return SKIPPED;
	close_file(f);
	return 0;
}

static long op_dup(const uint64_t *a)
{
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? VTL : DRCACHE);
	int fd;

	if (!f)
		return SKIPPED;
	fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	put_file(a[1], fd, f->kind, f->desc);
	return 0;
}

/* A child with the files, and without the mappings. */
static long op_fork(const uint64_t *a)
{
	struct tdx_drcache_bind bind = { .size = sizeof(bind), .cpu = a[2] % nr_cpus,
					 .flags = TDX_DRCACHE_BIND_OBSERVE };
	struct tdx_drcache_regs regs = { .size = sizeof(regs) };
	struct file *f = pick_file(a[0], DRCACHE);
	bool do_bind = a[1] % 4 == 0;
	unsigned char vec;
	int status;
	pid_t pid;

	if (do_bind && f && f->kind == DRCACHE)
		f->desc->foreign = true;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		for (unsigned int i = 0; i < MAPS; i++)
			if (maps[i].p && maps[i].kind == DRCACHE && !maps[i].fragile &&
			    !maps[i].inherited && !mincore(maps[i].p, PAGE, &vec))
				_exit(1);
		if (f) {
			if (do_bind)
				ioctl(f->fd, TDX_DRCACHE_BIND, &bind);
			ioctl(f->fd, TDX_DRCACHE_GET_REGS, &regs);
			if (a[1] & 16)
				close(f->fd);
		}
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	if (status && !failing)
		bad("a child has the mapping (%#x)", status);
	return 0;
}

static int send_fd(int sock, int fd)
{
	char buf[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

static int receive_fd(int sock)
{
	char buf[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};
	int fd;

	if (recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
		return -errno;
	if (!CMSG_FIRSTHDR(&msg))
		return -ENODATA;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* To another process, and from one; or to nobody, and the socket is closed. */
static long op_pass(const uint64_t *a)
{
	struct file *f = pick_file(a[0], DRCACHE);
	int sv[2], fd, ret;

	if (!have_sockets)
		return SKIPPED;
	switch (a[1] % 3) {
	case 0:
		if (!f || f->kind != DRCACHE)
			return SKIPPED;
		f->desc->foreign = true;
		return send_fd(pass_sockets[me & 1], f->fd);
	case 1:
		fd = receive_fd(pass_sockets[me & 1]);
		if (fd < 0)
			return fd;
		put_file(a[2], fd, DRCACHE, new_desc(true, O_RDONLY));
		return 0;
	default:
		if (!f)
			return SKIPPED;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
			return -errno;
		ret = send_fd(sv[0], f->fd);
		if (!ret && a[1] & 8)
			ret = send_fd(sv[1], sv[1]);	/* itself: for the collector */
		if (a[1] & 16)
			close_file(f);
		close(sv[0]);
		close(sv[1]);
		return ret;
	}
}

static long op_get_info(const uint64_t *a)
{
	struct tdx_drcache_info info = { 0 };
	struct file *f = pick_file(a[0], DRCACHE);
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	info.hook = a[2];
	info.features = edge(a[2]);
	info.reserved = a[3] % 8 ? 0 : edge(a[3] >> 8);
	ret = sized_ioctl(f, TDX_DRCACHE_GET_INFO, a[1], &info, sizeof(info), true, 0,
			  info.reserved ? E(EINVAL) : 0, &arg);
	if (ret || !arg.ours || arg.size < sizeof(info))
		return ret;
	memcpy(&info, arg.p, sizeof(info));
	if (info.hook > TDX_DRCACHE_HOOK_RETURN || info.features != features ||
	    info.nr_cpu_ids != nr_cpus || info.map_size != PAGE || info.reserved ||
	    (info.host == TDX_DRCACHE_HOST_EMULATED) != have_host)
		bad("GET_INFO gives hook %u, host %u, %u vCPUs", info.hook, info.host,
		    info.nr_cpu_ids);
	return ret;
}

/* Where a run page could be: a real one, one that is none, or nothing. */
static uint64_t pick_run_page(uint64_t a, errset *may, errset *must)
{
	struct map *m;

	*may = 0;
	if (a % 16)
		*may = E(EFAULT);
	switch (a % 16) {
	case 0:
		if (needs_run_page)
			*must |= E(EINVAL);
		return 0;
	case 1:
		*must |= E(EINVAL);
		return (uintptr_t)fake_run + 1 + (a >> 8) % (PAGE - 1);
	case 2:
		a = edge(a >> 8) & ~(PAGE - 1);
		if (!a && needs_run_page)
			*must |= E(EINVAL);
		return a;
	case 3:
		m = pick_map(a >> 8, DRCACHE);
		if (m && !m->fragile)
			*must |= E(EFAULT);
		return (uintptr_t)(m ? m->p : fake_run);
	case 4:
		return (uintptr_t)arena->ro;
	case 5:
	case 6:
	case 7:
		return (uintptr_t)fake_run;
	default:
		m = pick_map(a >> 8, VTL);
		return (uintptr_t)(m ? m->p : fake_run);
	}
}

/* Does this process have a breakpoint that may run on a CPU? */
static bool has_breakpoint(unsigned int cpu)
{
	for (unsigned int i = 0; i < BREAKPOINTS; i++)
		if (breakpoints[i].open &&
		    (breakpoints[i].cpu < 0 || breakpoints[i].cpu == (int)cpu))
			return true;
	return false;
}

static void close_breakpoint(struct breakpoint *b)
{
	if (b->open)
		close(b->fd);
	b->open = false;
}

static long op_breakpoint(const uint64_t *a)
{
	struct breakpoint *b = &breakpoints[a[0] % BREAKPOINTS];
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attr), .disabled = 1,
		.bp_type = HW_BREAKPOINT_W, .bp_addr = (uintptr_t)fake_run,
		.bp_len = HW_BREAKPOINT_LEN_1,
	};

	if (b->open) {
		close_breakpoint(b);
		return 0;
	}
	b->cpu = a[1] % 3 ? (int)((a[1] >> 8) % online_cpus) : -1;
	b->fd = syscall(SYS_perf_event_open, &attr, b->cpu < 0 ? 0 : -1, b->cpu, -1,
			PERF_FLAG_FD_CLOEXEC);
	if (b->fd < 0) {
		/* Another process may own the CPU, or have all its slots. */
		check_result(-errno, E(ENOSPC));
		return -errno;
	}
	b->open = true;
	for (unsigned int i = 0; i < FILES && !racing; i++) {
		const struct desc *d = files[i].desc;

		if (files[i].kind == DRCACHE && d->exclusive && !d->foreign &&
		    (b->cpu < 0 || b->cpu == (int)d->cpu))
			bad("a breakpoint beside a vCPU that is exclusive");
	}
	return 0;
}

static long op_bind(const uint64_t *a)
{
	static const uint64_t no_l2[] = { 1ull << 33, 1ull << 34, 1ull << 41 };
	struct file *f = pick_file(a[0], DRCACHE);
	errset may = 0, must = 0, late = 0, run_may = 0;
	struct tdx_drcache_bind bind = { 0 };
	bool observe = a[2] % 4 == 0, exclusive, was_bound;
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	was_bound = f->kind == DRCACHE && f->desc->binds && !racing;
	bind.cpu = a[3] % 16 ? some_cpu(a[3] >> 8) : edge(a[3] >> 8);
	if (observe) {
		bind.flags = TDX_DRCACHE_BIND_OBSERVE;
	} else {
		bind.run_page = pick_run_page(a[4], &run_may, &must);
		bind.exit_reasons = a[5] % 4 ? 0 :
				    (a[5] >> 8) & ~(no_l2[0] | no_l2[1] | no_l2[2]);
	}
	if ((a[2] >> 56) % (observe ? 16 : 2) == 0)
		bind.flags |= TDX_DRCACHE_BIND_EXCLUSIVE;
	switch ((a[2] >> 8) % 32) {
	case 0:
		bind.flags |= edge(a[2] >> 16);
		break;
	case 1:
		bind.reserved = edge(a[2] >> 16);
		break;
	case 2:
		bind.exit_reasons |= edge(a[2] >> 16);
		break;
	case 3:
		bind.exit_reasons |= no_l2[(a[2] >> 16) % ARRAY_SIZE(no_l2)];
		break;
	case 4:
		if (observe)
			bind.run_page = (uintptr_t)fake_run;
		break;
	}
	exclusive = bind.flags & TDX_DRCACHE_BIND_EXCLUSIVE;
	if (bind.flags & ~(TDX_DRCACHE_BIND_OBSERVE | TDX_DRCACHE_BIND_EXCLUSIVE) ||
	    bind.reserved || bind.run_page & (PAGE - 1))
		must |= E(EINVAL);
	if (bind.flags & TDX_DRCACHE_BIND_OBSERVE) {
		if (bind.exit_reasons || bind.run_page || exclusive)
			must |= E(EINVAL);
	} else {
		if (exclusive) {
			/* Of another process, or of one that is made or closed meanwhile. */
			may |= E(ENOSPC);
			if (!(features & TDX_DRCACHE_FEATURE_EXCLUSIVE))
				late |= E(EOPNOTSUPP);
			else if (!racing && has_breakpoint(bind.cpu))
				late |= E(ENOSPC);
		}
		may |= run_may | E(EBUSY);
		if (!have_host)
			late |= E(ENODEV);
		/* Of the return hook; a 32-bit caller as well. */
		if (hook == TDX_DRCACHE_HOOK_RETURN) {
			may |= E(EOPNOTSUPP);
			if (bind.exit_reasons & 1ull << 52 || (must && have_compat))
				late |= E(EOPNOTSUPP);
		}
	}
	if (bind.exit_reasons & (no_l2[0] | no_l2[1] | no_l2[2]))
		must |= E(EOPNOTSUPP);
	if (bind.cpu >= nr_cpus)
		must |= E(ENXIO);
	if (was_bound)
		must |= E(EBUSY);
	if (racing || (f->kind == DRCACHE && f->desc->foreign))
		may |= E(EBUSY) | E(EFAULT);
	/* These are found before anything else, and what is left after EBUSY. */
	if (must && !(must & (E(EOPNOTSUPP) | E(ENXIO))))
		must |= may & E(EBUSY);
	/* These after the run page was looked at, and who owns the vCPU. */
	if (late)
		must |= late | run_may | E(EBUSY);

	ret = sized_ioctl(f, TDX_DRCACHE_BIND, a[1], &bind, sizeof(bind), false, may, must,
			  &arg);
	if (!ret) {
		f->desc->cpu = bind.cpu;
		if (!arg.ours)
			f->desc->foreign = true;
		f->desc->exclusive = exclusive;
		if (f->desc->binds++ && !f->desc->foreign)
			bad("bound twice");
	}
	return ret;
}

static long op_get_regs(const uint64_t *a)
{
	struct tdx_drcache_regs regs = { 0 };
	struct file *f = pick_file(a[0], DRCACHE);
	uint64_t now = tdx_drcache_tsc();
	errset may = E(ENODATA), must = 0;
	struct tdx_drcache_slot s = { 0 };
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	switch (a[2] % 8) {
	case 0:
		regs.min_tsc = edge(a[2] >> 8);
		break;
	case 1:
		regs.min_tsc = now - (a[2] >> 8) % (1 << 24);
		break;
	case 2:
		regs.min_tsc = now + (1ull << 40);
		break;
	}
	if (regs.min_tsc)
		may |= E(ESTALE);
	regs.flags = a[3];
	regs.dr6 = a[3];
	if (f->kind == DRCACHE && !f->desc->foreign && !f->desc->binds && !racing)
		must = E(ENOTCONN);
	if (f->kind == DRCACHE && (f->desc->foreign || racing))
		may |= E(ENOTCONN);
	/* There is nothing wrong with it for so many times. */
	for (unsigned int i = 0; i < 1000; i++) {
		ret = sized_ioctl(f, TDX_DRCACHE_GET_REGS, a[1], &regs, sizeof(regs), true,
				  may | E(EAGAIN), must, &arg);
		if (ret != -EAGAIN)
			break;
		sched_yield();
	}
	if (ret == -EAGAIN)
		bad("the slot's seq stays odd");
	if (ret || !arg.ours || arg.size < sizeof(regs))
		return ret;
	memcpy(&regs, arg.p, sizeof(regs));
	s.flags = regs.flags;
	s.exit_rax = regs.exit_rax;
	s.dr6 = regs.dr6;
	s.tsc = regs.tsc;
	check_snapshot(&s, tdx_drcache_tsc());
	if (regs.tsc < regs.min_tsc)
		bad("a snapshot that is older than min_tsc");
	return ret;
}

static long op_get_stats(const uint64_t *a)
{
	struct tdx_drcache_stats stats = { 0 };
	struct file *f = pick_file(a[0], DRCACHE);
	errset may = 0, must = 0;
	struct arg arg;
	long ret;

	if (!f)
		return SKIPPED;
	stats.published = a[2];
	stats.flags = edge(a[3]);
	if (f->kind == DRCACHE && !f->desc->foreign && !f->desc->binds && !racing)
		must |= E(ENOTCONN);
	if (f->kind == DRCACHE && (f->desc->foreign || racing))
		may |= E(ENOTCONN);
	ret = sized_ioctl(f, TDX_DRCACHE_GET_STATS, a[1], &stats, sizeof(stats), true, may, must,
			  &arg);
	if (ret || !arg.ours || arg.size < sizeof(stats))
		return ret;
	memcpy(&stats, arg.p, sizeof(stats));
	if (stats.flags & ~TDX_DRCACHE_STATS_EXCLUSIVE ||
	    (hook != TDX_DRCACHE_HOOK_RETURN && stats.late))
		bad("GET_STATS gives %" PRIu64 " late, flags 0x%x", (uint64_t)stats.late,
		    stats.flags);
	return ret;
}

/* A number that is no ioctl's, nor one of those that the VFS serves. */
static long op_unknown_ioctl(const uint64_t *a)
{
	static const uint8_t magics[] = { TDX_DRCACHE_IOC_MAGIC, MSHV_IOCTL, 0xAE, 0xFF };
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? DRCACHE : VTL);
	uint32_t cmd = a[1];
	struct arg arg = { .p = arena->rw, .compat = have_compat && a[3] % 8 == 0 };
	long ret;

	if (!f)
		return SKIPPED;
	if (a[2] % 4 == 0)
		cmd = TDX_DRCACHE_BIND ^ 1u << (a[2] >> 8) % 32;
	else
		cmd = (cmd & ~0xff00u) | (uint32_t)magics[(a[2] >> 8) % ARRAY_SIZE(magics)] << 8;
	switch (cmd) {
	case TDX_DRCACHE_GET_INFO:
	case TDX_DRCACHE_BIND:
	case TDX_DRCACHE_GET_REGS:
	case TDX_DRCACHE_GET_STATS:
	case MSHV_CHECK_EXTENSION:
	case MSHV_CREATE_VTL:
	case MSHV_GET_VP_REGISTERS:
	case MSHV_SET_VP_REGISTERS:
	case MSHV_VTL_RETURN_TO_LOWER_VTL:
	case MSHV_VTL_TDCALL:
	case MSHV_VTL_EMUL_SET_MEMORY:
	case MSHV_VTL_EMUL_GET_DEBUGREGS:
		return SKIPPED;
	}
	memset(arena->rw, a[3], 256);
	ret = do_ioctl(f->fd, cmd, &arg);
	check_result(ret, E(ENOTTY));
	return ret;
}

static long op_mmap(const uint64_t *a)
{
	static const int flags[] = {
		MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_SHARED | MAP_POPULATE,
		MAP_SHARED | MAP_LOCKED, MAP_SHARED | MAP_NORESERVE, MAP_SHARED | MAP_GROWSDOWN,
		MAP_SHARED_VALIDATE | MAP_SYNC, MAP_PRIVATE | MAP_POPULATE,
	};
	struct file *f = pick_file(a[0], DRCACHE);
	struct map *m = &maps[a[1] % MAPS];
	uint64_t length = PAGE, offset = 0;
	int prot = PROT_READ, flag = MAP_SHARED;
	errset may = 0, must = 0;
	uint8_t *p;

	if (!f || f->kind != DRCACHE)
		return SKIPPED;
	switch (a[2] % 16) {
	case 0:
		length = (a[2] >> 8) % (4 * PAGE);
		break;
	case 1:
		length = 1 + (a[2] >> 8) % PAGE;
		break;
	case 2:
		offset = edge(a[2] >> 8);
		break;
	case 3:
		offset = ((a[2] >> 8) % 8) * PAGE;
		break;
	case 4:
		prot = (a[2] >> 8) % 8;
		break;
	case 5:
		flag = flags[(a[2] >> 8) % ARRAY_SIZE(flags)];
		break;
	}
	if (length > PAGE || offset || !length || (flag & MAP_TYPE) == MAP_PRIVATE ||
	    flag & MAP_GROWSDOWN)
		must |= E(EINVAL);
	if (flag & MAP_SYNC)
		must |= E(EOPNOTSUPP);
	if (offset > INT64_MAX - 4 * PAGE)
		must |= E(EOVERFLOW);
	if (prot & PROT_WRITE)
		/* Of a file that is not open for writing the VFS says so first. */
		must |= (f->desc->flags & O_ACCMODE) == O_RDONLY ? E(EACCES) | E(EPERM) : E(EPERM);
	if (prot & PROT_EXEC)
		must |= E(EPERM);
	if ((f->desc->flags & O_ACCMODE) == O_WRONLY)
		must |= E(EACCES);
	if (!f->desc->binds && !f->desc->foreign && !racing)
		must |= E(ENOTCONN);
	if (f->desc->foreign || racing)
		may |= E(ENOTCONN) | E(EACCES);
	clear_map(m);
	p = mmap(m->region + REGION_FIRST * PAGE, length, prot, flag | MAP_FIXED, f->fd, offset);
	if (p == MAP_FAILED) {
		check_result(-errno, must ? must | may : may);
		return -errno;
	}
	check_result(0, must ? 0 : OK);
	m->p = p;
	m->kind = DRCACHE;
	m->desc = f->desc;
	m->fragile = !(prot & PROT_READ);
	check_map(m);
	return 0;
}

static long op_munmap(const uint64_t *a)
{
	struct map *m = pick_map(a[0], NOTHING);
	unsigned long first, n;

	if (!m)
		return SKIPPED;
	if (a[1] % 2) {
		clear_map(m);
		return 0;
	}
	first = (a[1] >> 8) % REGION_PAGES;
	n = 1 + (a[1] >> 16) % (REGION_PAGES - first);
	if (munmap(m->region + first * PAGE, n * PAGE))
		return -errno;
	/* Nothing else may come there. */
	clear_map(m);
	return 0;
}

static long op_mprotect(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);
	int prot = a[1] % 8;

	if (!m)
		return SKIPPED;
	if (mprotect(m->p, PAGE, prot)) {
		if (!m->fragile && !racing)
			check_result(-errno, prot & (PROT_WRITE | PROT_EXEC) ? E(EACCES) : 0);
		return -errno;
	}
	if (prot & (PROT_WRITE | PROT_EXEC) && !m->fragile && !racing)
		bad("mprotect() to %d", prot);
	m->fragile |= !(prot & PROT_READ);
	return 0;
}

static long op_mremap(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);
	unsigned long from = a[1] % 4 ? PAGE : (a[1] >> 8) % (4 * PAGE);
	unsigned long to = a[2] % 2 ? PAGE : (a[2] >> 8) % (8 * PAGE);
	uint8_t *p, *target;
	long ret;

	if (!m)
		return SKIPPED;
	if (a[3] % 4 == 0) {
		if (!syscall(SYS_remap_file_pages, m->p, PAGE, 0, (a[3] >> 8) % 4, 0))
			return 0;
		/* It unmaps before it fails. */
		ret = -errno;
		clear_map(m);
		return ret;
	}
	target = m->region + (8 + (a[3] >> 8) % 7) * PAGE;
	p = mremap(m->p, from, to, MREMAP_MAYMOVE | MREMAP_FIXED |
		   (a[3] & 16 ? MREMAP_DONTUNMAP : 0), target);
	if (p == MAP_FAILED)
		return -errno;
	if (!m->fragile && !racing && to > PAGE && from <= PAGE)
		bad("mremap() from %lu to %lu bytes", from, to);
	if (from >= 1 && to >= 1)
		m->p = p;
	else
		m->fragile = true;
	if (from > PAGE)
		m->fragile = true;
	return 0;
}

static long op_madvise(const uint64_t *a)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE,
		MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_DONTDUMP,
		MADV_DODUMP, MADV_WIPEONFORK, MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE, MADV_DONTNEED_LOCKED,
	};
	struct map *m = pick_map(a[0], DRCACHE);
	int what = advice[a[1] % ARRAY_SIZE(advice)];

	if (!m)
		return SKIPPED;
	if (a[2] % 8 == 0)
		return mlock(m->p, PAGE) ? -errno : 0;
	if (madvise(m->p, PAGE, what))
		return -errno;
	if (what == MADV_DODUMP && !m->fragile)
		bad("the mapping can be dumped");
	if (what == MADV_DONTNEED || what == MADV_DONTNEED_LOCKED ||
	    what == MADV_REMOVE || what == MADV_PAGEOUT)
		m->fragile = true;
	if (what == MADV_DOFORK)
		m->inherited = true;
	return 0;
}

static long op_read_map(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);

	if (!m)
		return SKIPPED;
	check_map(m);
	return 0;
}

/* The other ways to memory that cannot be written. */
static long op_write_map(const uint64_t *a)
{
	struct map *m = pick_map(a[0], DRCACHE);
	uint64_t v = a[2];
	struct iovec local = { &v, sizeof(v) }, remote;
	int pipes[2];
	ssize_t n;

	if (!m)
		return SKIPPED;
	remote = (struct iovec) { m->p + a[3] % (PAGE - 8), sizeof(v) };
	switch (a[1] % 4) {
	case 0:
		n = pwrite(mem_fd, &v, sizeof(v), (uintptr_t)remote.iov_base);
		break;
	case 1:
		n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
		break;
	case 2:
		/* A read into it. */
		n = pread(mem_fd, remote.iov_base, sizeof(v), (uintptr_t)arena->rw);
		break;
	default:
		/* A page of it that a pipe keeps. */
		if (pipe2(pipes, O_CLOEXEC))
			return -errno;
		n = vmsplice(pipes[1], &remote, 1, SPLICE_F_NONBLOCK);
		if (a[1] & 16)
			clear_map(m);
		if (n > 0)
			n = read(pipes[0], &v, sizeof(v));
		close(pipes[0]);
		close(pipes[1]);
		return n < 0 ? -errno : 0;
	}
	if (n > 0 && !m->fragile && !racing)
		bad("%zd bytes were written into the mapping", n);
	return n < 0 ? -errno : 0;
}

static long op_file_calls(const uint64_t *a)
{
	struct file *f = pick_file(a[0], a[0] & 0x10000 ? VTL : DRCACHE);
	struct pollfd poll_fd;
	uint64_t buf[8] = { 0 };
	long ret;

	if (!f)
		return SKIPPED;
	switch (a[1] % 8) {
	case 0:
		ret = read(f->fd, buf, sizeof(buf));
		if (ret > 0)
			bad("read() gives %ld bytes", ret);
		break;
	case 1:
		ret = write(f->fd, buf, sizeof(buf));
		break;
	case 2:
		ret = lseek(f->fd, edge(a[2]), a[3] % 3);
		break;
	case 3:
		poll_fd = (struct pollfd) { .fd = f->fd, .events = a[2] };
		ret = poll(&poll_fd, 1, 0);
		break;
	case 4:
		ret = fcntl(f->fd, F_SETFL, O_NONBLOCK | (a[2] & 1 ? O_ASYNC : 0));
		break;
	case 5:
		ret = ftruncate(f->fd, a[2]);
		break;
	case 6:
		ret = fsync(f->fd);
		break;
	default:
		ret = flock(f->fd, LOCK_EX | LOCK_NB);
	}
	return ret < 0 ? -errno : 0;
}

/* Another process may have its struct there. */
static long op_scribble(const uint64_t *a)
{
	for (unsigned int i = 0; i < 64; i++)
		*(volatile uint32_t *)(shared->scribbled + (a[0] + i * a[1]) % 1024 * 4) =
			i & 1 ? edge(a[2] >> (i & 31)) : 32 + (a[3] >> i) % 64;
	return 0;
}

static long op_migrate(const uint64_t *a)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(a[0] % online_cpus, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/*
 * The stand-in for the host driver
 */

/* One of a struct without a size; only the first @out bytes may change. */
static long emul_ioctl(struct file *f, unsigned int cmd, const struct arg *arg,
		       unsigned long out, errset may)
{
	long ret = do_ioctl(f->fd, cmd, arg);

	check_memory(arg, out);
	/* It has no 32-bit entry. */
	check_result(ret, arg->compat ? E(ENOTTY) : may);
	return ret;
}

static long op_mshv_open(const uint64_t *a)
{
	int fd = open("/dev/mshv", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	put_file(a[0], fd, MSHV, new_desc(true, O_RDWR));
	return 0;
}

static long op_check_extension(const uint64_t *a)
{
	struct file *f = pick_file(a[0], MSHV);
	uint32_t cap = a[2] % 2 ? MSHV_CAP_DR6_SHARED : edge(a[2] >> 8);
	struct arg arg;
	errset may;

	if (!f || f->kind != MSHV)
		return SKIPPED;
	arg = place(a[1], &cap, sizeof(cap), false);
	if (!arg.ours)
		may = OK | E(EOPNOTSUPP);
	else
		may = cap <= MSHV_CAP_LOWER_VTL_TIMER_VIRT ? OK : E(EOPNOTSUPP);
	return emul_ioctl(f, MSHV_CHECK_EXTENSION, &arg, 0, may | E(EFAULT));
}

static long op_create_vtl(const uint64_t *a)
{
	struct file *f = pick_file(a[0], MSHV);
	int fd;

	if (!f || f->kind != MSHV)
		return SKIPPED;
	fd = ioctl(f->fd, MSHV_CREATE_VTL, edge(a[1]));
	if (fd < 0) {
		check_result(-errno, 0);
		return -errno;
	}
	put_file(a[2], fd, VTL, new_desc(true, O_RDWR));
	return 0;
}

static long op_set_memory(const uint64_t *a)
{
	struct mshv_vtl_emul_memory mem = {
		.addr = (uintptr_t)l2_memory, .length = L2_PAGES * PAGE,
	};
	struct file *f = pick_file(a[0], VTL);
	struct map *m;
	struct arg arg;

	if (!f || f->kind != VTL)
		return SKIPPED;
	switch (a[2] % 32) {
	case 0:
		mem.addr = edge(a[3]);
		break;
	case 1:
		mem.length = edge(a[3]);
		break;
	case 2:
		mem.addr = edge(a[3]) & ~(PAGE - 1);
		mem.length = edge(a[4]) & ~(PAGE - 1);
		break;
	case 3:
		/* A run page, or the page that the module writes. */
		m = pick_map(a[3], NOTHING);
		if (m) {
			mem.addr = (uintptr_t)m->p;
			mem.length = PAGE;
		}
		break;
	case 4:
		mem.addr = (uintptr_t)arena->rw;
		break;
	case 5:
		mem.length = (a[3] % 5000) * PAGE;
		break;
	}
	arg = place(a[1], &mem, sizeof(mem), false);
	return emul_ioctl(f, MSHV_VTL_EMUL_SET_MEMORY, &arg, 0,
			  OK | E(EFAULT) | E(EINVAL) | E(EBUSY) | E(ENOMEM) | E(EOVERFLOW));
}

static long op_vp_registers(const uint64_t *a)
{
	struct file *f = pick_file(a[0], VTL);
	bool set = a[2] % 2;
	struct hv_register_assoc reg = {
		.name = HV_X64_REGISTER_DR0 + (a[3] % 8 ? (a[3] >> 8) % 5 : (a[3] >> 8)),
		.value = { (a[4] & 1 ? edge(a[4] >> 8) : a[4]), a[5] },
	};
	struct mshv_vp_registers regs = { .count = a[2] & 0x70 ? 1 : edge(a[2] >> 8) };
	struct arg arg;

	if (!f || f->kind != VTL)
		return SKIPPED;
	if (reg.name == HV_X64_REGISTER_DR6)
		reg.value[0] &= a[4] & 2 ? UINT32_MAX : UINT64_MAX;
	regs.regs_ptr = a[2] & 0x300 ? (uintptr_t)&reg : edge(a[2] >> 16);
	arg = place(a[1], &regs, sizeof(regs), false);
	return emul_ioctl(f, set ? MSHV_SET_VP_REGISTERS : MSHV_GET_VP_REGISTERS, &arg, 0,
			  OK | E(EFAULT) | E(EINVAL));
}

static long op_tdcall(const uint64_t *a)
{
	static const uint32_t fields[] = { TDX_VMCS_GUEST_DR7, TDX_VMCS_EXCEPTION_BITMAP };
	struct file *f = pick_file(a[0], VTL);
	struct mshv_tdcall call = {
		.rax = a[2] % 8 ? TDX_LEAF_VP_RD + (a[2] >> 8) % 2 : edge(a[2] >> 8),
		.rcx = a[3],
		.rdx = a[3] % 8 ? TDX_MD_L2_VMCS(1 + (a[3] >> 8) % 3, fields[(a[3] >> 16) % 2]) :
				  a[3] >> 8,
		.r8 = a[4],
		.r9 = edge(a[5]),
	};
	struct arg arg;

	if (!f || f->kind != VTL)
		return SKIPPED;
	/* Breakpoints that come by VMRUN crash QEMU (10.0), some runs. */
	if ((call.rdx & TDX_MD_FIELD_CODE_MASK) == TDX_VMCS_GUEST_DR7)
		call.r8 &= ~0xffull;
	arg = place(a[1], &call, sizeof(call), false);
	return emul_ioctl(f, MSHV_VTL_TDCALL, &arg, sizeof(call),
			  OK | E(EFAULT) | E(EINVAL));
}

static long op_debugregs(const uint64_t *a)
{
	struct mshv_vtl_emul_debugregs regs = { .reserved = { a[2], a[3] } };
	struct file *f = pick_file(a[0], VTL);
	struct arg arg;
	long ret;

	if (!f || f->kind != VTL)
		return SKIPPED;
	arg = place(a[1], &regs, sizeof(regs), false);
	ret = emul_ioctl(f, MSHV_VTL_EMUL_GET_DEBUGREGS, &arg, sizeof(regs), OK | E(EFAULT));
	if (ret || !arg.ours)
		return ret;
	memcpy(&regs, arg.p, sizeof(regs));
	for (unsigned int i = 0; i < ARRAY_SIZE(regs.reserved); i++)
		if (regs.reserved[i])
			bad("GET_DEBUGREGS gives %" PRIx64 " in reserved",
			    (uint64_t)regs.reserved[i]);
	return 0;
}

static long op_mshv_mmap(const uint64_t *a)
{
	struct file *f = pick_file(a[0], VTL);
	struct map *m = &maps[a[1] % MAPS];
	uint64_t length = a[2] % 16 ? PAGE : (a[2] >> 8) % (4 * PAGE);
	uint64_t offset = a[3] % 16 ? some_cpu(a[3] >> 8) * PAGE : edge(a[3] >> 8);
	int prot = a[4] % 8 ? PROT_READ | PROT_WRITE : (a[4] >> 8) % 8;
	int flag = a[5] % 16 ? MAP_SHARED : MAP_PRIVATE;
	uint8_t *p;

	if (!f || f->kind != VTL)
		return SKIPPED;
	clear_map(m);
	p = mmap(m->region + REGION_FIRST * PAGE, length, prot, flag | MAP_FIXED, f->fd, offset);
	if (p == MAP_FAILED)
		return -errno;
	m->p = p;
	m->kind = VTL;
	m->desc = f->desc;
	m->fragile = (prot & 3) != 3;
	return 0;
}

/* A run page, and what to make it of. */
struct fill {
	struct mshv_vtl_run *run;
	const uint64_t *a;
};

/* As a VMM makes it, that with a byte wrong, or anything. */
static void fill_run_page(void *data)
{
	struct fill *fill = data;
	struct mshv_vtl_run *run = fill->run;
	bool fast = opt.no_idle && run != (void *)fake_run;
	const uint64_t *a = fill->a;
	uint64_t z = a[2];

	if (a[1] % 8 == 0) {
		for (unsigned int i = 0; i < PAGE / 8; i++) {
			z ^= z << 13;
			z ^= z >> 7;
			z ^= z << 17;
			if (i == offsetof(struct mshv_vtl_run, enter_mode) / 8 && fast)
				((volatile uint64_t *)run)[i] = z << 8 >> 8;
			else
				((volatile uint64_t *)run)[i] = z;
		}
		return;
	}
	run->cancel = a[1] % 8 == 1;
	run->flags = a[1] % 8 == 3;
	run->offload_flags = 0;
	run->l2_tsc_deadline.update = 0;
	run->enter_mode = a[2] % 4 || fast ? 0 : a[2] >> 8;
	run->exit_info.rax = a[3] % 2 ? 0x110000000001 : edge(a[3] >> 8);
	run->entry_rcx = a[4] % 4 ? (1 + a[4] / 4 % 3) << TDX_ENTRY_VM_SHIFT : a[4];
	memset(&run->l2_enter_guest_state, 0, sizeof(run->l2_enter_guest_state));
	run->l2_enter_guest_state.rip = a[5] % 8 ? L2_START : edge(a[5] >> 8);
	run->l2_enter_guest_state.rflags = a[5] & 0x100 ? a[5] >> 16 : 2;
	*(volatile uint32_t *)(run->fx_state + 24) = a[5] & 0x200 ? a[5] >> 32 : 0x1f80;
	if (a[1] % 8 == 2 &&
	    !(fast && (a[1] >> 8) % PAGE == offsetof(struct mshv_vtl_run, enter_mode)) &&
	    /* With offload an L2 that halts leaves only if somebody cancels its run. */
	    (a[1] >> 8) % PAGE != offsetof(struct mshv_vtl_run, offload_flags))
		((volatile uint8_t *)run)[(a[1] >> 8) % PAGE] = a[1] >> 24;
}

static long op_run_page(const uint64_t *a)
{
	struct map *m = pick_map(a[0], VTL);
	struct fill fill = { (void *)(m && a[0] & 0x700 ? m->p : fake_run), a };

	return guarded(fill_run_page, &fill) ? 0 : -EFAULT;
}

/*
 * Instructions that an L1 has to do with, in real mode; a ? is any byte. Not any bytes
 * at all: some crash QEMU's translator (10.0).
 */
static void write_instructions(uint8_t *code, unsigned int room)
{
	static const char *const instructions[] = {
		"0fa2", "f4", "0f01d9", "0f01c1", "0f32", "0f30", "e4?", "e6?", "ec", "ee",
		"6c", "6e", "f36c", "f36e", "cd?", "cc", "ce", "f1", "0f0b", "0f09", "0f08",
		"0f31", "0f33", "0f01f9", "f390", "0f01d1", "0f01c8", "0f01c9", "0f01dc",
		"0f01dd", "0f01d8", "0f01da", "0f01db", "0f01de", "0f01df", "0faa", "0f06",
		"fa", "fb", "9c", "9d", "cf", "0f20c0", "0f22c0", "0f20e0", "0f22e0", "0f22d8",
		"0f21f8", "0f21f0", "0f21c0", "0f23c0", "0f23c9", "0f23d2", "0f23db", "0f23f0",
		"0f0116??", "0f011e??", "0f0106??", "0f010e??", "0f01f0", "0f00d8", "0f0138",
		"66b8????", "b8??", "66b9????", "b9??", "ba??", "66bac0000000", "66b9800000c0",
		"a1??", "a3??", "c706????", "ff2e??", "ea????", "eb?", "e2?", "74?", "40",
	};
	unsigned int n = 0;

	while (n + 8 <= room) {
		const char *s = instructions[random64() % ARRAY_SIZE(instructions)];

		while (*s) {
			char pair[3] = { s[0], s[1] };
			bool any = *s == '?';

			code[n++] = any ? random64() : strtoul(pair, NULL, 16);
			s += any ? 1 : 2;
		}
	}
}

/* Instructions for the L2, in real mode. */
static long op_l2_code(const uint64_t *a)
{
	static const uint8_t spin[] = { 0xeb, 0xfe };
	static const uint8_t halt[] = { 0xf4, 0xeb, 0xfd };
	static const uint8_t calls[] = { 0x0f, 0xa2, 0x0f, 0x01, 0xd9, 0xe6, 0x80, 0xeb, 0xf7 };
	static const uint8_t dr[] = {
		0x66, 0xb8, 0, 0, 0, 0,			/* mov $, %eax */
		0x0f, 0x23, 0xc0, 0x0f, 0x23, 0xc9,	/* mov %eax, %db0; %ecx, %db1 */
		0x0f, 0x23, 0xd0, 0x0f, 0x23, 0xd8,	/* %eax, %db2, %db3 */
		0xeb, 0xfe,
	};
	uint64_t save = rng;
	uint8_t *code = l2_memory + L2_START;

	switch (a[0] % 8) {
	case 0:
		rng = a[1];
		write_instructions(code, 256);
		rng = save;
		break;
	case 1:
		memcpy(code, halt, sizeof(halt));
		break;
	case 2:
		memcpy(code, calls, sizeof(calls));
		break;
	case 3:
		memcpy(code, dr, sizeof(dr));
		memcpy(code + 2, &a[1], 4);
		break;
	default:
		memcpy(code, spin, sizeof(spin));
	}
	return 0;
}

static long op_return(const uint64_t *a)
{
	struct file *f = pick_file(a[0], VTL);
	long ret = 0;

	if (!f || f->kind != VTL)
		return SKIPPED;
	for (unsigned int i = 0; i <= a[1] % 3 && !ret; i++) {
		ret = ioctl(f->fd, MSHV_VTL_RETURN_TO_LOWER_VTL, edge(a[2])) ? -errno : 0;
		check_result(ret, OK | E(ENXIO) | E(EINTR));
	}
	return ret;
}

static const struct {
	const char *path, *usual;
} knobs[] = {
	{ "/sys/module/tdx_emul/parameters/exit_class", "0x1100" },
	{ "/sys/module/tdx_emul/parameters/refuse", "0" },
	{ "/sys/module/mshv_vtl_emul/parameters/reenter", "0" },
	{ "/sys/module/mshv_vtl_emul/parameters/after_exit", "0" },
};

static long write_knob(unsigned int which, const char *text)
{
	int fd = open(knobs[which].path, O_WRONLY | O_CLOEXEC);
	long ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/*
 * reenter is kept low: it is how many times the L2 is entered with preemption off,
 * and each may take a tick.
 */
static long op_knob(const uint64_t *a)
{
	static const char *const classes[] = {
		"0", "0x1100", "4354", "0x1101", "-1", "", "x", "99999999999999999999",
	};
	unsigned int which = a[0] % ARRAY_SIZE(knobs);
	char text[32];

	switch (which) {
	case 0:
		strcpy(text, classes[a[1] % ARRAY_SIZE(classes)]);
		break;
	case 1:
		sprintf(text, "%" PRIu64, a[1] % 4 ? a[1] % 16 : edge(a[1] >> 8));
		break;
	case 2:
		sprintf(text, "%" PRIu64, a[1] % 5);
		break;
	default:
		/*
		 * Nothing, sleep, or what there is not. With 2 and 3 L1 has a
		 * breakpoint: an L2 that has single-stepped has left BS in DR6,
		 * which L1 shares, and the kernel warns of it at its own #DB.
		 */
		sprintf(text, "%d", a[1] % 8 ? 0 : a[1] & 256 ? 1 : 4 + (int)(a[1] >> 9) % 1000);
	}
	knobs_changed = true;
	return write_knob(which, text);
}

/*
 * struct op - a call
 * @weight: how often, beside the others
 * @emul: of the stand-in
 * @races: may run in the other thread
 * @want: a long run must have had each of these; see wanted()
 */
static const struct op {
	const char *name;
	long (*run)(const uint64_t *a);
	unsigned int weight;
	bool emul;
	bool races;
	errset want;
} ops[] = {
	{ "open", op_open, 6, false, false, OK },
	{ "close", op_close, 3, false, false, OK },
	{ "dup", op_dup, 2, false, false, OK },
	{ "fork", op_fork, 1, false, false, OK },
	{ "pass", op_pass, 2, false, false, OK },
	{ "GET_INFO", op_get_info, 6, false, true, OK | E(EFAULT) | E(EINVAL) | E(E2BIG) },
	{ "BIND", op_bind, 20, false, true,
	  OK | E(EFAULT) | E(EINVAL) | E(E2BIG) | E(EOPNOTSUPP) | E(ENXIO) | E(EBUSY) |
	  E(ENODEV) | E(ENOMEM) | E(ENOSPC) },
	{ "GET_REGS", op_get_regs, 12, false, true,
	  OK | E(EFAULT) | E(EINVAL) | E(E2BIG) | E(ENOTCONN) | E(ENODATA) | E(ESTALE) },
	{ "GET_STATS", op_get_stats, 6, false, true,
	  OK | E(EFAULT) | E(EINVAL) | E(E2BIG) | E(ENOTCONN) },
	{ "breakpoint", op_breakpoint, 8, false, false, OK | E(ENOSPC) },
	{ "unknown ioctl", op_unknown_ioctl, 3, false, true, E(ENOTTY) },
	{ "mmap", op_mmap, 10, false, false, OK | E(ENOTCONN) | E(EINVAL) | E(EPERM) },
	{ "munmap", op_munmap, 2, false, false, OK },
	{ "mprotect", op_mprotect, 3, false, false, OK | E(EACCES) },
	{ "mremap", op_mremap, 3, false, false, OK },
	{ "madvise", op_madvise, 3, false, false, OK | E(EINVAL) },
	{ "read the mapping", op_read_map, 10, false, false, OK },
	{ "write the mapping", op_write_map, 3, false, false, E(EFAULT) },
	{ "file calls", op_file_calls, 2, false, false, OK | E(EINVAL) },
	{ "scribble", op_scribble, 2, false, true, OK },
	{ "migrate", op_migrate, 1, false, false, OK },
	{ "open mshv", op_mshv_open, 5, true, false, OK },
	{ "CHECK_EXTENSION", op_check_extension, 1, true, true,
	  OK | E(EOPNOTSUPP) | E(EFAULT) },
	{ "CREATE_VTL", op_create_vtl, 6, true, false, OK },
	{ "SET_MEMORY", op_set_memory, 6, true, true, OK | E(EFAULT) | E(EINVAL) | E(EBUSY) },
	{ "VP_REGISTERS", op_vp_registers, 5, true, true, OK | E(EFAULT) | E(EINVAL) },
	{ "TDCALL", op_tdcall, 5, true, true, OK | E(EFAULT) | E(EINVAL) },
	{ "GET_DEBUGREGS", op_debugregs, 2, true, true, OK | E(EFAULT) },
	{ "mmap the run page", op_mshv_mmap, 8, true, false, OK | E(EINVAL) },
	{ "write the run page", op_run_page, 10, true, false, OK },
	{ "write L2 code", op_l2_code, 4, true, false, OK },
	{ "RETURN_TO_LOWER_VTL", op_return, 12, true, true, OK | E(ENXIO) | E(EINTR) },
	{ "knob", op_knob, 1, true, false, OK | E(EINVAL) },
};

static const char *op_name(unsigned int op)
{
	return ops[op].name;
}

/*
 * Programs
 */

static void new_call(struct call *c)
{
	static unsigned int total;
	unsigned int i, w;

	if (!total)
		for (i = 0; i < ARRAY_SIZE(ops); i++)
			if (ops[i].emul ? opt.emul : opt.drcache)
				total += ops[i].weight;
	w = random64() % total;
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		if (!(ops[i].emul ? opt.emul : opt.drcache))
			continue;
		if (w < ops[i].weight)
			break;
		w -= ops[i].weight;
	}
	c->op = i;
	c->race = one_in(8);
	c->fail = one_in(8) ? 1 + random64() % 12 : 0;
	for (i = 0; i < ARRAY_SIZE(c->a); i++)
		c->a[i] = random64();
}

static unsigned int op_of(long (*run)(const uint64_t *a))
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++)
		if (ops[i].run == run)
			return i;
	return 0;
}

/* With what a VMM does at its start, most of the time. */
static void new_program(struct program *p)
{
	static long (*const emul[])(const uint64_t *) = {
		op_mshv_open, op_create_vtl, op_mshv_mmap, op_set_memory, op_l2_code,
		op_run_page,
	};
	static long (*const drcache[])(const uint64_t *) = { op_open, op_bind, op_mmap };
	static long (*const exits[])(const uint64_t *) = { op_return, op_get_regs, op_read_map };
	unsigned int i, extra = 2 + random64() % 10;

	p->n = 0;
	if (opt.emul && !one_in(4))
		for (i = 0; i < ARRAY_SIZE(emul); i++) {
			new_call(&p->c[p->n]);
			p->c[p->n++].op = op_of(emul[i]);
		}
	if (opt.drcache && !one_in(4))
		for (i = 0; i < ARRAY_SIZE(drcache); i++) {
			/* BIND may not have the CPU for itself then. */
			if (drcache[i] == op_bind && one_in(4)) {
				new_call(&p->c[p->n]);
				p->c[p->n++].op = op_of(op_breakpoint);
			}
			new_call(&p->c[p->n]);
			p->c[p->n++].op = op_of(drcache[i]);
			/* Two at once on one file. */
			if (drcache[i] == op_bind && one_in(8)) {
				p->c[p->n - 1].race = true;
				new_call(&p->c[p->n]);
				p->c[p->n].op = op_of(op_bind);
				p->c[p->n].a[0] = p->c[p->n - 1].a[0];
				p->n++;
			}
		}
	while (extra-- && p->n < PROGRAM_MAX - 3)
		new_call(&p->c[p->n++]);
	if (opt.emul && opt.drcache && one_in(2))
		for (i = 0; i < ARRAY_SIZE(exits); i++) {
			new_call(&p->c[p->n]);
			p->c[p->n++].op = op_of(exits[i]);
		}
}

static void mutate(struct program *p)
{
	unsigned int times = 1 + random64() % 4;

	while (times--) {
		unsigned int i = p->n ? random64() % p->n : 0;
		struct call *c = &p->c[i];

		switch (random64() % 8) {
		case 0:
			if (p->n < PROGRAM_MAX)
				new_call(&p->c[p->n++]);
			break;
		case 1:
			if (p->n < PROGRAM_MAX) {
				memmove(c + 1, c, (p->n - i) * sizeof(*c));
				p->n++;
				if (!one_in(4))
					new_call(c);
			}
			break;
		case 2:
			if (p->n > 1) {
				memmove(c, c + 1, (p->n - i - 1) * sizeof(*c));
				p->n--;
			}
			break;
		case 3:
			c->a[random64() % ARRAY_SIZE(c->a)] ^= 1ull << random64() % 64;
			break;
		case 4:
			c->race = !c->race;
			break;
		case 5:
			c->fail = one_in(2) ? 0 : 1 + random64() % 20;
			break;
		default:
			c->a[random64() % ARRAY_SIZE(c->a)] = random64();
		}
	}
}

/*
 * Running them
 */

static void run_call(struct call *c)
{
	long ret;

	/* The kernel warns of what fails in fork(). */
	failing = c->fail && fail_fd >= 0 && ops[c->op].run != op_fork;
	fail_nth = c->fail;
	if (failing)
		set_fail_nth(fail_nth);
	span = (struct span) { .from = tdx_drcache_tsc() };
	ret = ops[c->op].run(c->a);
	if (!span.to)
		span.to = tdx_drcache_tsc();
	if (failing)
		set_fail_nth(0);
	failing = false;
	c->ret = ret;
	if (ret == SKIPPED)
		return;
	shared->counts[c->op][ret >= 0 ? 0 : -ret]++;
	shared->ops[me]++;
}

static void make_arena(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	arena = calloc(1, sizeof(*arena));
	if (!arena || fd < 0 || ftruncate(fd, ARENA))
		die("arena");
	/* Below 4 GiB, for the 32-bit entry; the pages behind are not there. */
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

/* The other thread, and the call that it is to run. */
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
		/* Awake, so that it is soon in its call when the other is. */
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
		bool race = c->race && ops[c->op].races && i + 1 < p->n;

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
	/* A mapping is looked at once more when its file is closed. */
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
	nr_descs = 0;
	for (unsigned int i = 0; knobs_changed && i < ARRAY_SIZE(knobs); i++)
		write_knob(i, knobs[i].usual);
	knobs_changed = false;
}

/* Note a PC down; is it new to this process? */
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

/* Did the last program reach anything new? */
static bool new_coverage(void)
{
	uint64_t n = __atomic_load_n(&kcov[0], __ATOMIC_RELAXED);
	bool new = false;

	for (uint64_t i = 0; i < n; i++)
		new |= new_pc(kcov[i + 1]);
	__atomic_store_n(&kcov[0], 0, __ATOMIC_RELAXED);
	return new;
}

static void setup_process(void)
{
	struct sigaction sa = { .sa_sigaction = signalled, .sa_flags = SA_SIGINFO };
	pthread_t thread;
	cpu_set_t set;
	char path[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&set);
	CPU_SET(me % online_cpus, &set);
	sched_setaffinity(0, sizeof(set), &set);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	rng = opt.seed * 1000003 + me;
	for (unsigned int i = 0; i < ARENA; i++)
		filling[i] = 0x80 | (i * 29 + (i >> 7));

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
	if (have_faults) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", getpid());
		fail_fd = open(path, O_RDWR | O_CLOEXEC);
	}
	CPU_ZERO(&set);
	CPU_SET((me + 1) % online_cpus, &set);
	if (pthread_create(&thread, NULL, other_thread, NULL))
		die("thread");
	pthread_setaffinity_np(thread, sizeof(set), &set);
	if (!opt.no_kcov)
		start_kcov();
}

static time_t seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static unsigned long long sum(const atomic_ullong *counts)
{
	unsigned long long n = 0;

	for (unsigned int i = 0; i < opt.procs; i++)
		n += counts[i];
	return n;
}

/* Calls that overlap are a matter of luck: go on for them, but not for ever. */
static bool had_enough(void)
{
	unsigned long long share = opt.ops / opt.procs;

	return shared->ops[me] >= share &&
	       (sum(shared->overlaps) >= opt.min_overlaps || shared->ops[me] >= 50 * share);
}

#define CORPUS	512

static void process(void)
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

/* Results that a long run must have had of @op on this machine. */
static errset wanted(const struct op *op)
{
	errset want = op->want;

	if (op->emul ? !opt.emul : !opt.drcache)
		return 0;
	want &= ~(have_host ? E(ENODEV) : E(ENOSPC));
	if (!have_faults)
		want &= ~E(ENOMEM);
	if (!have_sockets && op->run == op_pass)
		return 0;
	/* A snapshot wants an exit. */
	if (op->run == op_get_regs && !opt.emul)
		want &= ~(OK | E(ESTALE));
	return want;
}

/* Print the results. Return how many of the wanted ones are missing. */
static unsigned int report(time_t start)
{
	unsigned long long overlaps = sum(shared->overlaps), pcs = 0;
	unsigned int missing = 0;
	time_t took = seconds() - start;

	for (unsigned int i = 0; i < PCS; i++)
		pcs += shared->pcs[i] != 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
		errset want = wanted(&ops[i]);

		if (!(ops[i].emul ? opt.emul : opt.drcache))
			continue;
		printf("%-20s", ops[i].name);
		for (unsigned int e = 0; e < ERRNOS; e++) {
			unsigned long long n = shared->counts[i][e];

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
		printf("at least %u pairs were to overlap\n", opt.min_overlaps);
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
	hook = info.hook;
	nr_cpus = info.nr_cpu_ids;
	have_host = info.host != TDX_DRCACHE_HOST_NONE;
	features = info.features;
	needs_run_page = hook != TDX_DRCACHE_HOOK_CALLOUT;
	online_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	have_faults = !access("/proc/self/fail-nth", W_OK);
	if (opt.emul && access("/dev/mshv", F_OK))
		die("/dev/mshv");
	/* Where the kernel has no 32-bit entry that is a SIGSEGV. */
	pid = fork();
	if (!pid) {
		struct arg arg = { .compat = true };

		do_ioctl(-1, 0, &arg);
		_exit(0);
	}
	have_compat = pid > 0 && waitpid(pid, &status, 0) == pid && !status;
	have_sockets = !socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pass_sockets);
}

/* Own a vCPU all the time, so that the hook stays. */
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
			argp_error(state, "'%s' is none of drcache, emul, all", arg);
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
	{ "seed", 's', "N", 0, "another seed, other programs (default 1)", 0 },
	{ "ops", 'n', "N", 0, "operations of all processes (default 10000)", 0 },
	{ "procs", 'p', "N", 0, "processes (default 2)", 0 },
	{ "target", 't', "NAME", 0, "drcache, emul or all (default)", 0 },
	{ "time-limit", 'l', "SEC", 0, "stop after so long", 0 },
	{ "complete", 'c', NULL, 0, "an errno that was never seen is a failure", 0 },
	{ "keep", 'k', "CPU", 0, "own this vCPU all the time: the hook stays in place", 0 },
	{ "min-overlaps", 'o', "N", 0,
	  "go on until so many pairs of calls overlapped, to 50 times the operations", 0 },
	{ "no-idle", 'I', NULL, 0, "enter the L2 in the fast mode only", 0 },
	{ "no-kcov", 'K', NULL, 0, "not guided by coverage", 0 },
	{ 0 },
};

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_opt,
		.doc = "Fuzz /dev/tdx_drcache and the stand-in's /dev/mshv.\vExit status: 0 if "
		       "nothing was wrong, 1 if anything was, 2 for a wrong command line.",
	};
	unsigned long long last = 0, done;
	time_t start, moved, told;
	unsigned int left, missing;
	int status;

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
	moved = start;
	told = start;
	fflush(stdout);
	for (unsigned int i = 0; i < opt.procs; i++) {
		me = i;
		if (!fork())
			process();
	}
	for (left = opt.procs; left;) {
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
	missing = report(start);
	if (missing)
		printf("%u results that the UAPI header lists were not seen%s\n", missing,
		       opt.complete ? "" : " (a longer run might)");
	return shared->failures || (missing && opt.complete) ? EXIT_FAILURE : EXIT_SUCCESS;
}
