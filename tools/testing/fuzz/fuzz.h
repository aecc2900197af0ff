/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations that the files of the fuzzer share. Each calls only those above it here:
 *
 *   base.c          random numbers, messages, injected faults
 *   objects.c       a process's files, mappings and breakpoints
 *   oracles.c       check results, memory, snapshots and mapped pages
 *   arg.c           make ioctls, with structs in all kinds of memory
 *   ops_file.c      operations on files and processes
 *   ops_map.c       operations on mappings
 *   ops_drcache.c   ioctls of tdx_drcache, and L1's breakpoints
 *   ops_mshv.c      operations on the stand-in for the host driver
 *   program.c       the table of operations; make programs of them
 *   engine.c        a process: run programs, keep those that reach new code
 *   fuzz.c          command line, start, report
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE		4096ul
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

/* A set of errnos; 0 is success. */
typedef unsigned __int128 errset;
#define E(e)		((errset)1 << (e))
#define OK		E(0)
#define ERRNOS		128

/* An operation's result if the process has no object for it. */
#define SKIPPED		(-ERRNOS)

/* Operations take random numbers, and return 0 or more, or a negative errno. */
typedef long op_fn(const uint64_t *a);

/**
 * struct op - an operation
 * @name: in messages
 * @run: makes its arguments from the random numbers, does it, and checks the result
 * @weight: frequency, relative to the others
 * @emul: uses the stand-in, not tdx_drcache
 * @races: may run in the other thread
 * @want: a long run must have seen each of these; see wanted()
 */
struct op {
	const char *name;
	op_fn *run;
	unsigned int weight;
	bool emul;
	bool races;
	errset want;
};

/* An operation in a program. */
struct call {
	const struct op *op;
	uint8_t fail;		/* inject this fault, counted from 1; 0: none */
	bool race;		/* run beside the next one */
	uint64_t a[6];
	long ret;		/* for print_program() */
};

#define PROGRAM_MAX	24
struct program {
	unsigned int n;
	struct call c[PROGRAM_MAX];
};

enum kind { NOTHING, DRCACHE, MSHV, VTL };

/* The expected state of an open file description. */
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

/* A mapping, alone in a region. */
#define REGION_PAGES	16ul
struct map {
	uint8_t *region;
	uint8_t *p;		/* NULL: none */
	enum kind kind;
	struct desc *desc;
	bool fragile;		/* may be gone or unreadable */
	bool inherited;		/* MADV_DOFORK was set */
};

/* A breakpoint of L1. It is never enabled: it has a slot, but no register. */
struct breakpoint {
	bool open;
	int fd;
	int cpu;		/* -1: any, for this task */
};

#define BREAKPOINTS	3
#define FILES		8
#define MAPS		4

/*
 * Memory for an ioctl's struct: the same pages writable and read-only, each mapping
 * followed by an unmapped page; and their contents before the call.
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
	uint8_t scribbled[PAGE];	/* an ioctl's struct that other processes write to */
};

extern struct shared *shared;

struct options {
	uint64_t seed, ops;
	unsigned int procs, time_limit;
	bool drcache, emul, complete, no_kcov, no_idle;
	int keep;
	unsigned int min_overlaps;
};

extern struct options opt;

/* Properties of this machine. */
struct machine {
	uint64_t features;
	uint32_t hook;
	unsigned int nr_cpu_ids, online_cpus;
	bool has_host, has_faults, has_compat, has_sockets, needs_run_page;
	int sockets[2];
};

extern struct machine machine;

/* This process: its number, and the call that its program is at. */
extern unsigned int me;
extern unsigned int running;

extern struct file files[FILES];
extern struct map maps[MAPS];
extern struct breakpoint breakpoints[BREAKPOINTS];
extern uint8_t *fake_run, *l2_memory;
extern int mem_fd;
/* Another thread runs a call, so the expected state may be wrong at any time. */
extern atomic_bool racing;

/* This thread's. */
extern __thread struct arena *arena;
extern __thread bool failing;

/* From entry to return of a call's last ioctl, or of the whole call if it has none. */
struct span {
	uint64_t from, to;
};

extern __thread struct span span;

/* base.c */
extern uint64_t rng;
uint64_t next_random(uint64_t *state);
uint64_t random64(void);
bool one_in(unsigned int n);
uint64_t edge(uint64_t v);
unsigned int some_cpu(uint64_t v);
void print_program(const struct program *p);
_Noreturn void __attribute__((format(printf, 1, 2))) die(const char *fmt, ...);
void __attribute__((format(printf, 1, 2))) bad(const char *fmt, ...);
void open_faults(void);
void start_faults(unsigned int nth);
void pause_faults(void);
void resume_faults(void);
void stop_faults(void);

/* objects.c */
void make_objects(void);
void make_arena(void);
void forget_descs(void);
struct desc *new_desc(bool foreign, int flags);
void close_file(struct file *f);
void put_file(uint64_t where, int fd, enum kind kind, struct desc *desc);
struct file *pick_file(uint64_t a, enum kind kind);
void clear_map(struct map *m);
long put_map(struct map *m, const struct file *f, uint64_t length, int prot, int flags,
	     uint64_t offset);
struct map *pick_map(uint64_t a, enum kind kind);
bool guarded(void (*fn)(void *), void *data);
bool has_breakpoint(unsigned int cpu);
void close_breakpoint(struct breakpoint *b);

/* oracles.c */
struct tdx_drcache_slot;
void check_snapshot(const struct tdx_drcache_slot *s, uint64_t now);
void check_map(struct map *m);
void check_result(long ret, errset may);

/**
 * struct arg - an ioctl's struct
 * @p: its address
 * @size: the size that it states
 * @readable: bytes that can be read from @p
 * @writable: bytes that can be written
 * @ours: in the arena, so nobody else writes it
 * @compat: use the 32-bit entry
 */
struct arg {
	uint8_t *p;
	uint32_t size;
	unsigned long readable, writable;
	bool ours;
	bool compat;
};

void check_memory(const struct arg *arg, unsigned long out);

/* arg.c */
void fill_arena(void);
struct arg place(uint64_t a, const void *buf, uint32_t known, bool sized);
long do_ioctl(int fd, unsigned int cmd, const struct arg *arg);
long sized_ioctl(struct file *f, unsigned int cmd, uint64_t a, const void *buf,
		 uint32_t known, bool out, errset may, errset must, struct arg *where);
long emul_ioctl(struct file *f, unsigned int cmd, const struct arg *arg, unsigned long out,
		errset may);

/* ops_file.c, ops_map.c, ops_drcache.c, ops_mshv.c */
op_fn op_open, op_close, op_dup, op_fork, op_pass, op_file_calls, op_scribble, op_migrate;
op_fn op_mmap, op_munmap, op_mprotect, op_mremap, op_madvise, op_read_map, op_write_map;
op_fn op_get_info, op_bind, op_get_regs, op_get_stats, op_breakpoint, op_unknown_ioctl;
op_fn op_mshv_open, op_check_extension, op_create_vtl, op_set_memory, op_vp_registers;
op_fn op_tdcall, op_debugregs, op_mshv_mmap, op_run_page, op_l2_code, op_return, op_knob;
void restore_knobs(void);

/* program.c */
extern const struct op ops[];
bool is_target(const struct op *op);
errset wanted(const struct op *op);
void new_program(struct program *p);
void mutate(struct program *p);

/* engine.c */
unsigned long long sum(const atomic_ullong *counts);
_Noreturn void run_process(void);

#endif /* FUZZ_H */
