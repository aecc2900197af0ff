// SPDX-License-Identifier: GPL-2.0
/*
 * torn [--ioctl] CPU: observe a vCPU whose exits drcache_stress.ko makes, by mmap
 * or by GET_REGS, until SIGTERM; then say what was seen. Exits with 1 if a
 * snapshot was torn or older than one before it, or if there was none.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <tdx_drcache_read.h>
#include "../../kunit/stress.h"

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

/* 0, or the negative errno of GET_REGS. */
static int read_by_ioctl(const struct tdx_drcache_reader *r, struct tdx_drcache_slot *s)
{
	struct tdx_drcache_regs regs = { .size = sizeof(regs) };

	if (ioctl(r->fd, TDX_DRCACHE_GET_REGS, &regs))
		return -errno;
	s->exit_rax = regs.exit_rax;
	memcpy(s->db, regs.db, sizeof(s->db));
	s->dr6 = regs.dr6;
	s->tsc = regs.tsc;
	return 0;
}

static int read_by_mmap(const struct tdx_drcache_reader *r, struct tdx_drcache_slot *s)
{
	switch (tdx_drcache_observe(r, 0, s)) {
	case TDX_DRCACHE_HIT:
		return 0;
	case TDX_DRCACHE_MISS_BUSY:
		return -EAGAIN;
	default:
		return -ENODATA;
	}
}

/* Do all members tell of one exit? */
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

int main(int argc, char **argv)
{
	bool by_ioctl = argc == 3 && !strcmp(argv[1], "--ioctl");
	unsigned long hits = 0, busy = 0, none = 0, torn = 0, older = 0, changes = 0;
	struct tdx_drcache_slot s = { 0 };
	struct tdx_drcache_reader r;
	uint64_t last_tsc = 0;
	int err;

	if (argc != 2 + by_ioctl) {
		fputs("usage: torn [--ioctl] CPU\n", stderr);
		return 2;
	}
	signal(SIGTERM, on_term);
	err = tdx_drcache_open(&r, atoi(argv[argc - 1]), 0, NULL, TDX_DRCACHE_BIND_OBSERVE);
	if (err) {
		fprintf(stderr, "torn: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	while (!stop) {
		switch (by_ioctl ? read_by_ioctl(&r, &s) : read_by_mmap(&r, &s)) {
		case 0:
			hits++;
			torn += !is_whole(&s);
			older += s.tsc < last_tsc;
			changes += s.tsc != last_tsc;
			last_tsc = s.tsc;
			break;
		case -EAGAIN:
			busy++;
			break;
		case -ENODATA:
			none++;
			break;
		default:
			perror("torn");
			return EXIT_FAILURE;
		}
	}
	printf("by %s: %lu reads of %lu snapshots: %lu torn, %lu older than the one before; ",
	       by_ioctl ? "ioctl" : "mmap", hits, changes, torn, older);
	printf("missed: %lu being written, %lu not valid\n", busy, none);
	return torn || older || !hits ? EXIT_FAILURE : EXIT_SUCCESS;
}
