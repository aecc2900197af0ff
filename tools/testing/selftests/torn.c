// SPDX-License-Identifier: GPL-2.0
/*
 * torn [--ioctl] [--met N] CPU: observe a vCPU whose exits drcache_mock_host.ko makes, by
 * mmap or by GET_REGS, until reads have met N publishes (default: until SIGTERM), then
 * print the counts. Stops at once if a snapshot is torn or older than the one before.
 * Exits with 1 then, and if there was no snapshot or too few publishes were met.
 *
 * A read meets a publish if it finds seq odd or changed. By mmap, the library's loads
 * show it. GET_REGS shows it only if the module is built for that (build_for slow), by
 * its number of retries in bits 31:16 of flags, or by EAGAIN. With any module the
 * mapping shows that a publish overlapped the ioctl, which takes longer than its read.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Loads of the slot in this read, and tries that loaded all of it. */
static unsigned int loads, tries;

#define __atomic_load_n(p, order) (loads++, __atomic_load_n(p, order))
#define __atomic_thread_fence(order) (tries++, __atomic_thread_fence(order))
#include <tdx_drcache_read.h>
#undef __atomic_load_n
#undef __atomic_thread_fence

#include <mock_host/stress.h>

/* Loads in a read that meets no publish: each member once, and seq again. */
#define LOADS		10
#define RETRIES_SHIFT	16

struct counts {
	unsigned long reads, hits, snapshots, torn, older;
	unsigned long met, publishes;
	unsigned long changed;		/* by mmap: publish began after the read */
	unsigned long overlapped;	/* by ioctl: publish during the ioctl */
};

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static uint32_t seq_now(const struct tdx_drcache_reader *r)
{
	return __atomic_load_n(&r->slot->seq, __ATOMIC_ACQUIRE);
}

/* Returns 0 or the negative errno of GET_REGS; @met is set if it met a publish. */
static int read_by_ioctl(const struct tdx_drcache_reader *r, struct tdx_drcache_slot *s,
			 struct counts *c, bool *met)
{
	struct tdx_drcache_regs regs = { .size = sizeof(regs) };
	uint32_t before = seq_now(r);
	int err = 0;

	if (ioctl(r->fd, TDX_DRCACHE_GET_REGS, &regs))
		err = -errno;
	s->seq = seq_now(r);
	c->overlapped += (before & 1) || s->seq != before;
	*met = err == -EAGAIN || (!err && regs.flags >> RETRIES_SHIFT);
	s->exit_rax = regs.exit_rax;
	memcpy(s->db, regs.db, sizeof(s->db));
	s->dr6 = regs.dr6;
	s->tsc = regs.tsc;
	return err;
}

static int read_by_mmap(const struct tdx_drcache_reader *r, struct tdx_drcache_slot *s,
			struct counts *c, bool *met)
{
	enum tdx_drcache_result res;

	loads = 0;
	tries = 0;
	res = tdx_drcache_observe(r, 0, s);
	*met = loads != LOADS;
	c->changed += tries > (res == TDX_DRCACHE_MISS_BUSY ? 0 : 1);
	switch (res) {
	case TDX_DRCACHE_HIT:
		return 0;
	case TDX_DRCACHE_MISS_BUSY:
		return -EAGAIN;
	default:
		return -ENODATA;
	}
}

/* True if all members belong to the same exit. */
static bool is_whole(const struct tdx_drcache_slot *s)
{
	uint64_t rest = s->db[0] - stress_db(0, 0), n = rest >> 8 | rest << 56;
	int i;

	for (i = 0; i < 4; i++) {
		if (s->db[i] != stress_db(n, i))
			return false;
	}
	return s->dr6 == stress_dr6(n) && s->exit_rax == stress_rax(n);
}

/*
 * True if this read meets another publish than the last. Reads that meet the same one
 * count once: while the writer does not run, the reader meets it again and again.
 */
static bool is_another(uint32_t seq)
{
	static uint32_t last = 1;
	uint32_t end = (seq + 1) & ~1u;
	bool another = end != last;

	last = end;
	return another;
}

/*
 * Sleep if the writer does not seem to run: the host may have one core for both CPUs.
 * A read that gives up has taken long.
 */
static void rest(bool news, bool gave_up)
{
	static unsigned int idle;

	idle = news ? 0 : idle + (gave_up ? 16 : 1);
	if (idle >= 64) {
		usleep(1);
		idle = 0;
	}
}

int main(int argc, char **argv)
{
	bool by_ioctl = argc > 1 && !strcmp(argv[1], "--ioctl");
	const char *name = by_ioctl ? "ioctl" : "mmap";
	unsigned long want = 0, tenths = 0;
	struct tdx_drcache_slot s = { 0 };
	struct tdx_drcache_reader r;
	struct counts c = { 0 };
	uint64_t last_tsc = 0;
	int err;

	argv += 1 + by_ioctl;
	argc -= 1 + by_ioctl;
	if (argc == 3 && !strcmp(argv[0], "--met")) {
		want = strtoul(argv[1], NULL, 0);
		argv += 2;
		argc -= 2;
	}
	if (argc != 1) {
		fputs("usage: torn [--ioctl] [--met N] CPU\n", stderr);
		return 2;
	}
	signal(SIGTERM, on_term);
	err = tdx_drcache_open(&r, atoi(argv[0]), 0, NULL, TDX_DRCACHE_BIND_OBSERVE);
	if (err) {
		fprintf(stderr, "torn: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	while (!stop && !c.torn && !c.older && (!want || c.publishes < want)) {
		bool met, news = false;

		err = by_ioctl ? read_by_ioctl(&r, &s, &c, &met) : read_by_mmap(&r, &s, &c, &met);
		c.reads++;
		if (!err) {
			c.hits++;
			c.torn += !is_whole(&s);
			c.older += s.tsc < last_tsc;
			news = s.tsc != last_tsc;
			c.snapshots += news;
			last_tsc = s.tsc;
		} else if (err != -EAGAIN && err != -ENODATA) {
			fprintf(stderr, "torn: %s\n", strerror(-err));
			return EXIT_FAILURE;
		}
		c.met += met;
		if (met && is_another(s.seq)) {
			c.publishes++;
			news = true;
		}
		if (want)
			rest(news, err == -EAGAIN);
		if (want && c.publishes * 10 / want > tenths)
			fprintf(stderr, "by %s: %lu0 %% of the publishes\n", name, ++tenths);
	}
	printf("%lu reads, %lu hits of %lu snapshots, %lu torn, %lu older; ", c.reads, c.hits,
	       c.snapshots, c.torn, c.older);
	printf("%lu publishes met by %lu reads; ", c.publishes, c.met);
	if (by_ioctl)
		printf("%lu ioctls overlapped one\n", c.overlapped);
	else
		printf("%lu changed under a read\n", c.changed);
	return c.torn || c.older || !c.hits || c.publishes < want ? EXIT_FAILURE : EXIT_SUCCESS;
}
